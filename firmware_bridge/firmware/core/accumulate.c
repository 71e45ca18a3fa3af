#include "accumulate.h"

#include "machine_code.h"
#include "number.h"

/* Blocks of channels whose currents stay in registers while all volleys are added; compilers turn the plain loops into
 * vector code. A block's size is a constant, so that they can. */
#define PLAIN_BLOCK(size)                                                                                          \
    for (; channels - c >= (size); c += (size)) {                                                                  \
        int16_t current[size] = {0};                                                                               \
        for (uint32_t a = 0; a < count; a++) {                                                                     \
            for (uint32_t i = 0; i < (size) && volleys[a].doublings; i++)                                         \
                current[i] = (int16_t)snn_scaled(current[i], volleys[a].doublings);                               \
            for (const uint16_t *event = volleys[a].events; event != volleys[a].end; event++) {                  \
                const int16_t *run = volleys[a].weight + (uint32_t)*event * pitch + c;                            \
                for (uint32_t i = 0; i < (size); i++) current[i] = (int16_t)((uint32_t)current[i] + (uint32_t)run[i]); \
            }                                                                                                      \
        }                                                                                                          \
        for (uint32_t i = 0; i < (size); i++) sum[c + i] = snn_add(sum[c + i], snn_scaled(current[i], shift));      \
    }

/* Channels from c on. */
static __attribute__((noinline)) void plain_from(uint32_t c, int32_t *restrict sum, const snn_volley *restrict volleys,
                                                 uint32_t count, uint32_t channels, uint32_t pitch, uint32_t shift) {
    PLAIN_BLOCK(32)
    PLAIN_BLOCK(8)
    PLAIN_BLOCK(2)
    PLAIN_BLOCK(1)
}

void snn_accumulate_plain(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels,
                          uint32_t pitch, uint32_t shift) {
    plain_from(0, sum, volleys, count, channels, pitch, shift);
}

#if SNN_HELIUM

/* sum[0..8) += current << shift; by way of memory, which widens as it is read */
static inline void add_wide(int32_t *sum, int16x8_t current, int32_t shift) {
    int16_t narrow[8];
    vstrhq_s16(narrow, current);
    for (uint32_t i = 0; i < 8; i += 4) {
        int32x4_t wide = vldrhq_s32(narrow + i);
        if (shift) wide = vshlq_r_s32(wide, shift);
        vstrwq_s32(sum + i, vaddq_s32(vldrwq_s32(sum + i), wide));
    }
}

/* Channels of all volleys added in `vectors` registers of eight, which is a constant where this is called. */
static inline __attribute__((always_inline)) void add_vectors(int32_t *sum, const snn_volley *volleys, uint32_t count,
                                                              uint32_t c, uint32_t pitch, uint32_t shift,
                                                              uint32_t vectors) {
    int16x8_t k = vdupq_n_s16(0), l = k, m = k, n = k;
    for (const snn_volley *v = volleys, *const last = volleys + count; v != last; v++) {
        const int16_t *const weight = v->weight + c;
        const int32_t by = (int32_t)v->doublings;
        if (by) {
            k = vshlq_r_s16(k, by);
            if (vectors > 1) l = vshlq_r_s16(l, by);
            if (vectors > 2) m = vshlq_r_s16(m, by), n = vshlq_r_s16(n, by);
        }
        const uint16_t *event = v->events;
        for (int32_t some = (int32_t)(v->end - event); some > 0; some--) {
            const int16_t *run = weight + (uint32_t)*event++ * pitch;
            k = vaddq_s16(k, vldrhq_s16(run));
            if (vectors > 1) l = vaddq_s16(l, vldrhq_s16(run + 8));
            if (vectors > 2) m = vaddq_s16(m, vldrhq_s16(run + 16)), n = vaddq_s16(n, vldrhq_s16(run + 24));
        }
    }
    add_wide(sum, k, (int32_t)shift);
    if (vectors > 1) add_wide(sum + 8, l, (int32_t)shift);
    if (vectors > 2) add_wide(sum + 16, m, (int32_t)shift), add_wide(sum + 24, n, (int32_t)shift);
}

#define VECTORS(name, vectors)                                                                                     \
    static __attribute__((noinline)) void name(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t c, \
                                               uint32_t pitch, uint32_t shift) {                                   \
        add_vectors(sum, volleys, count, c, pitch, shift, vectors);                                                \
    }
VECTORS(one_vector, 1)
VECTORS(two_vectors, 2)
VECTORS(four_vectors, 4)

void snn_accumulate(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels, uint32_t pitch,
                    uint32_t shift) {
    uint32_t c = 0;
    for (; channels - c >= 32; c += 32) four_vectors(sum + c, volleys, count, c, pitch, shift);
    for (; channels - c >= 16; c += 16) two_vectors(sum + c, volleys, count, c, pitch, shift);
    for (; channels - c >= 8; c += 8) one_vector(sum + c, volleys, count, c, pitch, shift);
    if (c < channels) plain_from(c, sum, volleys, count, channels, pitch, shift);
}

#elif SNN_DSP

#define EIGHT(what) what(s0) what(s1) what(s2) what(s3)
#define SIXTEEN(what) EIGHT(what) what(s4) what(s5) what(s6) what(s7)
#define CLEAR(s) int16x2_t s = 0;
#define DOUBLE(s) s = __sadd16(s, s);
#define WIDEN(s)                                                                                                   \
    sum[0] = snn_add(sum[0], snn_scaled((int16_t)s, shift)), sum[1] = snn_add(sum[1], snn_scaled(s >> 16, shift));  \
    sum += 2;
#define ADD(one, other, offset)                                                                                    \
    {                                                                                                              \
        int32_t low, high;                                                                                         \
        SNN_TWO_WORDS(low, high, run, offset);                                                                     \
        one = __sadd16(one, low), other = __sadd16(other, high);                                                   \
    }
#define ADD_EIGHT ADD(s0, s1, 0) ADD(s2, s3, 8)
#define ADD_SIXTEEN ADD_EIGHT ADD(s4, s5, 16) ADD(s6, s7, 24)

/* Channels, two to a register, which all stay there. start: of event e's run, from `weight`. */
#define BLOCK(name, each, add, start)                                                                              \
    static __attribute__((noinline)) void name(int32_t *restrict sum, const snn_volley *volleys, uint32_t count,   \
                                               uint32_t c, uint32_t pitch, uint32_t shift) {                       \
        each(CLEAR)                                                                                                \
        (void)pitch;                                                                                               \
        for (const snn_volley *v = volleys, *const last = volleys + count; v != last; v++) {                       \
            const int16_t *const weight = v->weight + c;                                                           \
            for (uint32_t i = v->doublings; i; i--) {                                                              \
                each(DOUBLE)                                                                                       \
            }                                                                                                      \
            for (const uint16_t *event = v->events, *const end = v->end; event != end;) {                          \
                const uint32_t e = *event++;                                                                       \
                const int16_t *const run = weight + (start);                                                       \
                add                                                                                                \
            }                                                                                                      \
        }                                                                                                          \
        if (shift) {                                                                                               \
            each(WIDEN)                                                                                            \
        } else {                                                                                                   \
            shift = 0; /* known to the compiler from here on */                                                    \
            each(WIDEN)                                                                                            \
        }                                                                                                          \
    }
BLOCK(sixteen_of_16, SIXTEEN, ADD_SIXTEEN, e << 4)
BLOCK(sixteen_of_32, SIXTEEN, ADD_SIXTEEN, e << 5)
BLOCK(sixteen_of_any, SIXTEEN, ADD_SIXTEEN, e * pitch)
BLOCK(eight_of_any, EIGHT, ADD_EIGHT, e * pitch)

void snn_accumulate(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels, uint32_t pitch,
                    uint32_t shift) {
    uint32_t c = 0;
    if (pitch % 2 == 0 && (uintptr_t)volleys->weight % 4 == 0) {
        for (; channels - c >= 16; c += 16)
            (pitch == 16   ? sixteen_of_16
             : pitch == 32 ? sixteen_of_32
                           : sixteen_of_any)(sum + c, volleys, count, c, pitch, shift);
        for (; channels - c >= 8; c += 8) eight_of_any(sum + c, volleys, count, c, pitch, shift);
    }
    if (c < channels) plain_from(c, sum, volleys, count, channels, pitch, shift);
}

#else

void snn_accumulate(int32_t *sum, const snn_volley *volleys, uint32_t count, uint32_t channels, uint32_t pitch,
                    uint32_t shift) {
    plain_from(0, sum, volleys, count, channels, pitch, shift);
}

#endif
