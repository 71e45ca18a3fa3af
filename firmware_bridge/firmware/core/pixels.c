/* The operation that does nearly all the work, position by position: currents of a convolution (heads.c), other values
 * added, summed over time, rounded, stored, and the neurons that they drive (neurons.c) or the pixels that they change
 * (picture.c). */
#include <string.h>

#include "arrays.h"
#include "check.h"
#include "count.h"
#include "heads.h"
#include "neurons.h"
#include "number.h"
#include "operation.h"
#include "picture.h"

typedef struct {
    int32_t *sums; /* [steps][SNN_SPAN][channels]: what becomes the output, at positions side by side */
    snn_head head;
    uint16_t *arrivals;   /* [projections][columns]: synapses per channel and row that a spike of this column reaches */
    uint64_t *row_spikes; /* [projections]: of one row, times those */
} pixels_scratch;

static uint64_t lay_out(const snn_plan *plan, const snn_operation *op, uint32_t columns, uint8_t *base,
                        pixels_scratch *s) {
    snn_parts parts = {base, 0};
    s->sums = snn_take(&parts, (uint64_t)op->as.pixels.steps * SNN_SPAN * op->channels, 4);
    snn_take_head(plan, op, columns, &parts, &s->head);
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

/* Of what is computed. */
static uint32_t scale_of(const snn_plan *plan, const snn_operation *op) {
    const uint32_t written = op->output != SNN_NONE ? op->output : op->spikes;
    return written == SNN_NONE ? op->as.pixels.restores : plan->values[written].scale;
}

static snn_status check_pixels(const snn_plan *plan, const snn_operation *op) {
    const snn_value *out = snn_value_at(plan, op->output), *spikes = snn_value_at(plan, op->spikes);
    const uint32_t steps = op->as.pixels.steps, restores = op->as.pixels.restores;
    if ((steps != 1 && steps != plan->time_steps) || op->as.pixels.time_sum > 1 || op->as.pixels.rounds > 1)
        return SNN_OPERATION;
    if (restores) { /* one number for every colour of every pixel, and nothing else */
        if (out || spikes || restores > 8 || op->channels != 3 * restores * restores) return SNN_OPERATION;
        if ((steps != 1 && !op->as.pixels.time_sum) || op->as.pixels.restore_shift > 30) return SNN_OPERATION;
    } else if (!out && !spikes) {
        return SNN_OPERATION;
    }
    const uint32_t scale = scale_of(plan, op);
    if (spikes && spikes->scale != scale) return SNN_OPERATION;
    if (out && (snn_is_spikes(out) || out->channels != op->channels ||
                out->steps != (op->as.pixels.time_sum ? 1 : steps)))
        return SNN_OPERATION;
    if (op->as.pixels.shift > 30 || op->as.pixels.lo > op->as.pixels.hi || op->as.pixels.head_shift > 30)
        return SNN_OPERATION;
    snn_status status = snn_check_terms(plan, op, scale, op->channels, steps, NULL);
    if (!status && op->as.pixels.head) status = snn_check_head(plan, op, scale);
    if (!status && spikes) status = snn_check_neurons(plan, op, spikes);
    return status;
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
        p->run->job->counts[p->op->as.pixels.neuron_layer].spikes += p->row_spikes;
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

/* What arrives at `count` positions from x on at step t: head and terms. */
static void gather(pixels_state *p, uint32_t t, uint32_t y, uint32_t x, uint32_t count, int32_t *sum) {
    const snn_operation *op = p->op;
    const uint32_t numbers = count * op->channels;
    if (op->as.pixels.head)
        snn_convolve(p->run, op, &p->scratch.head, t, x, count, sum);
    else
        memset(sum, 0, numbers * sizeof *sum);
    for (uint32_t i = 0; i < numbers && op->as.pixels.head_shift; i++)
        sum[i] = snn_scaled(sum[i], op->as.pixels.head_shift);
    for (uint32_t i = 0; i < op->terms; i++)
        snn_add_term(p->run, &p->run->plan->terms[op->first_term + i], t, y, x, count, op->channels, sum);
}

/* Sums over time, step after step `pitch` further; one step stands for all of them. */
static void add_steps(const snn_operation *op, int32_t *sums, uint32_t numbers, uint32_t pitch, uint32_t all) {
    const uint32_t steps = op->as.pixels.steps;
    for (uint32_t t = 1; t < steps; t++) snn_add32(sums, sums + (size_t)t * pitch, numbers);
    for (uint32_t i = 0; i < numbers && steps != all; i++) sums[i] = snn_times(sums[i], (int32_t)all);
}

static void fire(pixels_state *p, uint32_t x, uint32_t count, const int32_t *sums, uint32_t stride, uint8_t *row) {
    const snn_operation *op = p->op;
    const uint32_t words = snn_bit_words(op->channels), pitch = p->run->columns / p->spikes->scale * words;
    uint32_t *to = (uint32_t *)(void *)row + (size_t)x * words;
    for (uint32_t i = 0; i < count; i++, sums += op->channels, to += words)
        count_position(p, x + i, snn_fire(op, &p->neurons, sums, stride, p->run->plan->time_steps, to, pitch));
}

/* Positions side by side, all that becomes of them. */
static void one_span(pixels_state *p, uint32_t y, uint32_t x, uint32_t count, uint8_t *spike_row) {
    const snn_operation *op = p->op;
    const uint32_t numbers = count * op->channels, pitch = SNN_SPAN * op->channels, all = p->run->plan->time_steps;
    int32_t *sums = p->scratch.sums;
    uint32_t steps = op->as.pixels.steps;
    for (uint32_t t = 0; t < steps; t++) gather(p, t, y, x, count, sums + (size_t)t * pitch);
    if (op->as.pixels.time_sum) {
        add_steps(op, sums, numbers, pitch, all);
        steps = 1;
    }
    for (uint32_t t = 0; t < steps; t++) {
        int32_t *sum = sums + (size_t)t * pitch;
        if (op->as.pixels.rounds) snn_round(sum, numbers, op->as.pixels.shift, op->as.pixels.lo, op->as.pixels.hi);
        if (p->out) snn_put(p->run, p->out, t, y, x, count, sum);
    }
    for (uint32_t t = 0; t < steps && p->spikes && op->as.pixels.fine; t++) /* the membrane's grid is finer */
        for (uint32_t i = 0; i < numbers; i++)
            sums[(size_t)t * pitch + i] = snn_scaled(sums[(size_t)t * pitch + i], op->as.pixels.fine);
    if (p->spikes) fire(p, x, count, sums, steps == all ? pitch : 0, spike_row);
    if (op->as.pixels.restores)
        snn_restore(p->run, op->as.pixels.restores, op->as.pixels.restore_shift, y, x, count, sums);
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
    const uint32_t scale = scale_of(plan, op);
    uint32_t columns = run->columns / scale;
    if (op->as.pixels.restores) { /* nothing is restored beyond the picture */
        columns = snn_ceil_div(run->tile->width, scale);
        if (end > snn_ceil_div(run->tile->height, scale)) end = snn_ceil_div(run->tile->height, scale);
    }
    const snn_status status = op->as.pixels.head ? snn_start_head(run, op, &p.scratch.head) : SNN_OK;
    if (status) return status;
    if (p.spikes) {
        p.neurons = snn_neurons_of(plan, op);
        start_counts(&p);
        count_row(&p, UINT32_MAX); /* clears the counters */
    }
    for (uint32_t y = first; y < end; y++) {
        if (op->as.pixels.head) snn_move_to_row(run, op, &p.scratch.head, y);
        uint8_t *spike_row = p.spikes ? snn_row(run, p.spikes, y) : NULL;
        for (uint32_t x = 0; x < columns; x += SNN_SPAN)
            one_span(&p, y, x, columns - x < SNN_SPAN ? columns - x : SNN_SPAN, spike_row);
        if (p.spikes) count_row(&p, y);
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

static void count_pixels(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width,
                         snn_counts *counts) {
    const uint64_t macs = op->as.pixels.head ? snn_head_macs(plan, op, height, width) : 0;
    if (macs) counts[op->as.pixels.head_layer].macs = macs;
}

const snn_operation_kind snn_pixels = {
    .check = check_pixels, .scratch = pixels_size, .run = run_pixels, .count = count_pixels};
