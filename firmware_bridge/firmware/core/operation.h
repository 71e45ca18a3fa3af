/* What the core knows of each kind of operation.
 *
 * A new kind is a file of its own that defines an snn_operation_kind, its number and record in plan.h, and its line in
 * operation.c. An operation of any other kind is refused, when a plan is opened and when it is run. */
#ifndef SNN_OPERATION_H
#define SNN_OPERATION_H

#include "value.h"

typedef struct {
    /* Whether the record is in range and fits its values, terms and constants; layer, channels, lead, output and spikes
     * have been looked at. */
    snn_status (*check)(const snn_plan *plan, const snn_operation *op);
    /* Bytes of working memory for a picture of so many columns; NULL where there are none. */
    uint64_t (*scratch)(const snn_plan *plan, const snn_operation *op, uint32_t columns);
    /* Carries out rows [first, end). */
    snn_status (*run)(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end);
    /* Sets the MACs of the whole image in counts[layers]; NULL where there are none. */
    void (*count)(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width, snn_counts *counts);
} snn_operation_kind;

/* picture.c, pixels.c, spikes.c, attend.c */
extern const snn_operation_kind snn_image, snn_pixels, snn_spikes, snn_attend;

/* NULL for a kind that the core does not have. */
const snn_operation_kind *snn_kind_of(const snn_operation *op);

#endif
