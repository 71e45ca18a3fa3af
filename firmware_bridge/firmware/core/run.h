/* What the files that carry out a plan share. */
#ifndef SNN_RUN_H
#define SNN_RUN_H

#include "plan.h"

/* One call of snn_run. */
typedef struct {
    const snn_plan *plan;
    const snn_tile *tile;
    const snn_job *job;
    uint32_t rows, columns; /* of the padded tile, pixels */
    uint32_t units;         /* at once: blocks of stride x stride pixels in it; by rows: of `stride` columns */
    int by_rows;
    uint8_t *arena;         /* stored values */
    uint8_t *scratch;       /* of the operation at work, aligned to 8 */
} snn_run_state;

/* Hands out parts of a block of memory, or only adds them up where base is NULL; each aligned to 8. */
typedef struct {
    uint8_t *base;
    uint64_t used;
} snn_parts;

static inline void *snn_take(snn_parts *parts, uint64_t count, uint32_t item) {
    void *part = parts->base ? parts->base + (size_t)parts->used : NULL;
    parts->used += (count * item + 7u) & ~(uint64_t)7u;
    return part;
}

/* Start of row y of a stored value: [step][column][channel], or [step][column][word] for spikes. By rows, the place of
 * a row is that of an earlier one. */
static inline uint8_t *snn_row(const snn_run_state *run, const snn_value *value, uint32_t y) {
    const size_t bytes = (size_t)(run->columns / value->scale) * value->steps * snn_position_bytes(value);
    if (run->by_rows) return run->arena + (size_t)run->units * value->row_offset + y % value->rows * bytes;
    return run->arena + (size_t)run->units * value->offset + y * bytes;
}

/* Position (step t, column x) within a row; t counts as 0 where the value is static. */
static inline uint8_t *snn_position(const snn_run_state *run, const snn_value *value, uint8_t *row, uint32_t t,
                                    uint32_t x) {
    const uint32_t columns = run->columns / value->scale;
    return row + ((size_t)(t < value->steps ? t : 0) * columns + x) * snn_position_bytes(value);
}

/* Sums are taken modulo 2^32: the host proved that none leaves int32, and a hostile plan does no harm. */
static inline int32_t snn_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
static inline int32_t snn_times(int32_t a, int32_t b) { return (int32_t)((uint32_t)a * (uint32_t)b); }
static inline int32_t snn_scaled(int32_t a, uint32_t shift) { return (int32_t)((uint32_t)a << shift); }

static inline int32_t snn_clip(int32_t x, int32_t lo, int32_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* The one rounding: floor((x + half) / 2^shift), clipped. */
static inline int32_t snn_requantise(int32_t x, uint32_t shift, int32_t lo, int32_t hi) {
    return snn_clip(snn_add(x, (int32_t)((1u << shift) >> 1)) >> shift, lo, hi);
}

static inline uint32_t snn_ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

static inline int snn_stopped(const snn_run_state *run) {
    return run->job->poll && run->job->poll(run->job->context) != 0;
}

/* sum[offset + c] += value << shift, for every channel that the term gives at (t, y, x). */
void snn_add_term(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x, int32_t *sum);
void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x, const int32_t *from);

/* Each carries out rows [first, end) of one operation; scratch must hold what the function beside it asks for. */
snn_status snn_pixels(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end);
snn_status snn_attend(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end);
uint64_t snn_pixels_scratch(const snn_plan *plan, const snn_operation *op, uint32_t columns);
uint64_t snn_attend_scratch(const snn_plan *plan, const snn_operation *op, uint32_t columns);

/* How often a spike at `place` (of the whole image, along one axis of `length` pixels, at `scale`) arrives. */
uint32_t snn_arrivals(const snn_projection *projection, uint32_t scale, uint32_t place, uint32_t length);
/* MACs of the whole image. */
uint64_t snn_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width);
/* simulator/trace.py's hash of each step. */
void snn_trace(const snn_run_state *run, const snn_value *value, uint64_t *hashes);
/* Copies what the probe asks for, if the value has it and `room` numbers hold it. */
void snn_look(const snn_run_state *run, const snn_value *value, snn_probe *probe, size_t room);

#endif
