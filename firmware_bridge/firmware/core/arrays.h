/* Loops over numbers that lie side by side: of the channels of one position or of several. Each has a plain form and,
 * where the machine has them, one with DSP or Helium instructions; all give the same bits. */
#ifndef SNN_ARRAYS_H
#define SNN_ARRAYS_H

#include <stdint.h>

/* sum[i] += from[i], for i below count; modulo 2^32. */
void snn_add16(int32_t *sum, const int16_t *from, uint32_t count);
void snn_add32(int32_t *sum, const int32_t *from, uint32_t count);

/* to[i] = from[i], of which the host proved that they fit. */
void snn_narrow(int16_t *to, const int32_t *from, uint32_t count);

/* The one rounding, see snn_requantise. */
void snn_round(int32_t *x, uint32_t count, uint32_t shift, int32_t lo, int32_t hi);

#endif
