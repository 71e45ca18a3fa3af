/* Which instructions the machine has beyond C, and loads that compilers do not make by themselves. */
#ifndef SNN_MACHINE_CODE_H
#define SNN_MACHINE_CODE_H

#include <stdint.h>

#if defined(__ARM_FEATURE_MVE) && !defined(SNN_PLAIN)
#define SNN_HELIUM 1
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_SIMD32) && __ARM_ARCH_PROFILE == 'M' && !defined(SNN_PLAIN)
#define SNN_DSP 1
#include <arm_acle.h>

/* Two words at `offset` bytes from `at`, a multiple of 4, in one instruction. The compiler does not see that memory is
 * read, so this is for functions that write nothing there. */
#define SNN_TWO_WORDS(first, second, at, offset)                                                                   \
    __asm("ldrd %0, %1, [%2, %3]" : "=&r"(first), "=r"(second) : "r"(at), "i"(offset))
/* The same, at `at`, which then moves on behind them. */
#define SNN_NEXT_TWO_WORDS(first, second, at) __asm("ldrd %0, %1, [%2], #8" : "=&r"(first), "=&r"(second), "+r"(at))

/* Two int16 that lie side by side, in one word. */
static inline int32_t snn_pair(int32_t low, int32_t high) {
    return (int32_t)(((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16);
}
#endif

#endif
