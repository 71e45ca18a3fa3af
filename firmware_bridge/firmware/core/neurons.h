/* Neurons: currents in, spikes out. */
#ifndef SNN_NEURONS_H
#define SNN_NEURONS_H

#include "plan.h"

/* One per channel, the same at every position. bias, leak: of leaky integrate-and-fire neurons; level: of those that
 * integrate a window before they fire, threshold - bias. */
typedef struct {
    const int32_t *threshold, *bias, *level;
    const uint8_t *leak;
} snn_neurons;

/* Whether the record's neurons are in range and fit the value that gets their spikes. */
snn_status snn_check_neurons(const snn_plan *plan, const snn_operation *op, const snn_value *spikes);

snn_neurons snn_neurons_of(const snn_plan *plan, const snn_operation *op);

/* Runs all neurons of a position and stores their spikes; returns how many there were. current[t * stride + c]: stride
 * 0 if it is the same at every step. words[t * pitch ...]: the spikes of step t, as bits; of window neurons digit t of
 * how many spikes each has, the lowest first. */
uint32_t snn_fire(const snn_operation *op, const snn_neurons *n, const int32_t *current, uint32_t stride,
                  uint32_t steps, uint32_t *words, uint32_t pitch);

#endif
