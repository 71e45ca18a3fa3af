#include "value.h"

#include <string.h>

#include "arrays.h"
#include "number.h"

/* Channels first, first + step, ... of a position, `count` of them, added to sum[0], sum[apart], ... */
static void add_channels(const snn_value *value, const uint8_t *position, uint32_t first, uint32_t step, uint32_t count,
                         uint32_t shift, int32_t *sum, uint32_t apart) {
    for (uint32_t i = 0, c = first; i < count; i++, c += step, sum += apart)
        *sum = snn_add(*sum, snn_scaled(snn_number(value, position, c), shift));
}

/* `count` numbers side by side. */
static void add_numbers(const snn_value *value, const uint8_t *position, uint32_t count, uint32_t shift, int32_t *sum) {
    if (shift || value->storage == SNN_INT24)
        add_channels(value, position, 0, 1, count, shift, sum, 1);
    else if (value->storage == SNN_INT16)
        snn_add16(sum, (const int16_t *)(const void *)position, count);
    else
        snn_add32(sum, (const int32_t *)(const void *)position, count);
}

/* Every number of a block of factor x factor positions becomes a channel. */
static void add_block(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x,
                      int32_t *sum) {
    const snn_value *value = &run->plan->values[term->value];
    const uint32_t factor = term->factor, area = factor * factor;
    for (uint32_t dy = 0; dy < factor; dy++) {
        uint8_t *row = snn_row(run, value, y * factor + dy);
        for (uint32_t dx = 0; dx < factor; dx++)
            add_channels(value, snn_position(run, value, row, t, x * factor + dx), 0, 1, value->channels, term->shift,
                         sum + dy * factor + dx, area);
    }
}

void snn_add_term(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x, uint32_t count,
                  uint32_t channels, int32_t *sum) {
    const snn_value *value = &run->plan->values[term->value];
    const uint32_t factor = term->factor, area = factor * factor;
    sum += term->offset;
    if (term->mode == SNN_SPACE_TO_DEPTH) {
        for (uint32_t i = 0; i < count; i++) add_block(run, term, t, y, x + i, sum + i * channels);
        return;
    }
    uint8_t *row = snn_row(run, value, y / factor);
    if (term->mode == SNN_NEAREST && factor == 1 && value->channels == channels && value->storage != SNN_INT24) {
        add_numbers(value, snn_position(run, value, row, t, x), count * channels, term->shift, sum);
        return;
    }
    for (uint32_t i = 0; i < count; i++, sum += channels) {
        const uint8_t *position = snn_position(run, value, row, t, (x + i) / factor);
        if (term->mode == SNN_NEAREST)
            add_numbers(value, position, value->channels, term->shift, sum);
        else
            add_channels(value, position, y % factor * factor + (x + i) % factor, area, value->channels / area,
                         term->shift, sum, 1);
    }
}

void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x, uint32_t count,
             const int32_t *from) {
    const uint32_t channels = value->channels;
    uint8_t *position = snn_position(run, value, snn_row(run, value, y), t, x);
    if (value->storage == SNN_INT16) {
        snn_narrow((int16_t *)(void *)position, from, count * channels);
    } else if (value->storage == SNN_INT32) {
        memcpy(position, from, count * channels * sizeof *from);
    } else {
        for (; count > 0; count--, from += channels, position += 3 * (size_t)channels) {
            uint16_t *lower = (uint16_t *)(void *)position;
            for (uint32_t c = 0; c < channels; c++) lower[c] = (uint16_t)from[c];
            for (uint32_t c = 0; c < channels; c++) position[2 * (size_t)channels + c] = (uint8_t)(from[c] >> 16);
        }
    }
}
