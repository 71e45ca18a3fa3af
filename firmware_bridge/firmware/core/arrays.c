#include "arrays.h"

#include "machine_code.h"
#include "number.h"

#if SNN_HELIUM

void snn_add16(int32_t *restrict sum, const int16_t *restrict from, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 4) {
        const mve_pred16_t lanes = vctp32q(count - i);
        const int32x4_t more = vldrhq_z_s32(from + i, lanes);
        vstrwq_p_s32(sum + i, vaddq_s32(vldrwq_z_s32(sum + i, lanes), more), lanes);
    }
}

void snn_narrow(int16_t *restrict to, const int32_t *restrict from, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 4) {
        const mve_pred16_t lanes = vctp32q(count - i);
        vstrhq_p_s32(to + i, vldrwq_z_s32(from + i, lanes), lanes);
    }
}

void snn_round(int32_t *x, uint32_t count, uint32_t shift, int32_t lo, int32_t hi) {
    const int32_t half = (int32_t)((1u << shift) >> 1), right = -(int32_t)shift;
    const int32x4_t least = vdupq_n_s32(lo), most = vdupq_n_s32(hi);
    for (uint32_t i = 0; i < count; i += 4) {
        const mve_pred16_t lanes = vctp32q(count - i);
        int32x4_t y = vshlq_r_s32(vaddq_n_s32(vldrwq_z_s32(x + i, lanes), half), right);
        y = vminq_s32(vmaxq_s32(y, least), most);
        vstrwq_p_s32(x + i, y, lanes);
    }
}

#elif SNN_DSP

/* Four at a time; numbers may start at any multiple of their size. */
void snn_add16(int32_t *restrict sum, const int16_t *restrict from, uint32_t count) {
    int32_t *const end = sum + count, *const whole = sum + (count & ~3u);
    if ((uintptr_t)from % 4 == 0)
        while (sum != whole) {
            int32_t a, b;
            SNN_NEXT_TWO_WORDS(a, b, from);
            sum[0] = snn_add(sum[0], (int16_t)a), sum[1] = snn_add(sum[1], a >> 16);
            sum[2] = snn_add(sum[2], (int16_t)b), sum[3] = snn_add(sum[3], b >> 16);
            sum += 4;
        }
    while (sum != end) *sum = snn_add(*sum, *from++), sum++;
}

void snn_narrow(int16_t *restrict to, const int32_t *restrict from, uint32_t count) {
    const int32_t *const end = from + count, *const whole = from + (count & ~3u);
    if ((uintptr_t)to % 4 == 0)
        while (from != whole) {
            int32_t *words = (int32_t *)(void *)to;
            words[0] = snn_pair(from[0], from[1]);
            words[1] = snn_pair(from[2], from[3]);
            to += 4, from += 4;
        }
    while (from != end) *to++ = (int16_t)*from++;
}

#else

void snn_add16(int32_t *restrict sum, const int16_t *restrict from, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) sum[i] = snn_add(sum[i], from[i]);
}

void snn_narrow(int16_t *restrict to, const int32_t *restrict from, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) to[i] = (int16_t)from[i];
}

#endif

void snn_add32(int32_t *restrict sum, const int32_t *restrict from, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) sum[i] = snn_add(sum[i], from[i]);
}

#if !SNN_HELIUM
void snn_round(int32_t *x, uint32_t count, uint32_t shift, int32_t lo, int32_t hi) {
    for (uint32_t i = 0; i < count; i++) x[i] = snn_requantise(x[i], shift, lo, hi);
}
#endif
