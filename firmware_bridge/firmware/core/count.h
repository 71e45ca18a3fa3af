/* Synapses that exist, border-exact, as simulator/statistics.py counts them. */
#ifndef SNN_COUNT_H
#define SNN_COUNT_H

#include "plan.h"

/* How often a spike at `place` (of the whole image, along one axis of `length` pixels, at `scale`) arrives. */
uint32_t snn_arrivals(const snn_projection *projection, uint32_t scale, uint32_t place, uint32_t length);

/* Pairs (input position, output position) that a kernel joins along one axis. */
uint64_t snn_taps(uint32_t inputs, uint32_t outputs, uint32_t kernel, uint32_t stride, uint32_t padding);

#endif
