/* The inner loop: the weights of the synapses at which spikes arrive, added to the currents of one position. */
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

/* "plain", "dsp" (Armv7E-M: two int16 per addition) or "helium" (M-profile vector extension: eight). */
extern const char *const snn_accumulate_name;

#endif
