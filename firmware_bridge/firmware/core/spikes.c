/* Spikes that are only moved. */
#include <string.h>

#include "check.h"
#include "operation.h"

static snn_status check_spikes(const snn_plan *plan, const snn_operation *op) {
    const snn_value *spikes = snn_value_at(plan, op->spikes);
    if (!spikes || !snn_is_spikes(spikes) || op->output != SNN_NONE) return SNN_OPERATION;
    return snn_check_terms(plan, op, spikes->scale, spikes->channels, spikes->steps, spikes);
}

/* Spikes enlarged, or side by side. */
static snn_status run_spikes(const snn_run_state *run, const snn_operation *op, uint32_t first_row,
                             uint32_t end_row) {
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

const snn_operation_kind snn_spikes = {.check = check_spikes, .run = run_spikes};
