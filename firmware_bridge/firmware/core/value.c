#include "value.h"

#include <string.h>

#include "number.h"

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

void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x,
             const int32_t *from) {
    void *position = snn_position(run, value, snn_row(run, value, y), t, x);
    if (value->storage == SNN_INT16) {
        int16_t *to = position;
        for (uint32_t c = 0; c < value->channels; c++) to[c] = (int16_t)from[c];
    } else {
        memcpy(position, from, value->channels * sizeof *from);
    }
}
