#include "picture.h"

#include "check.h"
#include "number.h"
#include "operation.h"

void snn_picture_row(const snn_run_state *run, uint32_t factor, uint32_t y, int16_t *to) {
    const snn_tile *tile = run->tile;
    const uint32_t area = factor * factor, blocks = run->columns / factor;
    for (uint32_t dy = 0; dy < factor; dy++) {
        const uint32_t wanted = y * factor + dy, row = wanted < tile->height ? wanted : tile->height - 1;
        const uint8_t *from = run->job->picture + (size_t)row * tile->width * 3, *last = from + (tile->width - 1) * 3;
        int16_t *block = to + dy * factor;
        for (uint32_t x = 0; x < blocks; x++, block += 3 * area)
            for (uint32_t dx = 0; dx < factor; dx++) {
                block[dx] = (int16_t)(from[0] - 128);
                block[area + dx] = (int16_t)(from[1] - 128);
                block[2 * area + dx] = (int16_t)(from[2] - 128);
                if (from < last) from += 3;
            }
    }
}

void snn_restore(const snn_run_state *run, uint32_t factor, uint32_t shift, uint32_t y, uint32_t x, uint32_t count,
                 const int32_t *change) {
    const snn_tile *tile = run->tile;
    for (uint32_t dy = 0; dy < factor; dy++) {
        const uint32_t row = y * factor + dy, left = x * factor;
        if (row >= tile->height) return;
        const uint32_t end = tile->width - left < count * factor ? tile->width - left : count * factor;
        size_t at = ((size_t)row * tile->width + left) * 3;
        for (uint32_t i = 0; i < end; i++)
            for (uint32_t colour = 0; colour < 3; colour++, at++) {
                const int32_t by = change[((i / factor * 3 + colour) * factor + dy) * factor + i % factor];
                /* A change beyond 255 either way saturates, so that the sum below stays small. */
                const int32_t rounded = snn_requantise(by, shift, -255, 255);
                run->job->restored[at] = (uint8_t)snn_clip(run->job->picture[at] + rounded, 0, 255);
            }
    }
}

static snn_status check_image(const snn_plan *plan, const snn_operation *op) {
    const snn_value *out = snn_value_at(plan, op->output);
    const uint32_t factor = op->as.image.factor;
    if (!out || out->storage != SNN_INT16 || out->steps != 1 || !snn_within(factor, 1, 8) || out->scale != factor ||
        out->channels != 3 * factor * factor)
        return SNN_OPERATION;
    return SNN_OK;
}

static snn_status run_image(const snn_run_state *run, const snn_operation *op, uint32_t first_row,
                            uint32_t end_row) {
    const snn_value *out = &run->plan->values[op->output];
    for (uint32_t y = first_row; y < end_row; y++) {
        snn_picture_row(run, op->as.image.factor, y, (int16_t *)(void *)snn_row(run, out, y));
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

const snn_operation_kind snn_image = {.check = check_image, .run = run_image};
