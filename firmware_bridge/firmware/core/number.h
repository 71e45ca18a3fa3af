/* The arithmetic of the numerics contract. */
#ifndef SNN_NUMBER_H
#define SNN_NUMBER_H

#include <stdint.h>

/* Sums are taken modulo 2^32: the host proved that none leaves int32, and a hostile plan does no harm. */
static inline int32_t snn_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
static inline int32_t snn_times(int32_t a, int32_t b) { return (int32_t)((uint32_t)a * (uint32_t)b); }
static inline int32_t snn_scaled(int32_t a, uint32_t shift) { return (int32_t)((uint32_t)a << shift); }

static inline int32_t snn_clip(int32_t x, int32_t lo, int32_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* The one rounding: floor((x + half) / 2^shift), clipped. */
static inline int32_t snn_requantise(int32_t x, uint32_t shift, int32_t lo, int32_t hi) {
    return snn_clip(snn_add(x, (int32_t)((1u << shift) >> 1)) >> shift, lo, hi);
}

static inline uint32_t snn_ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

#endif
