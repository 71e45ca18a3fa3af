/* The accumulate kernel: the weights of the synapses at which spikes arrive, added to the currents of one position. */
#ifndef SNN_ACCUMULATE_H
#define SNN_ACCUMULATE_H

#include <stdint.h>

/* current[0..channels) += the runs of weights that start at weight[events[0..count)], each of them `channels` long.
 *
 * channels is even; currents and runs start at words. Sums are taken modulo 2^16 (the host proved that nothing
 * exceeds int16) and modulo 2^32. */
void snn_accumulate16(int16_t *current, const int16_t *weight, const uint32_t *events, uint32_t count,
                      uint32_t channels);
void snn_accumulate32(int32_t *current, const int16_t *weight, const uint32_t *events, uint32_t count,
                      uint32_t channels);

/* The same in plain C, whatever the machine has; what the fast versions must equal. */
void snn_accumulate16_plain(int16_t *current, const int16_t *weight, const uint32_t *events, uint32_t count,
                            uint32_t channels);

/* A number that arrives at a synapse, and where the weights that it is multiplied with start. */
typedef struct {
    uint32_t at;
    int32_t factor;
} snn_arrival;

/* current[0..channels) += factor times the run of weights at weight[at], for every arrival; modulo 2^32. narrow: all
 * factors fit int16. */
void snn_multiply_accumulate(int32_t *current, const int16_t *weight, const snn_arrival *arrivals, uint32_t count,
                             uint32_t channels, int narrow);


#endif
