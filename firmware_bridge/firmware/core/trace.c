#include "trace.h"

#include <string.h>

#include "blake2b.h"

/* Steps of a value, whatever is stored of it. */
static uint32_t steps_of(const snn_run_state *run, const snn_value *value) {
    return value->storage == SNN_COUNTS ? run->plan->time_steps : value->steps;
}

static int32_t bit(const snn_run_state *run, const snn_value *value, uint8_t *row, uint32_t plane, uint32_t x,
                   uint32_t c) {
    const uint32_t *words = (const void *)snn_position(run, value, row, plane, x);
    return (int32_t)(words[c / 32] >> c % 32 & 1u);
}

/* Of a window's spikes: a neuron with k of them fires at its first k steps. */
static int32_t element(const snn_run_state *run, const snn_value *value, uint8_t *row, uint32_t t, uint32_t x,
                       uint32_t c) {
    if (value->storage == SNN_BITS) return bit(run, value, row, t, x, c);
    if (value->storage != SNN_COUNTS) return snn_number(value, snn_position(run, value, row, t, x), c);
    uint32_t count = 0;
    for (uint32_t digit = 0; digit < value->steps; digit++)
        count |= (uint32_t)bit(run, value, row, digit, x, c) << digit;
    return t < count;
}

void snn_look(const snn_run_state *run, const snn_value *value, snn_probe *probe, size_t room) {
    const uint32_t rows = run->rows / value->scale, columns = run->columns / value->scale;
    if (probe->step >= steps_of(run, value) || probe->channel >= value->channels || (uint64_t)rows * columns > room) return;
    int32_t *number = probe->numbers;
    for (uint32_t y = 0; y < rows; y++) {
        uint8_t *row = snn_row(run, value, y);
        for (uint32_t x = 0; x < columns; x++)
            *number++ = element(run, value, row, probe->step, x, probe->channel);
    }
    probe->count = (size_t)rows * columns;
}

void snn_trace(const snn_run_state *run, const snn_value *value, uint64_t *hashes) {
    for (uint32_t t = 0; t < steps_of(run, value); t++) {
        snn_blake2b hash;
        uint8_t digest[8];
        snn_blake2b_start(&hash, sizeof digest);
        for (uint32_t c = 0; c < value->channels; c++)
            for (uint32_t y = 0; y < run->rows / value->scale; y++) {
                uint8_t *row = snn_row(run, value, y);
                for (uint32_t x = 0; x < run->columns / value->scale; x++) {
                    const int32_t number = element(run, value, row, t, x, c);
                    snn_blake2b_add(&hash, &number, sizeof number);
                }
            }
        snn_blake2b_finish(&hash, digest);
        memcpy(&hashes[t], digest, sizeof digest);
    }
}
