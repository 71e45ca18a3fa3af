/* The first and the last operation: the picture becomes numbers, and numbers change the picture. */
#include <string.h>

#include "check.h"
#include "number.h"
#include "operation.h"

static snn_status check_image(const snn_plan *plan, const snn_operation *op) {
    const snn_value *out = snn_value_at(plan, op->output);
    const uint32_t factor = op->as.image.factor;
    if (!out || snn_is_spikes(out) || out->steps != 1 || !snn_within(factor, 1, 8) || out->scale != factor ||
        out->channels != 3 * factor * factor)
        return SNN_OPERATION;
    return SNN_OK;
}

/* The picture as numbers, grey level - 128, in blocks of factor x factor pixels; replicate-padded right and bottom. */
static snn_status run_image(const snn_run_state *run, const snn_operation *op, uint32_t first_row,
                            uint32_t end_row) {
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

const snn_operation_kind snn_image = {.check = check_image, .run = run_image};

static snn_status check_readout(const snn_plan *plan, const snn_operation *op) {
    if (op->channels != 3 || op->as.readout.shift > 30 || op->output != SNN_NONE || op->spikes != SNN_NONE)
        return SNN_OPERATION;
    return snn_check_terms(plan, op, 1, 3, 1, NULL);
}

static uint64_t readout_scratch(const snn_plan *plan, const snn_operation *op, uint32_t columns) {
    (void)plan, (void)op, (void)columns;
    return 3 * sizeof(int32_t); /* one pixel's colours */
}

/* The restored picture; every pixel is read before it is written, so both may be the same memory. */
static snn_status run_readout(const snn_run_state *run, const snn_operation *op, uint32_t first_row,
                              uint32_t end_row) {
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

const snn_operation_kind snn_readout = {.check = check_readout, .scratch = readout_scratch, .run = run_readout};
