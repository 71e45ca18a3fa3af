/* Carries out a plan: memory, the operations in order, and those that only move numbers. */
#include "run.h"

#include <string.h>

#define LONGEST_SIDE (1u << 20)

snn_tile snn_whole(uint32_t height, uint32_t width) {
    return (snn_tile){height, width, 0, 0, height, width, 0, 0, height, width};
}

/* Along one axis: [at, at + extent) lies in [from, to), starts at a multiple of `start` and ends at one of `end` or at
 * the image's edge. */
static int sound_span(uint32_t at, uint32_t extent, uint32_t from, uint32_t to, uint32_t start, uint32_t end,
                      uint32_t edge) {
    return extent && from <= at && at < to && extent <= to - at && at % start == 0 &&
           (at + extent == edge || (at + extent) % end == 0);
}

static int sound_axis(const snn_plan *plan, uint32_t image, uint32_t at, uint32_t extent, uint32_t inner,
                      uint32_t inner_extent) {
    return image && image <= LONGEST_SIDE && sound_span(at, extent, 0, image, plan->align, plan->stride, image) &&
           sound_span(inner, inner_extent, at, at + extent, plan->align, plan->align, image);
}

static uint32_t padded(uint32_t extent, uint32_t stride) { return snn_ceil_div(extent, stride) * stride; }

static uint64_t scratch_bytes(const snn_plan *plan, uint32_t columns) {
    uint64_t most = 3 * sizeof(int32_t); /* the readout's colours */
    for (uint32_t i = 0; i < plan->header->operations; i++) {
        const snn_operation *op = &plan->operations[i];
        uint64_t bytes = 0;
        if (op->kind == SNN_PIXELS) bytes = snn_pixels_scratch(plan, op, columns);
        if (op->kind == SNN_ATTEND) bytes = snn_attend_scratch(plan, op, columns);
        if (bytes > most) most = bytes;
    }
    return most;
}

static snn_status measure(const snn_plan *plan, const snn_tile *tile, snn_mode mode, snn_run_state *run,
                          size_t *bytes) {
    const snn_tile *t = tile;
    if (mode != SNN_AT_ONCE && mode != SNN_BY_ROWS) return SNN_MODE;
    if (!sound_axis(plan, t->image_height, t->top, t->height, t->inner_top, t->inner_height) ||
        !sound_axis(plan, t->image_width, t->left, t->width, t->inner_left, t->inner_width))
        return SNN_SIZE;
    run->rows = padded(t->height, plan->stride);
    run->columns = padded(t->width, plan->stride);
    run->by_rows = mode == SNN_BY_ROWS;
    const uint64_t across = run->columns / plan->stride, down = run->by_rows ? 1 : run->rows / plan->stride;
    const uint64_t units = across * down, unit = run->by_rows ? plan->header->row_unit : plan->header->unit;
    if (units > UINT32_MAX || units * unit > SIZE_MAX / 4) return SNN_TOO_LARGE; /* factors below 2^32 */
    const uint64_t arena = (units * unit + 7) & ~(uint64_t)7;
    const uint64_t total = arena + scratch_bytes(plan, run->columns);
    if (total > SIZE_MAX / 2) return SNN_TOO_LARGE;
    run->units = (uint32_t)units;
    run->scratch = run->arena ? run->arena + (size_t)arena : NULL;
    *bytes = (size_t)total;
    return SNN_OK;
}

snn_status snn_memory_size(const snn_plan *plan, const snn_tile *tile, snn_mode mode, size_t *bytes) {
    snn_run_state run = {.arena = NULL};
    return measure(plan, tile, mode, &run, bytes);
}

/* Channels first, first + step, ... of a position, `count` of them, added. */
static void add_channels(const snn_value *value, const uint8_t *position, uint32_t first, uint32_t step,
                         uint32_t count, uint32_t shift, int32_t *sum) {
    if (value->storage == SNN_INT16) {
        const int16_t *from = (const int16_t *)(const void *)position + first;
        if (step == 1 && shift == 0) /* by far the most frequent */
            for (uint32_t c = 0; c < count; c++) sum[c] = snn_add(sum[c], from[c]);
        else
            for (uint32_t c = 0; c < count; c++) sum[c] = snn_add(sum[c], snn_scaled(from[c * step], shift));
    } else {
        const int32_t *from = (const int32_t *)(const void *)position + first;
        for (uint32_t c = 0; c < count; c++) sum[c] = snn_add(sum[c], snn_scaled(from[c * step], shift));
    }
}

void snn_add_term(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x, int32_t *sum) {
    const snn_value *value = &run->plan->values[term->value];
    const uint32_t factor = term->factor, area = factor * factor;
    sum += term->offset;
    if (term->mode == SNN_SPACE_TO_DEPTH) {
        int32_t one;
        for (uint32_t dy = 0; dy < factor; dy++) {
            uint8_t *row = snn_row(run, value, y * factor + dy);
            for (uint32_t dx = 0; dx < factor; dx++) {
                const uint8_t *position = snn_position(run, value, row, t, x * factor + dx);
                for (uint32_t c = 0; c < value->channels; c++) {
                    int32_t *to = &sum[c * area + dy * factor + dx];
                    one = *to;
                    add_channels(value, position, c, 1, 1, term->shift, &one);
                    *to = one;
                }
            }
        }
        return;
    }
    const uint8_t *position = snn_position(run, value, snn_row(run, value, y / factor), t, x / factor);
    if (term->mode == SNN_NEAREST)
        add_channels(value, position, 0, 1, value->channels, term->shift, sum);
    else
        add_channels(value, position, y % factor * factor + x % factor, area, value->channels / area, term->shift, sum);
}

void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x, const int32_t *from) {
    void *position = snn_position(run, value, snn_row(run, value, y), t, x);
    if (value->storage == SNN_INT16) {
        int16_t *to = position;
        for (uint32_t c = 0; c < value->channels; c++) to[c] = (int16_t)from[c];
    } else {
        memcpy(position, from, value->channels * sizeof *from);
    }
}

/* The picture as numbers, grey level - 128, in blocks of factor x factor pixels; replicate-padded right and bottom. */
static snn_status image(const snn_run_state *run, const snn_operation *op, uint32_t first_row, uint32_t end_row) {
    const snn_value *out = &run->plan->values[op->output];
    const snn_tile *tile = run->tile;
    const uint32_t factor = op->as.image.factor;
    for (uint32_t y = first_row; y < end_row; y++) {
        uint8_t *row = snn_row(run, out, y);
        for (uint32_t x = 0; x < run->columns / factor; x++) {
            void *position = snn_position(run, out, row, 0, x);
            int16_t *narrow = position;
            int32_t *wide = position;
            for (uint32_t i = 0; i < out->channels; i++) { /* colour, dy, dx */
                const uint32_t colour = i / (factor * factor), dy = i / factor % factor, dx = i % factor;
                uint32_t py = y * factor + dy, px = x * factor + dx;
                if (py >= tile->height) py = tile->height - 1;
                if (px >= tile->width) px = tile->width - 1;
                const int level = run->job->picture[((size_t)py * tile->width + px) * 3 + colour] - 128;
                if (out->storage == SNN_INT16)
                    narrow[i] = (int16_t)level;
                else
                    wide[i] = level;
            }
        }
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

/* Spikes enlarged, or side by side. */
static snn_status spikes(const snn_run_state *run, const snn_operation *op, uint32_t first_row, uint32_t end_row) {
    const snn_plan *plan = run->plan;
    const snn_value *out = &plan->values[op->spikes];
    const uint32_t columns = run->columns / out->scale, words = snn_bit_words(out->channels);
    for (uint32_t y = first_row; y < end_row; y++) {
        uint8_t *row = snn_row(run, out, y);
        memset(row, 0, (size_t)columns * out->steps * words * 4);
        for (uint32_t i = 0; i < op->terms; i++) {
            const snn_term *term = &plan->terms[op->first_term + i];
            const snn_value *in = &plan->values[term->value];
            uint8_t *source = snn_row(run, in, y / term->factor);
            const uint32_t first = term->offset / 32, by = term->offset % 32;
            for (uint32_t t = 0; t < out->steps; t++)
                for (uint32_t x = 0; x < columns; x++) {
                    const uint32_t *from = (const void *)snn_position(run, in, source, t, x / term->factor);
                    uint32_t *to = (uint32_t *)(void *)snn_position(run, out, row, t, x) + first;
                    for (uint32_t w = 0; w < snn_bit_words(in->channels); w++) {
                        to[w] |= from[w] << by;
                        if (by && first + w + 1 < words) to[w + 1] |= from[w] >> (32 - by);
                    }
                }
        }
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

/* The restored picture; every pixel is read before it is written, so both may be the same memory. */
static snn_status readout(const snn_run_state *run, const snn_operation *op, uint32_t first_row, uint32_t end_row) {
    const uint32_t shift = op->as.readout.shift;
    int32_t *change = (int32_t *)(void *)run->scratch;
    for (uint32_t y = first_row; y < end_row && y < run->tile->height; y++) {
        for (uint32_t x = 0; x < run->tile->width; x++) {
            const size_t at = ((size_t)y * run->tile->width + x) * 3;
            memset(change, 0, 3 * sizeof *change);
            for (uint32_t i = 0; i < op->terms; i++)
                snn_add_term(run, &run->plan->terms[op->first_term + i], 0, y, x, change);
            for (uint32_t c = 0; c < 3; c++) {
                const int32_t by = snn_add(change[c], (int32_t)((1u << shift) >> 1)) >> shift;
                /* A change beyond 255 either way saturates, so that the sum below stays small. */
                run->job->restored[at + c] =
                    (uint8_t)snn_clip(run->job->picture[at + c] + snn_clip(by, -255, 255), 0, 255);
            }
        }
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

/* Of an operation's output. */
static uint32_t scale_of(const snn_plan *plan, const snn_operation *op) {
    if (op->kind == SNN_READOUT) return 1;
    return plan->values[op->output != SNN_NONE ? op->output : op->spikes].scale;
}

static snn_status carry_out(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end) {
    switch (op->kind) {
    case SNN_IMAGE:
        return image(run, op, first, end);
    case SNN_PIXELS:
        return snn_pixels(run, op, first, end);
    case SNN_SPIKES:
        return spikes(run, op, first, end);
    case SNN_ATTEND:
        return snn_attend(run, op, first, end);
    default:
        return readout(run, op, first, end);
    }
}

static void trace_output(const snn_run_state *run, uint32_t index, size_t room) {
    if (index == SNN_NONE) return;
    const snn_value *value = &run->plan->values[index];
    if (run->job->trace) snn_trace(run, value, run->job->trace + (size_t)value->layer * run->plan->time_steps);
    snn_probe *probe = run->job->probe;
    if (probe && probe->layer == value->layer) snn_look(run, value, probe, room);
}

static snn_status run_at_once(const snn_run_state *run) {
    const snn_plan *plan = run->plan;
    snn_probe *probe = run->job->probe;
    const size_t room = probe ? probe->count : 0;
    if (probe) probe->count = 0;
    for (uint32_t i = 0; i < plan->header->operations; i++) {
        const snn_operation *op = &plan->operations[i];
        const snn_status status = carry_out(run, op, 0, run->rows / scale_of(plan, op));
        if (status) return status;
        trace_output(run, op->output, room);
        trace_output(run, op->spikes, room);
    }
    return SNN_OK;
}

/* Rows that an operation has done when `bands` bands are, and what it does ahead of them; bands may be negative. */
static uint32_t rows_done(const snn_run_state *run, const snn_operation *op, int64_t bands) {
    const uint32_t scale = scale_of(run->plan, op);
    const int64_t rows = bands * (run->plan->align / scale) + op->lead, all = run->rows / scale;
    return (uint32_t)(rows < 0 ? 0 : rows > all ? all : rows);
}

/* Every operation does its rows of a band of `align` pixels and, so that those that follow have what they read, `lead`
 * more. Before the first band whole bands are worked on ahead. */
static snn_status run_by_rows(const snn_run_state *run) {
    const snn_plan *plan = run->plan;
    uint32_t ahead = 0;
    for (uint32_t i = 0; i < plan->header->operations; i++) {
        const snn_operation *op = &plan->operations[i];
        const uint32_t bands = snn_ceil_div(op->lead, plan->align / scale_of(plan, op));
        if (bands > ahead) ahead = bands;
    }
    const int64_t last = snn_ceil_div(run->rows, plan->align);
    for (int64_t band = -(int64_t)ahead; band < last; band++) {
        for (uint32_t i = 0; i < plan->header->operations; i++) {
            const snn_operation *op = &plan->operations[i];
            const uint32_t first = rows_done(run, op, band), end = rows_done(run, op, band + 1);
            const snn_status status = first < end ? carry_out(run, op, first, end) : SNN_OK;
            if (status) return status;
        }
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

snn_status snn_run(const snn_plan *plan, const snn_tile *tile, const snn_job *job) {
    snn_run_state run = {.plan = plan, .tile = tile, .job = job, .arena = job->memory};
    size_t needed;
    if ((uintptr_t)job->memory % 8) return SNN_ALIGNMENT;
    const snn_status status = measure(plan, tile, job->mode, &run, &needed);
    if (status) return status;
    if (job->memory_bytes < needed) return SNN_MEMORY;
    if (run.by_rows && (job->trace || job->probe)) return SNN_MODE;
    memset(job->counts, 0, plan->layers * sizeof *job->counts);
    if (job->trace) memset(job->trace, 0, (size_t)plan->layers * plan->time_steps * sizeof *job->trace);
    for (uint32_t i = 0; i < plan->header->operations; i++) {
        const snn_operation *op = &plan->operations[i];
        const uint64_t macs = snn_macs(plan, op, tile->image_height, tile->image_width);
        if (macs) job->counts[op->kind == SNN_PIXELS ? op->as.pixels.head_layer : op->layer].macs = macs;
    }
    return run.by_rows ? run_by_rows(&run) : run_at_once(&run);
}
