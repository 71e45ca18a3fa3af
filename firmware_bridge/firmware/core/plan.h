/* The records of a plan, as they lie in it; firmware_bridge/PLAN.md says what every field means, and
 * firmware_bridge/plan/records.py has the same in Python, which a test compares. */
#ifndef SNN_PLAN_H
#define SNN_PLAN_H

#include "snn.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "plans are little-endian and read in place"
#endif
_Static_assert((-3 >> 1) == -2, "right shifts of negative numbers must floor");

#define SNN_MAGIC 0x504E4E53u /* "SNNP" */
#define SNN_VERSION_NUMBER 3u
#define SNN_SEMANTICS 1u
#define SNN_NONE 0xFFFFFFFFu

enum { SNN_MAX_STEPS = 64, SNN_MOST_DIGITS = 7, SNN_MAX_CHANNELS = 4096, SNN_MAX_SCALE = 256, SNN_MAX_ALIGN = 4096, SNN_MAX_LAYERS = 1024, SNN_MAX_DILATION = 16 };
enum { SNN_BITS = 1, SNN_INT16 = 2, SNN_INT24 = 3, SNN_INT32 = 4, SNN_COUNTS = 5 }; /* storage */
enum { SNN_IMAGE = 1, SNN_PIXELS, SNN_SPIKES, SNN_ATTEND };                    /* kinds of operations */
enum { SNN_NEAREST = 0, SNN_DEPTH_TO_SPACE, SNN_SPACE_TO_DEPTH };              /* modes of terms */
enum { SNN_NO_HEAD = 0, SNN_CONV, SNN_DENSE_CONV, SNN_PICTURE_CONV };          /* heads */
enum { SNN_LIF = 1, SNN_WINDOW };                                             /* neurons */
enum { SNN_OVER_TIME = 0, SNN_OVER_CHANNEL, SNN_OVER_SPACE };                  /* attention */

typedef struct snn_header {
    uint32_t magic, version, semantics, bytes;
    uint8_t hash[32], bundle_hash[32];
    uint32_t time_steps, stride, align, halo;
    uint32_t layers, values, operations, terms, projections, unit, row_unit;
    uint32_t zero;
} snn_header;

typedef struct snn_value {
    uint32_t layer, channels, scale, steps, storage, offset, rows, row_offset;
} snn_value;

typedef struct snn_term {
    uint32_t value, mode, factor, offset, shift;
} snn_term;

typedef struct snn_projection {
    uint32_t target, target_scale, factor, kernel, stride, padding, dilation, channels;
} snn_projection;

typedef struct snn_operation {
    uint32_t kind, layer, input, output, spikes, first_term, terms, channels, lead, used;
    union {
        struct {
            uint32_t factor;
        } image;
        struct {
            uint32_t head, head_layer, factor, kernel, stride, padding, dilation, groups, head_shift, narrow, weight, bias;
            uint32_t steps, time_sum, rounds, shift;
            int32_t lo, hi;
            uint32_t restores, restore_shift;
            uint32_t neurons, neuron_layer, decay, subtract, fine, threshold, lif_bias, leak, level;
            uint32_t first_projection, projections;
        } pixels;
        struct {
            uint32_t over, window, hidden, pool_shift, hidden_shift, gate_offset, gate_shift, gate_q;
            uint32_t squeeze, squeeze_bias, excite, excite_bias;
        } attend;
        uint32_t words[31];
    } as;
} snn_operation;

_Static_assert(sizeof(snn_header) == 128 && sizeof(snn_value) == 32 && sizeof(snn_term) == 20, "records are packed");
_Static_assert(sizeof(snn_projection) == 32 && sizeof(snn_operation) == 164, "records are packed");

/* Whether a value is spikes, in planes of bits: of the steps, or the binary digits of how many a window has. */
static inline int snn_is_spikes(const snn_value *value) {
    return value->storage == SNN_BITS || value->storage == SNN_COUNTS;
}

/* Binary digits of a count of 0 to `time_steps`, a power of two. */
static inline uint32_t snn_digits(uint32_t time_steps) {
    uint32_t digits = 1;
    while (time_steps >> digits) digits++;
    return digits;
}

/* Positions from the first tap of a kernel's row to the last. */
static inline uint32_t snn_extent(uint32_t kernel, uint32_t dilation) { return (kernel - 1u) * dilation + 1u; }

/* 32-bit words that hold the spikes of one position in one plane. */
static inline uint32_t snn_bit_words(uint32_t channels) { return (channels + 31u) / 32u; }

/* Bytes of one position at one step, or in one plane. */
static inline uint32_t snn_position_bytes(const snn_value *value) {
    return snn_is_spikes(value) ? 4u * snn_bit_words(value->channels) : value->storage * value->channels;
}

/* Weights that one spike adds: output channels of its group, in whole words where there is one group only. */
static inline uint32_t snn_run_length(uint32_t channels, uint32_t groups) {
    return groups == 1 ? (channels + 1u) & ~1u : channels / groups;
}

#endif
