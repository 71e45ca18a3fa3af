/* Carries out a plan: its memory, and the operations in order. */
#include <string.h>

#include "number.h"
#include "operation.h"
#include "trace.h"

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

/* Where an operation's scratch starts: behind what is stored while it works. */
static uint64_t scratch_start(const snn_plan *plan, const snn_run_state *run, const snn_operation *op) {
    const uint64_t used = (uint64_t)run->units * (run->by_rows ? plan->header->row_unit : op->used);
    return (used + 7) & ~(uint64_t)7;
}

/* Bytes for all that is stored, and for what the operation that needs most takes besides. */
static snn_status needed_bytes(const snn_plan *plan, const snn_run_state *run, uint64_t *most) {
    *most = (uint64_t)run->units * (run->by_rows ? plan->header->row_unit : plan->header->unit);
    for (uint32_t i = 0; i < plan->header->operations; i++) {
        const snn_operation *op = &plan->operations[i];
        const snn_operation_kind *kind = snn_kind_of(op);
        if (!kind) return SNN_OPERATION;
        const uint64_t end = scratch_start(plan, run, op) + (kind->scratch ? kind->scratch(plan, op, run->columns) : 0);
        if (end > *most) *most = end;
    }
    return SNN_OK;
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
    run->units = (uint32_t)units;
    uint64_t total;
    const snn_status status = needed_bytes(plan, run, &total);
    if (status) return status;
    if (total > SIZE_MAX / 2) return SNN_TOO_LARGE;
    *bytes = (size_t)total;
    return SNN_OK;
}

snn_status snn_memory_size(const snn_plan *plan, const snn_tile *tile, snn_mode mode, size_t *bytes) {
    snn_run_state run = {.arena = NULL};
    return measure(plan, tile, mode, &run, bytes);
}

/* Of an operation's output; one that stores nothing writes the picture, in blocks. */
static uint32_t scale_of(const snn_plan *plan, const snn_operation *op) {
    const uint32_t written = op->output != SNN_NONE ? op->output : op->spikes;
    return written == SNN_NONE ? op->as.pixels.restores : plan->values[written].scale;
}

static snn_status carry_out(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end) {
    const snn_operation_kind *kind = snn_kind_of(op);
    snn_run_state own = *run;
    own.scratch = run->arena + (size_t)scratch_start(run->plan, run, op);
    return kind ? kind->run(&own, op, first, end) : SNN_OPERATION;
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
        const snn_operation_kind *kind = snn_kind_of(op);
        if (kind && kind->count) kind->count(plan, op, tile->image_height, tile->image_width, job->counts);
    }
    return run.by_rows ? run_by_rows(&run) : run_at_once(&run);
}
