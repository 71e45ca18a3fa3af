#include "count.h"

#include "number.h"

uint32_t snn_arrivals(const snn_projection *p, uint32_t scale, uint32_t place, uint32_t length) {
    if (place >= snn_ceil_div(length, scale)) return 0; /* covers no real pixel */
    const uint64_t end = (uint64_t)snn_ceil_div(length, p->target_scale) * p->stride;
    uint32_t count = 0;
    for (uint32_t copy = 0; copy < p->factor; copy++) {
        const uint64_t at = (uint64_t)place * p->factor + copy + p->padding;
        for (uint32_t tap = 0; tap < p->kernel * p->dilation && tap <= at; tap += p->dilation)
            count += (at - tap) % p->stride == 0 && at - tap < end;
    }
    return count;
}

uint64_t snn_taps(uint32_t inputs, uint32_t outputs, uint32_t kernel, uint32_t stride, uint32_t padding) {
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
