#include "heads.h"

#include <string.h>

#include "check.h"
#include "count.h"
#include "number.h"

/* Small functions with their own registers: inlined into one, they would keep everything on the stack. */
#define NOINLINE __attribute__((noinline))

enum { EVENTS = 288 }; /* of one position that are collected before they are added; all of 32 channels, 3x3 */

snn_status snn_check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale) {
    if (op->as.pixels.head != SNN_CONV && op->as.pixels.head != SNN_DENSE_CONV) return SNN_OPERATION;
    const snn_value *in = snn_value_at(plan, op->input);
    if (!in || snn_is_spikes(in) != (op->as.pixels.head == SNN_CONV)) return SNN_OPERATION;
    if (in->steps != 1 && in->steps != op->as.pixels.steps && in->storage != SNN_COUNTS) return SNN_OPERATION;
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    if (!snn_within(kernel, 1, 7) || !snn_within(stride, 1, 4) || padding > 3) return SNN_OPERATION;
    if (kernel <= 2 * padding || kernel - 2 * padding > stride || in->scale * stride != scale) return SNN_OPERATION;
    const uint32_t groups = op->as.pixels.groups;
    if (!groups || in->channels % groups || op->channels % groups) return SNN_OPERATION;
    if (op->as.pixels.head_layer >= plan->header->layers) return SNN_OPERATION;
    if (op->as.pixels.wide > 1 || (op->as.pixels.head == SNN_DENSE_CONV && !op->as.pixels.wide)) return SNN_OPERATION;
    const uint64_t runs = (uint64_t)kernel * kernel * in->channels;
    if (!snn_has(plan, op->as.pixels.weight, runs * snn_run_length(op->channels, groups), 2)) return SNN_CONSTANT;
    if (op->as.pixels.bias != SNN_NONE && !snn_has(plan, op->as.pixels.bias, op->channels, 4)) return SNN_CONSTANT;
    return SNN_OK;
}

void snn_take_head(const snn_operation *op, snn_parts *parts, snn_head_scratch *s) {
    s->even = (op->channels + 1u) & ~1u;
    s->current = snn_take(parts, op->as.pixels.head == SNN_CONV ? s->even : 0, 2);
    s->events = snn_take(parts, op->as.pixels.head == SNN_CONV ? EVENTS + 32 : 0, 4);
    s->numbers = snn_take(parts, op->as.pixels.head == SNN_DENSE_CONV ? EVENTS : 0, sizeof *s->numbers);
}

snn_status snn_start_head(const snn_run_state *run, const snn_operation *op, snn_patch *w) {
    const uint8_t *constants = run->plan->constants;
    if (op->as.pixels.head != SNN_CONV && op->as.pixels.head != SNN_DENSE_CONV) return SNN_OPERATION;
    w->in = &run->plan->values[op->input];
    w->weight = (const int16_t *)(const void *)(constants + op->as.pixels.weight);
    w->bias = op->as.pixels.bias == SNN_NONE ? NULL : (const int32_t *)(const void *)(constants + op->as.pixels.bias);
    w->run = snn_run_length(op->channels, op->as.pixels.groups);
    return SNN_OK;
}

void snn_move_to_row(const snn_run_state *run, const snn_operation *op, snn_patch *w, uint32_t y) {
    const uint32_t height = run->rows / w->in->scale;
    for (uint32_t dy = 0; dy < op->as.pixels.kernel; dy++) {
        const uint32_t row = y * op->as.pixels.stride + dy - op->as.pixels.padding; /* wraps above the image */
        w->rows[dy] = row < height ? snn_row(run, w->in, row) : NULL;
    }
}

void snn_move_to_column(const snn_run_state *run, const snn_operation *op, snn_patch *w, uint32_t x) {
    const uint32_t width = run->columns / w->in->scale, kernel = op->as.pixels.kernel;
    w->left = x * op->as.pixels.stride - op->as.pixels.padding;
    w->first_dx = 0;
    while (w->first_dx < kernel && w->left + w->first_dx >= width) w->first_dx++; /* at most `padding` of them */
    w->end_dx = w->first_dx;
    while (w->end_dx < kernel && w->left + w->end_dx < width) w->end_dx++;
}

/* Bias, or zeros, in either width. */
static void start_sum(const snn_operation *op, const snn_head_scratch *s, int32_t *sum, const int32_t *bias) {
    if (op->as.pixels.wide) {
        memset(sum, 0, s->even * sizeof *sum);
        if (bias) memcpy(sum, bias, op->channels * sizeof *sum);
    } else {
        memset(s->current, 0, s->even * sizeof *s->current);
        if (bias)
            for (uint32_t c = 0; c < op->channels; c++) s->current[c] = (int16_t)bias[c];
    }
}

/* Channels of one group, as bits of the words [first, last] of a position. */
typedef struct {
    uint32_t first, last, first_mask, last_mask;
} channel_bits;

static channel_bits bits_of_group(uint32_t inputs, uint32_t group) {
    const uint32_t from = group * inputs, last = from + inputs - 1;
    return (channel_bits){from / 32, last / 32, UINT32_MAX << from % 32, UINT32_MAX >> (31 - last % 32)};
}

static inline uint32_t word_of_group(const channel_bits *bits, const uint32_t *words, uint32_t i) {
    uint32_t word = words[i];
    if (i == bits->first) word &= bits->first_mask;
    if (i == bits->last) word &= bits->last_mask;
    return word;
}

/* Whether the runs of weights are long enough, and in whole words, to be worth a list for each group. */
static int listed(const snn_patch *w, const snn_operation *op) {
    return op->as.pixels.groups == 1 || (w->run % 2 == 0 && w->run >= 8);
}

/* Adds the weights of the list to a group's currents. */
static void add_list(const snn_operation *op, const snn_patch *w, const snn_head_scratch *s, int32_t *sum,
                     uint32_t group, const uint32_t *end) {
    const uint32_t count = (uint32_t)(end - s->events);
    if (op->as.pixels.wide)
        snn_accumulate32(sum + group * w->run, w->weight, s->events, count, w->run);
    else
        snn_accumulate16(s->current + group * w->run, w->weight, s->events, count, w->run);
}

/* Lists where the weights of the spikes of a group start, at `positions` side by side, the first one's from `at`. */
static NOINLINE uint32_t *list_row(const snn_operation *op, const snn_patch *w, const snn_head_scratch *s,
                                   int32_t *sum, uint32_t group, const uint32_t *words, uint32_t positions,
                                   uint32_t at, uint32_t *list) {
    const channel_bits bits = bits_of_group(w->in->channels / op->as.pixels.groups, group);
    const uint32_t run = w->run, pitch = snn_bit_words(w->in->channels), next = w->in->channels * run;
    const uint32_t *const full = s->events + EVENTS;
    for (; positions > 0; positions--, words += pitch, at += next)
        for (uint32_t i = bits.first; i <= bits.last; i++) {
            const uint32_t from = at + 32 * i * run;
            for (uint32_t word = word_of_group(&bits, words, i); word; word &= word - 1)
                *list++ = from + (uint32_t)__builtin_ctz(word) * run;
            if (list > full) {
                add_list(op, w, s, sum, group, list);
                list = s->events;
            }
        }
    return list;
}

/* Short runs of weights are added one spike at a time, each to the channels of its own group. */
static NOINLINE void add_row(const snn_operation *op, const snn_patch *w, const snn_head_scratch *s, int32_t *sum,
                             const uint32_t *words, uint32_t positions, uint32_t at) {
    const uint32_t inputs = w->in->channels / op->as.pixels.groups, run = w->run;
    const uint32_t pitch = snn_bit_words(w->in->channels);
    const channel_bits all = bits_of_group(w->in->channels, 0);
    for (; positions > 0; positions--, words += pitch, at += w->in->channels * run)
        for (uint32_t i = 0; i < pitch; i++)
            for (uint32_t word = word_of_group(&all, words, i); word; word &= word - 1) {
                const uint32_t channel = 32 * i + (uint32_t)__builtin_ctz(word), first = channel / inputs * run;
                const int16_t *weight = w->weight + at + channel * run;
                if (op->as.pixels.wide)
                    for (uint32_t c = 0; c < run; c++) sum[first + c] = snn_add(sum[first + c], weight[c]);
                else
                    for (uint32_t c = 0; c < run; c++)
                        s->current[first + c] = (int16_t)((uint32_t)s->current[first + c] + (uint32_t)weight[c]);
            }
}

/* Adds the weights of the spikes of one plane that arrive at one position. */
static NOINLINE void add_plane(const snn_run_state *run, const snn_operation *op, const snn_patch *w,
                               const snn_head_scratch *s, uint32_t t, int32_t *sum) {
    const uint32_t kernel = op->as.pixels.kernel, positions = w->end_dx - w->first_dx;
    const uint32_t lists = listed(w, op) ? op->as.pixels.groups : 0;
    const uint32_t *rows[7];
    for (uint32_t dy = 0; dy < kernel; dy++)
        rows[dy] = w->rows[dy] && positions
                       ? (const void *)snn_position(run, w->in, w->rows[dy], t, w->left + w->first_dx)
                       : NULL;
    const uint32_t tap = w->in->channels * w->run;
    for (uint32_t group = 0; group < lists; group++) {
        uint32_t *list = s->events;
        for (uint32_t dy = 0; dy < kernel; dy++)
            if (rows[dy])
                list = list_row(op, w, s, sum, group, rows[dy], positions, (dy * kernel + w->first_dx) * tap, list);
        if (list != s->events) add_list(op, w, s, sum, group, list);
    }
    for (uint32_t dy = 0; dy < kernel && !lists; dy++)
        if (rows[dy]) add_row(op, w, s, sum, rows[dy], positions, (dy * kernel + w->first_dx) * tap);
}

static void double_sum(const snn_operation *op, const snn_head_scratch *s, int32_t *sum) {
    for (uint32_t c = 0; c < op->channels; c++) {
        if (op->as.pixels.wide)
            sum[c] = snn_scaled(sum[c], 1);
        else
            s->current[c] = (int16_t)snn_scaled(s->current[c], 1);
    }
}

/* Currents of a spiking convolution at one position and step: only spikes that arrive are looked at. Of a window all
 * steps are added up, digit by digit of how often a neuron fires. */
static void convolve_spikes(const snn_run_state *run, const snn_operation *op, const snn_patch *w,
                            const snn_head_scratch *s, uint32_t t, int32_t *sum) {
    const int window = w->in->storage == SNN_COUNTS;
    start_sum(op, s, sum, window ? NULL : w->bias);
    if (!window) add_plane(run, op, w, s, t, sum);
    for (uint32_t digit = window ? w->in->steps : 0; digit > 0; digit--) {
        if (digit < w->in->steps) double_sum(op, s, sum);
        add_plane(run, op, w, s, digit - 1, sum);
    }
    if (!op->as.pixels.wide)
        for (uint32_t c = 0; c < op->channels; c++) sum[c] = s->current[c];
    if (window && w->bias)
        for (uint32_t c = 0; c < op->channels; c++) sum[c] = snn_add(sum[c], w->bias[c]);
}

/* One group of a convolution of real values at one position and step; zeros add nothing. */
static NOINLINE void convolve_group(const snn_run_state *run, const snn_operation *op, const snn_patch *w,
                                    const snn_head_scratch *s, uint32_t t, uint32_t group, int32_t *sum) {
    const uint32_t kernel = op->as.pixels.kernel, inputs = w->in->channels / op->as.pixels.groups;
    const uint32_t first = group * inputs;
    const int narrow = w->in->storage == SNN_INT16, list = listed(w, op);
    uint32_t count = 0;
    for (uint32_t dy = 0; dy < kernel; dy++) {
        if (!w->rows[dy]) continue;
        for (uint32_t dx = w->first_dx; dx < w->end_dx; dx++) {
            const void *position = snn_position(run, w->in, w->rows[dy], t, w->left + dx);
            uint32_t at = ((dy * kernel + dx) * w->in->channels + first) * w->run;
            for (uint32_t channel = first; channel < first + inputs; channel++, at += w->run) {
                const int32_t x = snn_number(w->in, position, channel);
                if (!x) continue;
                if (!list) {
                    for (uint32_t c = 0; c < w->run; c++) sum[c] = snn_add(sum[c], snn_times(x, w->weight[at + c]));
                    continue;
                }
                s->numbers[count++] = (snn_arrival){at, x};
                if (count == EVENTS) {
                    snn_multiply_accumulate(sum, w->weight, s->numbers, count, w->run, narrow);
                    count = 0;
                }
            }
        }
    }
    if (count) snn_multiply_accumulate(sum, w->weight, s->numbers, count, w->run, narrow);
}

static void convolve_numbers(const snn_run_state *run, const snn_operation *op, const snn_patch *w,
                             const snn_head_scratch *s, uint32_t t, int32_t *sum) {
    start_sum(op, s, sum, w->bias);
    for (uint32_t group = 0; group < op->as.pixels.groups; group++)
        convolve_group(run, op, w, s, t, group, sum + group * w->run);
}

void snn_convolve(const snn_run_state *run, const snn_operation *op, const snn_patch *w, const snn_head_scratch *s,
                  uint32_t t, int32_t *sum) {
    if (op->as.pixels.head == SNN_CONV)
        convolve_spikes(run, op, w, s, t, sum);
    else
        convolve_numbers(run, op, w, s, t, sum);
}

uint64_t snn_head_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    if (op->as.pixels.head != SNN_DENSE_CONV) return 0;
    const snn_value *in = &plan->values[op->input];
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    const uint32_t scale = in->scale * stride;
    const uint32_t rows = snn_ceil_div(height, in->scale), columns = snn_ceil_div(width, in->scale);
    const uint64_t down = snn_taps(rows, snn_ceil_div(height, scale), kernel, stride, padding);
    const uint64_t across = snn_taps(columns, snn_ceil_div(width, scale), kernel, stride, padding);
    return down * across * in->channels * (op->channels / op->as.pixels.groups) * in->steps;
}
