#include "accumulate.h"

/* Blocks of channels whose currents stay in registers while the runs of all events are added; compilers turn the plain
 * loops into vector code. A block's size is a constant, so that they can. */
#define ADD_BLOCK(type, size, start, term)                                                                         \
    for (; channels - c >= (size); c += (size)) {                                                                  \
        type sum[size];                                                                                            \
        for (uint32_t i = 0; i < (size); i++) sum[i] = current[c + i];                                             \
        for (uint32_t e = 0; e < count; e++) {                                                                     \
            const int16_t *run = weight + (start) + c;                                                             \
            for (uint32_t i = 0; i < (size); i++) sum[i] = (type)((uint32_t)sum[i] + (term));                      \
        }                                                                                                          \
        for (uint32_t i = 0; i < (size); i++) current[c + i] = sum[i];                                             \
    }

void snn_accumulate16_plain(int16_t *restrict current, const int16_t *restrict weight, const uint32_t *restrict events,
                            uint32_t count, uint32_t channels) {
    uint32_t c = 0;
    ADD_BLOCK(int16_t, 32, events[e], (uint32_t)run[i])
    ADD_BLOCK(int16_t, 8, events[e], (uint32_t)run[i])
    ADD_BLOCK(int16_t, 2, events[e], (uint32_t)run[i])
}

void snn_accumulate32(int32_t *restrict current, const int16_t *restrict weight, const uint32_t *restrict events,
                      uint32_t count, uint32_t channels) {
    uint32_t c = 0;
    ADD_BLOCK(int32_t, 8, events[e], (uint32_t)run[i])
    ADD_BLOCK(int32_t, 2, events[e], (uint32_t)run[i])
}

#if defined(__ARM_FEATURE_MVE) && !defined(SNN_PLAIN)
#include <arm_mve.h>

/* Eight channels to a vector, four vectors at once. */
void snn_accumulate16(int16_t *restrict current, const int16_t *restrict weight, const uint32_t *restrict events,
                      uint32_t count, uint32_t channels) {
    uint32_t c = 0;
    for (; channels - c >= 32; c += 32) {
        int16x8_t a = vldrhq_s16(current + c), b = vldrhq_s16(current + c + 8);
        int16x8_t d = vldrhq_s16(current + c + 16), e = vldrhq_s16(current + c + 24);
        for (uint32_t i = 0; i < count; i++) {
            const int16_t *run = weight + events[i] + c;
            a = vaddq_s16(a, vldrhq_s16(run));
            b = vaddq_s16(b, vldrhq_s16(run + 8));
            d = vaddq_s16(d, vldrhq_s16(run + 16));
            e = vaddq_s16(e, vldrhq_s16(run + 24));
        }
        vstrhq_s16(current + c, a);
        vstrhq_s16(current + c + 8, b);
        vstrhq_s16(current + c + 16, d);
        vstrhq_s16(current + c + 24, e);
    }
    for (; c < channels; c += 8) { /* the last lanes are switched off where the channels end */
        mve_pred16_t lanes = vctp16q(channels - c);
        int16x8_t sum = vldrhq_z_s16(current + c, lanes);
        for (uint32_t i = 0; i < count; i++) sum = vaddq_s16(sum, vldrhq_z_s16(weight + events[i] + c, lanes));
        vstrhq_p_s16(current + c, sum, lanes);
    }
}

void snn_multiply_accumulate(int32_t *restrict current, const int16_t *restrict weight,
                             const snn_arrival *restrict arrivals, uint32_t count, uint32_t channels, int narrow) {
    (void)narrow;
    for (uint32_t c = 0; c < channels; c += 4) {
        const mve_pred16_t lanes = vctp32q(channels - c);
        int32x4_t sum = vldrwq_z_s32(current + c, lanes);
        for (uint32_t e = 0; e < count; e++)
            sum = vmlaq_n_s32(sum, vldrhq_z_s32(weight + arrivals[e].at + c, lanes), arrivals[e].factor);
        vstrwq_p_s32(current + c, sum, lanes);
    }
}

#elif defined(__ARM_FEATURE_SIMD32) && !defined(SNN_PLAIN)
#include <arm_acle.h>
#include <string.h>

static inline int16x2_t pair(const int16_t *at) {
    int16x2_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Two channels to a register, eight registers at once. */
void snn_accumulate16(int16_t *restrict current, const int16_t *restrict weight, const uint32_t *restrict events,
                      uint32_t count, uint32_t channels) {
    uint32_t c = 0;
    const uint32_t *const end = events + count;
    for (; channels - c >= 16; c += 16) {
        int16x2_t s0 = pair(current + c), s1 = pair(current + c + 2), s2 = pair(current + c + 4);
        int16x2_t s3 = pair(current + c + 6), s4 = pair(current + c + 8), s5 = pair(current + c + 10);
        int16x2_t s6 = pair(current + c + 12), s7 = pair(current + c + 14);
        const int16_t *const block = weight + c;
        for (const uint32_t *event = events; event != end; event++) {
            const int16_t *run = block + *event;
            s0 = __sadd16(s0, pair(run));
            s1 = __sadd16(s1, pair(run + 2));
            s2 = __sadd16(s2, pair(run + 4));
            s3 = __sadd16(s3, pair(run + 6));
            s4 = __sadd16(s4, pair(run + 8));
            s5 = __sadd16(s5, pair(run + 10));
            s6 = __sadd16(s6, pair(run + 12));
            s7 = __sadd16(s7, pair(run + 14));
        }
        memcpy(current + c, &s0, 4), memcpy(current + c + 2, &s1, 4), memcpy(current + c + 4, &s2, 4);
        memcpy(current + c + 6, &s3, 4), memcpy(current + c + 8, &s4, 4), memcpy(current + c + 10, &s5, 4);
        memcpy(current + c + 12, &s6, 4), memcpy(current + c + 14, &s7, 4);
    }
    for (; c < channels; c += 2) {
        int16x2_t sum = pair(current + c);
        for (const uint32_t *event = events; event != end; event++) sum = __sadd16(sum, pair(weight + *event + c));
        memcpy(current + c, &sum, 4);
    }
}

/* Two weights to a load, each half multiplied as it is. */
void snn_multiply_accumulate(int32_t *restrict current, const int16_t *restrict weight,
                             const snn_arrival *restrict arrivals, uint32_t count, uint32_t channels, int narrow) {
    uint32_t c = 0;
    for (; narrow && channels - c >= 8; c += 8) {
        int32_t s0 = current[c], s1 = current[c + 1], s2 = current[c + 2], s3 = current[c + 3];
        int32_t s4 = current[c + 4], s5 = current[c + 5], s6 = current[c + 6], s7 = current[c + 7];
        const int16_t *const block = weight + c;
        for (const snn_arrival *a = arrivals, *const end = arrivals + count; a != end; a++) {
            const int16_t *run = block + a->at;
            const int32_t x = a->factor;
            int32_t w = pair(run);
            s0 = __smlabb(x, w, s0);
            s1 = __smlabt(x, w, s1);
            w = pair(run + 2);
            s2 = __smlabb(x, w, s2);
            s3 = __smlabt(x, w, s3);
            w = pair(run + 4);
            s4 = __smlabb(x, w, s4);
            s5 = __smlabt(x, w, s5);
            w = pair(run + 6);
            s6 = __smlabb(x, w, s6);
            s7 = __smlabt(x, w, s7);
        }
        current[c] = s0, current[c + 1] = s1, current[c + 2] = s2, current[c + 3] = s3;
        current[c + 4] = s4, current[c + 5] = s5, current[c + 6] = s6, current[c + 7] = s7;
    }
    for (; narrow && channels - c >= 4; c += 4) {
        int32_t s0 = current[c], s1 = current[c + 1], s2 = current[c + 2], s3 = current[c + 3];
        for (uint32_t e = 0; e < count; e++) {
            const int16_t *run = weight + arrivals[e].at + c;
            const int32_t x = arrivals[e].factor, v = pair(run), w = pair(run + 2);
            s0 = __smlabb(x, v, s0);
            s1 = __smlabt(x, v, s1);
            s2 = __smlabb(x, w, s2);
            s3 = __smlabt(x, w, s3);
        }
        current[c] = s0, current[c + 1] = s1, current[c + 2] = s2, current[c + 3] = s3;
    }
    ADD_BLOCK(int32_t, 2, arrivals[e].at, (uint32_t)arrivals[e].factor * (uint32_t)run[i])
}

#else

void snn_multiply_accumulate(int32_t *restrict current, const int16_t *restrict weight,
                             const snn_arrival *restrict arrivals, uint32_t count, uint32_t channels, int narrow) {
    uint32_t c = 0;
    (void)narrow;
    ADD_BLOCK(int32_t, 8, arrivals[e].at, (uint32_t)arrivals[e].factor * (uint32_t)run[i])
    ADD_BLOCK(int32_t, 2, arrivals[e].at, (uint32_t)arrivals[e].factor * (uint32_t)run[i])
}

void snn_accumulate16(int16_t *restrict current, const int16_t *restrict weight, const uint32_t *restrict events,
                      uint32_t count, uint32_t channels) {
    snn_accumulate16_plain(current, weight, events, count, channels);
}

#endif
