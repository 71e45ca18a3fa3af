/* Synapses that exist, border-exact, as simulator/statistics.py counts them. */
#include "run.h"

uint32_t snn_arrivals(const snn_projection *p, uint32_t scale, uint32_t place, uint32_t length) {
    if (place >= snn_ceil_div(length, scale)) return 0; /* covers no real pixel */
    const uint64_t end = (uint64_t)snn_ceil_div(length, p->target_scale) * p->stride;
    uint32_t count = 0;
    for (uint32_t copy = 0; copy < p->factor; copy++) {
        const uint64_t at = (uint64_t)place * p->factor + copy + p->padding;
        for (uint32_t tap = 0; tap < p->kernel && tap <= at; tap++)
            count += (at - tap) % p->stride == 0 && at - tap < end;
    }
    return count;
}

/* Pairs (input position, output position) that a kernel joins along one axis. */
static uint64_t taps(uint32_t inputs, uint32_t outputs, uint32_t kernel, uint32_t stride, uint32_t padding) {
    uint64_t pairs = 0;
    for (uint32_t tap = 0; tap < kernel; tap++) {
        /* Outputs o with 0 <= o * stride + tap - padding < inputs. */
        const uint32_t first = padding > tap ? snn_ceil_div(padding - tap, stride) : 0;
        const uint32_t beyond = inputs + padding > tap ? snn_ceil_div(inputs + padding - tap, stride) : 0;
        const uint32_t end = beyond < outputs ? beyond : outputs;
        if (end > first) pairs += end - first;
    }
    return pairs;
}

static uint64_t dense_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    const snn_value *in = &plan->values[op->input];
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    const uint32_t scale = in->scale * stride;
    const uint64_t down = taps(snn_ceil_div(height, in->scale), snn_ceil_div(height, scale), kernel, stride, padding);
    const uint64_t across = taps(snn_ceil_div(width, in->scale), snn_ceil_div(width, scale), kernel, stride, padding);
    return down * across * in->channels * (op->channels / op->as.pixels.groups) * in->steps;
}

static uint64_t attend_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    const snn_value *in = &plan->values[op->input], *out = &plan->values[op->output];
    const uint32_t rows = snn_ceil_div(height, in->scale), columns = snn_ceil_div(width, in->scale);
    const uint64_t products = (uint64_t)rows * columns * op->channels * out->steps;
    if (op->as.attend.over == SNN_OVER_SPACE)
        return products + taps(rows, rows, 3, 1, 1) * taps(columns, columns, 3, 1, 1) * in->steps;
    const uint32_t size = op->as.attend.over == SNN_OVER_TIME ? plan->time_steps : op->channels;
    const uint64_t windows =
        (uint64_t)snn_ceil_div(rows, op->as.attend.window) * snn_ceil_div(columns, op->as.attend.window);
    return products + windows * 2 * size * op->as.attend.hidden;
}

uint64_t snn_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    if (op->kind == SNN_ATTEND) return attend_macs(plan, op, height, width);
    return op->kind == SNN_PIXELS && op->as.pixels.head == SNN_DENSE_CONV ? dense_macs(plan, op, height, width) : 0;
}
