#include "trace.h"

#include <string.h>

#include "blake2b.h"

static int32_t element(const snn_value *value, const uint8_t *position, uint32_t c) {
    const void *words = position;
    if (value->storage == SNN_BITS) return (int32_t)(((const uint32_t *)words)[c / 32] >> (c % 32) & 1u);
    return snn_number(value, position, c);
}

void snn_look(const snn_run_state *run, const snn_value *value, snn_probe *probe, size_t room) {
    const uint32_t rows = run->rows / value->scale, columns = run->columns / value->scale;
    if (probe->step >= value->steps || probe->channel >= value->channels || (uint64_t)rows * columns > room) return;
    int32_t *number = probe->numbers;
    for (uint32_t y = 0; y < rows; y++) {
        uint8_t *row = snn_row(run, value, y);
        for (uint32_t x = 0; x < columns; x++)
            *number++ = element(value, snn_position(run, value, row, probe->step, x), probe->channel);
    }
    probe->count = (size_t)rows * columns;
}

void snn_trace(const snn_run_state *run, const snn_value *value, uint64_t *hashes) {
    for (uint32_t t = 0; t < value->steps; t++) {
        snn_blake2b hash;
        uint8_t digest[8];
        snn_blake2b_start(&hash, sizeof digest);
        for (uint32_t c = 0; c < value->channels; c++)
            for (uint32_t y = 0; y < run->rows / value->scale; y++) {
                uint8_t *row = snn_row(run, value, y);
                for (uint32_t x = 0; x < run->columns / value->scale; x++) {
                    const int32_t number = element(value, snn_position(run, value, row, t, x), c);
                    snn_blake2b_add(&hash, &number, sizeof number);
                }
            }
        snn_blake2b_finish(&hash, digest);
        memcpy(&hashes[t], digest, sizeof digest);
    }
}
