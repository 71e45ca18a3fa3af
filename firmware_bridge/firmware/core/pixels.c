/* The operation that does nearly all the work, position by position: currents of a convolution (event-driven, or
 * multiply-accumulate), other values added, summed over time, rounded, stored, and the neurons that they drive. */
#include <string.h>

#include "accumulate.h"
#include "run.h"

enum { EVENTS = 288 }; /* of one position that are collected before they are added; all of 32 channels, 3x3 */

typedef struct {
    int32_t *sum;        /* [channels], even: what becomes the output */
    int16_t *current;    /* [channels], even: the head's where int16 is wide enough */
    int32_t *total;      /* [channels]: over time */
    int32_t *potential;  /* [channels]: v of the neurons at this position */
    uint32_t *events;    /* [EVENTS + 32]: where the weights of arriving spikes start */
    uint16_t *arrivals;  /* [projections][columns]: synapses per channel and row that a spike of this column reaches */
    uint64_t *row_spikes; /* [projections]: of one row, times those */
} pixels_scratch;

static uint64_t lay_out(const snn_plan *plan, const snn_operation *op, uint32_t columns, uint8_t *base,
                        pixels_scratch *s) {
    snn_parts parts = {base, 0};
    const uint32_t even = (op->channels + 1u) & ~1u;
    s->sum = snn_take(&parts, even, 4);
    s->current = snn_take(&parts, even, 2);
    s->total = snn_take(&parts, op->as.pixels.time_sum ? op->channels : 0, 4);
    s->potential = snn_take(&parts, op->spikes == SNN_NONE ? 0 : op->channels, 4);
    s->events = snn_take(&parts, op->as.pixels.head == SNN_CONV ? EVENTS + 32 : 0, 4);
    const uint32_t projections = op->spikes == SNN_NONE ? 0 : op->as.pixels.projections;
    const uint32_t across = projections ? columns / plan->values[op->spikes].scale : 0;
    s->arrivals = snn_take(&parts, (uint64_t)projections * across, 2);
    s->row_spikes = snn_take(&parts, projections, 8);
    return parts.used;
}

uint64_t snn_pixels_scratch(const snn_plan *plan, const snn_operation *op, uint32_t columns) {
    pixels_scratch none;
    return lay_out(plan, op, columns, NULL, &none);
}

/* --- heads ------------------------------------------------------------------------------------------------------- */

/* The part of the input that a position's kernel covers, borders cut off. */
typedef struct {
    const snn_value *in;
    const int16_t *weight;
    const int32_t *bias;
    uint8_t *rows[7];          /* of the input, NULL beyond the border */
    uint32_t run, per_group;   /* length of a run of weights; output channels of a group */
    uint32_t first_dx, end_dx; /* taps across that lie within the input */
    uint32_t left;             /* input column of tap 0, modulo 2^32 where it lies beyond the border */
} window;

static void start_head(const snn_run_state *run, const snn_operation *op, window *w) {
    const uint8_t *constants = run->plan->constants;
    w->in = &run->plan->values[op->input];
    w->weight = (const int16_t *)(const void *)(constants + op->as.pixels.weight);
    w->bias = op->as.pixels.bias == SNN_NONE ? NULL : (const int32_t *)(const void *)(constants + op->as.pixels.bias);
    w->run = snn_run_length(op->channels, op->as.pixels.groups);
    w->per_group = op->channels / op->as.pixels.groups;
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

static void add_events(const snn_operation *op, const window *w, const pixels_scratch *s, uint32_t count) {
    if (op->as.pixels.wide)
        snn_accumulate32(s->sum, w->weight, s->events, count, w->run);
    else
        snn_accumulate16(s->current, w->weight, s->events, count, w->run);
}

/* One spike of a convolution in groups: its weights go to the channels of its own group. */
static void add_grouped(const snn_operation *op, const window *w, const pixels_scratch *s, uint32_t channel,
                        const int16_t *weight) {
    const uint32_t first = channel / (w->in->channels / op->as.pixels.groups) * w->per_group;
    if (op->as.pixels.wide)
        for (uint32_t c = 0; c < w->per_group; c++) s->sum[first + c] = snn_add(s->sum[first + c], weight[c]);
    else
        for (uint32_t c = 0; c < w->per_group; c++)
            s->current[first + c] = (int16_t)((uint32_t)s->current[first + c] + (uint32_t)weight[c]);
}

/* Currents of a spiking convolution at one position and step: only spikes that arrive are looked at. */
static void convolve(const snn_run_state *run, const snn_operation *op, const window *w, const pixels_scratch *s,
                     uint32_t t) {
    const uint32_t channels = w->in->channels, words = snn_bit_words(channels), kernel = op->as.pixels.kernel;
    const uint32_t last = channels % 32 ? (1u << channels % 32) - 1u : UINT32_MAX; /* bits of the last word in use */
    const int grouped = op->as.pixels.groups != 1;
    uint32_t count = 0;
    for (uint32_t c = 0; c < op->channels; c++) {
        const int32_t bias = w->bias ? w->bias[c] : 0;
        s->sum[c] = bias;
        s->current[c] = (int16_t)bias;
    }
    for (uint32_t dy = 0; dy < kernel; dy++) {
        if (!w->rows[dy] || w->first_dx == w->end_dx) continue;
        const uint32_t *word = (const void *)snn_position(run, w->in, w->rows[dy], t, w->left + w->first_dx);
        for (uint32_t dx = w->first_dx; dx < w->end_dx; dx++) {
            const uint32_t first = (dy * kernel + dx) * channels;
            for (uint32_t i = 0; i < words; i++) {
                uint32_t bits = i + 1 == words ? *word++ & last : *word++;
                for (; bits; bits &= bits - 1) {
                    const uint32_t channel = i * 32 + (uint32_t)__builtin_ctz(bits), at = (first + channel) * w->run;
                    if (grouped)
                        add_grouped(op, w, s, channel, w->weight + at);
                    else
                        s->events[count++] = at;
                }
                if (count > EVENTS) {
                    add_events(op, w, s, count);
                    count = 0;
                }
            }
        }
    }
    if (count) add_events(op, w, s, count);
    if (!op->as.pixels.wide)
        for (uint32_t c = 0; c < op->channels; c++) s->sum[c] = s->current[c];
}

/* The same with real-valued input; zeros add nothing. */
static void convolve_dense(const snn_run_state *run, const snn_operation *op, const window *w, int32_t *sum,
                           uint32_t t) {
    const uint32_t channels = w->in->channels, kernel = op->as.pixels.kernel;
    const uint32_t inputs = channels / op->as.pixels.groups;
    for (uint32_t c = 0; c < op->channels; c++) sum[c] = w->bias ? w->bias[c] : 0;
    for (uint32_t dy = 0; dy < kernel; dy++) {
        if (!w->rows[dy]) continue;
        for (uint32_t dx = w->first_dx; dx < w->end_dx; dx++) {
            const void *position = snn_position(run, w->in, w->rows[dy], t, w->left + dx);
            const int16_t *weight = w->weight + (size_t)(dy * kernel + dx) * channels * w->run;
            for (uint32_t channel = 0; channel < channels; channel++, weight += w->run) {
                const int32_t x = w->in->storage == SNN_INT16 ? ((const int16_t *)position)[channel]
                                                              : ((const int32_t *)position)[channel];
                if (!x) continue;
                int32_t *to = sum + channel / inputs * w->per_group;
                for (uint32_t c = 0; c < w->per_group; c++) to[c] = snn_add(to[c], snn_times(x, weight[c]));
            }
        }
    }
}

/* --- neurons ----------------------------------------------------------------------------------------------------- */

typedef struct {
    const int32_t *threshold, *bias;
    const uint8_t *leak;
} neurons;

/* One step of up to 32 neurons: v <- leak(v) + I + b, a spike where v >= threshold, reset. Returns the spikes. */
static inline uint32_t step(int32_t *v, const int32_t *current, const neurons *n, uint32_t first, uint32_t count,
                            int decay, int subtract) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t c = first + i;
        const int32_t kept = v[c] >> n->leak[c];
        int32_t x = decay ? (int32_t)((uint32_t)v[c] - (uint32_t)kept) : kept;
        x = snn_add(snn_add(x, current[c]), n->bias[c]);
        const uint32_t fired = x >= n->threshold[c];
        const int32_t after = subtract ? (int32_t)((uint32_t)x - (uint32_t)n->threshold[c]) : 0;
        v[c] = fired ? after : x;
        bits |= fired << i;
    }
    return bits;
}

/* Steps all neurons of a position and stores their spikes; returns how many there were. */
static uint32_t fire(const snn_operation *op, const neurons *n, const pixels_scratch *s, uint32_t *words) {
    uint32_t spikes = 0;
    for (uint32_t c = 0; c < op->channels; c += 32, words++) {
        const uint32_t count = op->channels - c < 32 ? op->channels - c : 32;
        uint32_t bits;
        if (op->as.pixels.decay)
            bits = op->as.pixels.subtract ? step(s->potential, s->sum, n, c, count, 1, 1)
                                          : step(s->potential, s->sum, n, c, count, 1, 0);
        else
            bits = op->as.pixels.subtract ? step(s->potential, s->sum, n, c, count, 0, 1)
                                          : step(s->potential, s->sum, n, c, count, 0, 0);
        *words = bits;
        for (; bits; bits &= bits - 1) spikes++;
    }
    return spikes;
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
    neurons neurons;
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
static void gather(pixels_state *p, uint32_t t, uint32_t y, uint32_t x) {
    const snn_operation *op = p->op;
    int32_t *sum = p->scratch.sum;
    if (op->as.pixels.head == SNN_CONV)
        convolve(p->run, op, &p->window, &p->scratch, t);
    else if (op->as.pixels.head == SNN_DENSE_CONV)
        convolve_dense(p->run, op, &p->window, sum, t);
    else
        memset(sum, 0, op->channels * sizeof *sum);
    if (op->as.pixels.head_shift)
        for (uint32_t c = 0; c < op->channels; c++) sum[c] = snn_scaled(sum[c], op->as.pixels.head_shift);
    for (uint32_t i = 0; i < op->terms; i++)
        snn_add_term(p->run, &p->run->plan->terms[op->first_term + i], t, y, x, sum);
}

/* Rounds and stores what was gathered. */
static void finish(pixels_state *p, uint32_t t, uint32_t y, uint32_t x) {
    const snn_operation *op = p->op;
    int32_t *sum = p->scratch.sum;
    if (op->as.pixels.rounds)
        for (uint32_t c = 0; c < op->channels; c++)
            sum[c] = snn_requantise(sum[c], op->as.pixels.shift, op->as.pixels.lo, op->as.pixels.hi);
    if (p->out) snn_put(p->run, p->out, t, y, x, sum);
}

static void one_position(pixels_state *p, uint32_t y, uint32_t x, uint8_t *spike_row) {
    const snn_operation *op = p->op;
    const pixels_scratch *s = &p->scratch;
    const uint32_t steps = op->as.pixels.steps, all = p->run->plan->time_steps;
    uint32_t spikes = 0;
    if (p->spikes) memset(s->potential, 0, op->channels * sizeof *s->potential);
    if (op->as.pixels.time_sum) memset(s->total, 0, op->channels * sizeof *s->total);
    for (uint32_t t = 0; t < steps; t++) {
        gather(p, t, y, x);
        if (op->as.pixels.time_sum) {
            for (uint32_t c = 0; c < op->channels; c++) s->total[c] = snn_add(s->total[c], s->sum[c]);
            continue;
        }
        finish(p, t, y, x);
        if (p->spikes && steps == all)
            spikes += fire(op, &p->neurons, s, (void *)snn_position(p->run, p->spikes, spike_row, t, x));
    }
    if (op->as.pixels.time_sum) {
        const int32_t times = steps == 1 ? (int32_t)all : 1; /* a static value counts at every step */
        for (uint32_t c = 0; c < op->channels; c++) s->sum[c] = snn_times(s->total[c], times);
        finish(p, 0, y, x);
    }
    if (p->spikes) {
        if (op->as.pixels.time_sum || steps != all) /* one current, T steps */
            for (uint32_t t = 0; t < all; t++)
                spikes += fire(op, &p->neurons, s, (void *)snn_position(p->run, p->spikes, spike_row, t, x));
        count_position(p, x, spikes);
    }
}

snn_status snn_pixels(const snn_run_state *run, const snn_operation *op) {
    const snn_plan *plan = run->plan;
    const uint8_t *constants = plan->constants;
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
        p.neurons.threshold = (const int32_t *)(const void *)(constants + op->as.pixels.threshold);
        p.neurons.bias = (const int32_t *)(const void *)(constants + op->as.pixels.lif_bias);
        p.neurons.leak = constants + op->as.pixels.leak;
        start_counts(&p);
        count_row(&p, UINT32_MAX); /* clears the counters */
    }
    for (uint32_t y = 0; y < run->rows / scale; y++) {
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
