/* The operation that does nearly all the work, position by position: currents of a convolution (event-driven, or
 * multiply-accumulate), other values added, summed over time, rounded, stored, and the neurons that they drive. */
#include <string.h>

#include "accumulate.h"
#include "check.h"
#include "count.h"
#include "neurons.h"
#include "number.h"
#include "operation.h"
#include "scratch.h"

/* Small functions with their own registers: inlined into one, they would keep everything on the stack. */
#define NOINLINE __attribute__((noinline))

enum { EVENTS = 288 }; /* of one position that are collected before they are added; all of 32 channels, 3x3 */

typedef struct {
    int32_t *sums;        /* [steps][even]: what becomes the output, at one position */
    int16_t *current;     /* [even]: the head's where int16 is wide enough */
    uint32_t *events;     /* [EVENTS + 32]: where the weights of arriving spikes start */
    snn_arrival *numbers; /* [EVENTS]: that arrive instead */
    uint16_t *arrivals;   /* [projections][columns]: synapses per channel and row that a spike of this column reaches */
    uint64_t *row_spikes; /* [projections]: of one row, times those */
    uint32_t even;        /* channels, rounded up to even */
} pixels_scratch;

static uint64_t lay_out(const snn_plan *plan, const snn_operation *op, uint32_t columns, uint8_t *base,
                        pixels_scratch *s) {
    snn_parts parts = {base, 0};
    s->even = (op->channels + 1u) & ~1u;
    s->sums = snn_take(&parts, (uint64_t)op->as.pixels.steps * s->even, 4);
    s->current = snn_take(&parts, op->as.pixels.head == SNN_CONV ? s->even : 0, 2);
    s->events = snn_take(&parts, op->as.pixels.head == SNN_CONV ? EVENTS + 32 : 0, 4);
    s->numbers = snn_take(&parts, op->as.pixels.head == SNN_DENSE_CONV ? EVENTS : 0, sizeof *s->numbers);
    const uint32_t projections = op->spikes == SNN_NONE ? 0 : op->as.pixels.projections;
    const uint32_t across = projections ? columns / plan->values[op->spikes].scale : 0;
    s->arrivals = snn_take(&parts, (uint64_t)projections * across, 2);
    s->row_spikes = snn_take(&parts, projections, 8);
    return parts.used;
}

static uint64_t pixels_size(const snn_plan *plan, const snn_operation *op, uint32_t columns) {
    pixels_scratch none;
    return lay_out(plan, op, columns, NULL, &none);
}

/* --- checks ------------------------------------------------------------------------------------------------------ */

static snn_status check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale) {
    const snn_value *in = snn_value_at(plan, op->input);
    if (!in || (in->storage == SNN_BITS) != (op->as.pixels.head == SNN_CONV)) return SNN_OPERATION;
    if (in->steps != 1 && in->steps != op->as.pixels.steps) return SNN_OPERATION;
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

static snn_status check_pixels(const snn_plan *plan, const snn_operation *op) {
    const snn_value *out = snn_value_at(plan, op->output), *spikes = snn_value_at(plan, op->spikes);
    if (!out && !spikes) return SNN_OPERATION;
    const uint32_t scale = out ? out->scale : spikes->scale, steps = op->as.pixels.steps;
    if (spikes && spikes->scale != scale) return SNN_OPERATION;
    if ((steps != 1 && steps != plan->time_steps) || op->as.pixels.time_sum > 1 || op->as.pixels.rounds > 1)
        return SNN_OPERATION;
    if (out && (out->storage == SNN_BITS || out->channels != op->channels ||
                out->steps != (op->as.pixels.time_sum ? 1 : steps)))
        return SNN_OPERATION;
    if (op->as.pixels.shift > 30 || op->as.pixels.lo > op->as.pixels.hi || op->as.pixels.head > SNN_DENSE_CONV ||
        op->as.pixels.head_shift > 30)
        return SNN_OPERATION;
    snn_status status = snn_check_terms(plan, op, scale, op->channels, steps, 0);
    if (!status && op->as.pixels.head) status = check_head(plan, op, scale);
    if (!status && spikes) status = snn_check_neurons(plan, op, spikes);
    return status;
}

/* --- heads ------------------------------------------------------------------------------------------------------- */

/* The part of the input that a position's kernel covers, borders cut off. */
typedef struct {
    const snn_value *in;
    const int16_t *weight;
    const int32_t *bias;
    uint8_t *rows[7];          /* of the input, NULL beyond the border */
    uint32_t run;              /* length of a run of weights: output channels of a group */
    uint32_t first_dx, end_dx; /* taps across that lie within the input */
    uint32_t left;             /* input column of tap 0, modulo 2^32 where it lies beyond the border */
} window;

static void start_head(const snn_run_state *run, const snn_operation *op, window *w) {
    const uint8_t *constants = run->plan->constants;
    w->in = &run->plan->values[op->input];
    w->weight = (const int16_t *)(const void *)(constants + op->as.pixels.weight);
    w->bias = op->as.pixels.bias == SNN_NONE ? NULL : (const int32_t *)(const void *)(constants + op->as.pixels.bias);
    w->run = snn_run_length(op->channels, op->as.pixels.groups);
}

static void move_to_row(const snn_run_state *run, const snn_operation *op, window *w, uint32_t y) {
    const uint32_t height = run->rows / w->in->scale;
    for (uint32_t dy = 0; dy < op->as.pixels.kernel; dy++) {
        const uint32_t row = y * op->as.pixels.stride + dy - op->as.pixels.padding; /* wraps above the image */
        w->rows[dy] = row < height ? snn_row(run, w->in, row) : NULL;
    }
}

static void move_to_column(const snn_run_state *run, const snn_operation *op, window *w, uint32_t x) {
    const uint32_t width = run->columns / w->in->scale, kernel = op->as.pixels.kernel;
    w->left = x * op->as.pixels.stride - op->as.pixels.padding;
    w->first_dx = 0;
    while (w->first_dx < kernel && w->left + w->first_dx >= width) w->first_dx++; /* at most `padding` of them */
    w->end_dx = w->first_dx;
    while (w->end_dx < kernel && w->left + w->end_dx < width) w->end_dx++;
}

/* Bias, or zeros, in either width. */
static void start_sum(const snn_operation *op, const window *w, const pixels_scratch *s, int32_t *sum) {
    if (op->as.pixels.wide) {
        memset(sum, 0, s->even * sizeof *sum);
        if (w->bias) memcpy(sum, w->bias, op->channels * sizeof *sum);
    } else {
        memset(s->current, 0, s->even * sizeof *s->current);
        if (w->bias)
            for (uint32_t c = 0; c < op->channels; c++) s->current[c] = (int16_t)w->bias[c];
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
static int listed(const window *w, const snn_operation *op) {
    return op->as.pixels.groups == 1 || (w->run % 2 == 0 && w->run >= 8);
}

/* Adds the weights of the list to a group's currents. */
static void add_list(const snn_operation *op, const window *w, const pixels_scratch *s, int32_t *sum, uint32_t group,
                     const uint32_t *end) {
    const uint32_t count = (uint32_t)(end - s->events);
    if (op->as.pixels.wide)
        snn_accumulate32(sum + group * w->run, w->weight, s->events, count, w->run);
    else
        snn_accumulate16(s->current + group * w->run, w->weight, s->events, count, w->run);
}

/* Lists where the weights of the spikes of a group start, at `positions` side by side, the first one's from `at`. */
static NOINLINE uint32_t *list_row(const snn_operation *op, const window *w, const pixels_scratch *s, int32_t *sum,
                                   uint32_t group, const uint32_t *words, uint32_t positions, uint32_t at,
                                   uint32_t *list) {
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
static NOINLINE void add_row(const snn_operation *op, const window *w, const pixels_scratch *s, int32_t *sum,
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

/* Currents of a spiking convolution at one position and step: only spikes that arrive are looked at. */
static NOINLINE void convolve(const snn_run_state *run, const snn_operation *op, const window *w,
                              const pixels_scratch *s, uint32_t t, int32_t *sum) {
    const uint32_t kernel = op->as.pixels.kernel, positions = w->end_dx - w->first_dx;
    const uint32_t lists = listed(w, op) ? op->as.pixels.groups : 0;
    const uint32_t *rows[7];
    start_sum(op, w, s, sum);
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
    if (!op->as.pixels.wide)
        for (uint32_t c = 0; c < op->channels; c++) sum[c] = s->current[c];
}

/* One group of a convolution of real values at one position and step; zeros add nothing. */
static NOINLINE void convolve_group(const snn_run_state *run, const snn_operation *op, const window *w,
                                    const pixels_scratch *s, uint32_t t, uint32_t group, int32_t *sum) {
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

static void convolve_dense(const snn_run_state *run, const snn_operation *op, const window *w, const pixels_scratch *s,
                           uint32_t t, int32_t *sum) {
    start_sum(op, w, s, sum);
    for (uint32_t group = 0; group < op->as.pixels.groups; group++)
        convolve_group(run, op, w, s, t, group, sum + group * w->run);
}

/* --- counts ------------------------------------------------------------------------------------------------------ */

/* Which positions along one axis are counted: inside the inner part, covering a real pixel. Relative to the tile. */
static void counted(uint32_t at, uint32_t inner, uint32_t extent, uint32_t scale, uint32_t *first, uint32_t *end) {
    *first = (inner - at) / scale;
    *end = snn_ceil_div(inner + extent - at, scale);
}

/* --- all together ------------------------------------------------------------------------------------------------ */

typedef struct {
    const snn_run_state *run;
    const snn_operation *op;
    const snn_value *out, *spikes;
    window window;
    snn_neurons neurons;
    pixels_scratch scratch;
    uint32_t first_row, end_row, first_column, end_column; /* that are counted */
    uint64_t row_spikes;
} pixels_state;

static void start_counts(pixels_state *p) {
    const snn_tile *tile = p->run->tile;
    const uint32_t scale = p->spikes->scale, columns = p->run->columns / scale;
    counted(tile->top, tile->inner_top, tile->inner_height, scale, &p->first_row, &p->end_row);
    counted(tile->left, tile->inner_left, tile->inner_width, scale, &p->first_column, &p->end_column);
    for (uint32_t i = 0; i < p->op->as.pixels.projections; i++) {
        const snn_projection *projection = &p->run->plan->projections[p->op->as.pixels.first_projection + i];
        for (uint32_t x = 0; x < columns; x++)
            p->scratch.arrivals[(size_t)i * columns + x] =
                x < p->first_column || x >= p->end_column
                    ? 0
                    : (uint16_t)snn_arrivals(projection, scale, x + tile->left / scale, tile->image_width);
    }
}

static void count_position(pixels_state *p, uint32_t x, uint32_t spikes) {
    const uint32_t columns = p->run->columns / p->spikes->scale;
    if (!spikes || x < p->first_column || x >= p->end_column) return;
    p->row_spikes += spikes;
    for (uint32_t i = 0; i < p->op->as.pixels.projections; i++)
        p->scratch.row_spikes[i] += (uint64_t)spikes * p->scratch.arrivals[(size_t)i * columns + x];
}

static void count_row(pixels_state *p, uint32_t y) {
    const uint32_t projections = p->op->as.pixels.projections;
    if (y >= p->first_row && y < p->end_row) {
        const snn_tile *tile = p->run->tile;
        p->run->job->counts[p->op->as.pixels.lif_layer].spikes += p->row_spikes;
        for (uint32_t i = 0; i < projections; i++) {
            const snn_projection *projection = &p->run->plan->projections[p->op->as.pixels.first_projection + i];
            const uint32_t scale = p->spikes->scale;
            const uint32_t down = snn_arrivals(projection, scale, y + tile->top / scale, tile->image_height);
            p->run->job->counts[projection->target].synops += p->scratch.row_spikes[i] * down * projection->channels;
        }
    }
    p->row_spikes = 0;
    for (uint32_t i = 0; i < projections; i++) p->scratch.row_spikes[i] = 0;
}

/* What arrives at a position at step t: head and terms. */
static void gather(pixels_state *p, uint32_t t, uint32_t y, uint32_t x, int32_t *sum) {
    const snn_operation *op = p->op;
    if (op->as.pixels.head == SNN_CONV)
        convolve(p->run, op, &p->window, &p->scratch, t, sum);
    else if (op->as.pixels.head == SNN_DENSE_CONV)
        convolve_dense(p->run, op, &p->window, &p->scratch, t, sum);
    else
        memset(sum, 0, op->channels * sizeof *sum);
    if (op->as.pixels.head_shift)
        for (uint32_t c = 0; c < op->channels; c++) sum[c] = snn_scaled(sum[c], op->as.pixels.head_shift);
    for (uint32_t i = 0; i < op->terms; i++)
        snn_add_term(p->run, &p->run->plan->terms[op->first_term + i], t, y, x, sum);
}

/* Sums over time; one step stands for all of them. */
static void add_steps(const snn_operation *op, int32_t *sums, uint32_t even, uint32_t all) {
    const uint32_t steps = op->as.pixels.steps;
    for (uint32_t t = 1; t < steps; t++)
        for (uint32_t c = 0; c < op->channels; c++) sums[c] = snn_add(sums[c], sums[t * even + c]);
    if (steps != all)
        for (uint32_t c = 0; c < op->channels; c++) sums[c] = snn_times(sums[c], (int32_t)all);
}

static void one_position(pixels_state *p, uint32_t y, uint32_t x, uint8_t *spike_row) {
    const snn_operation *op = p->op;
    const uint32_t even = p->scratch.even, all = p->run->plan->time_steps;
    int32_t *sums = p->scratch.sums;
    uint32_t steps = op->as.pixels.steps;
    for (uint32_t t = 0; t < steps; t++) gather(p, t, y, x, sums + (size_t)t * even);
    if (op->as.pixels.time_sum) {
        add_steps(op, sums, even, all);
        steps = 1;
    }
    for (uint32_t t = 0; t < steps; t++) {
        int32_t *sum = sums + (size_t)t * even;
        if (op->as.pixels.rounds)
            for (uint32_t c = 0; c < op->channels; c++)
                sum[c] = snn_requantise(sum[c], op->as.pixels.shift, op->as.pixels.lo, op->as.pixels.hi);
        if (p->out) snn_put(p->run, p->out, t, y, x, sum);
    }
    if (p->spikes) {
        const uint32_t words = snn_bit_words(op->channels), pitch = p->run->columns / p->spikes->scale * words;
        uint32_t *to = (uint32_t *)(void *)spike_row + (size_t)x * words;
        count_position(p, x, snn_fire(op, &p->neurons, sums, steps == all ? even : 0, all, to, pitch));
    }
}

static snn_status run_pixels(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end) {
    const snn_plan *plan = run->plan;
    pixels_state p = {
        .run = run,
        .op = op,
        .out = op->output == SNN_NONE ? NULL : &plan->values[op->output],
        .spikes = op->spikes == SNN_NONE ? NULL : &plan->values[op->spikes],
    };
    lay_out(plan, op, run->columns, run->scratch, &p.scratch);
    const uint32_t scale = p.out ? p.out->scale : p.spikes->scale;
    if (op->as.pixels.head) start_head(run, op, &p.window);
    if (p.spikes) {
        p.neurons = snn_neurons_of(plan, op);
        start_counts(&p);
        count_row(&p, UINT32_MAX); /* clears the counters */
    }
    for (uint32_t y = first; y < end; y++) {
        if (op->as.pixels.head) move_to_row(run, op, &p.window, y);
        uint8_t *spike_row = p.spikes ? snn_row(run, p.spikes, y) : NULL;
        for (uint32_t x = 0; x < run->columns / scale; x++) {
            if (op->as.pixels.head) move_to_column(run, op, &p.window, x);
            one_position(&p, y, x, spike_row);
        }
        if (p.spikes) count_row(&p, y);
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

static uint64_t dense_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    const snn_value *in = &plan->values[op->input];
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    const uint32_t scale = in->scale * stride;
    const uint32_t rows = snn_ceil_div(height, in->scale), columns = snn_ceil_div(width, in->scale);
    const uint64_t down = snn_taps(rows, snn_ceil_div(height, scale), kernel, stride, padding);
    const uint64_t across = snn_taps(columns, snn_ceil_div(width, scale), kernel, stride, padding);
    return down * across * in->channels * (op->channels / op->as.pixels.groups) * in->steps;
}

static void count_pixels(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width,
                         snn_counts *counts) {
    if (op->as.pixels.head == SNN_DENSE_CONV)
        counts[op->as.pixels.head_layer].macs = dense_macs(plan, op, height, width);
}

const snn_operation_kind snn_pixels = {
    .check = check_pixels, .scratch = pixels_size, .run = run_pixels, .count = count_pixels};
