/* The kernel of spiking convolutions: the weights of the synapses at which spikes arrive, added up. */
#ifndef SNN_ACCUMULATE_H
#define SNN_ACCUMULATE_H

#include <stdint.h>

/* Spikes that arrive one after the other. Number n adds the run of weights that starts n runs behind `weight`, which
 * itself may lie before the first weight. */
typedef struct {
    const uint16_t *events, *end; /* their numbers */
    const int16_t *weight;
    uint32_t doublings; /* of what the runs before have added up, before these are added */
} snn_volley;

/* sum[0..channels) += 2^shift times the weights of all volleys. Runs of weights are `pitch` long, of which `channels`
 * are added.
 *
 * The weights are added up modulo 2^16 (the host says how many spikes int16 holds), to the sum modulo 2^32. Fast where
 * pitch is even and weights start at words. */
void snn_accumulate(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels, uint32_t pitch,
                    uint32_t shift);

/* The same in plain C, whatever the machine has; what the fast versions must equal. */
void snn_accumulate_plain(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels,
                          uint32_t pitch, uint32_t shift);

#endif
