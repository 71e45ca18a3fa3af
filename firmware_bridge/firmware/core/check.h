/* What the checks of records share. */
#ifndef SNN_CHECK_H
#define SNN_CHECK_H

#include "plan.h"

static inline int snn_power_of_two(uint32_t x) { return x && !(x & (x - 1)); }
static inline int snn_within(uint32_t x, uint32_t least, uint32_t most) { return least <= x && x <= most; }

/* Whether an array of constants lies within the plan. */
int snn_has(const snn_plan *plan, uint32_t offset, uint64_t count, uint32_t item);

/* A stored value, NULL beyond the last one. */
const snn_value *snn_value_at(const snn_plan *plan, uint32_t index);

/* Terms of an operation at `scale` with `channels` that does `steps` steps. spikes: NULL, or the value of spikes that
 * they are copied to, stored as they are. */
snn_status snn_check_terms(const snn_plan *plan, const snn_operation *op, uint32_t scale, uint32_t channels,
                           uint32_t steps, const snn_value *spikes);

#endif
