#include "dot.h"

#include "machine_code.h"
#include "number.h"

/* Products of int16 fit int32; their sum is taken modulo 2^32. */
static int32_t products(const int16_t *restrict x, const int16_t *restrict w, uint32_t length) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < length; i++) sum += (uint32_t)(x[i] * w[i]);
    return (int32_t)sum;
}

/* One product after the other. */
static void plain_dot(int32_t *sum, uint32_t pitch, const snn_piece *pieces, uint32_t count, uint32_t length,
                      const int16_t *weight, uint32_t weights, uint32_t outputs, uint32_t positions, uint32_t step) {
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t o = 0; o < outputs; o++)
            for (uint32_t i = 0; i < count; i++) {
                const int16_t *w = weight + o * weights + pieces[i].weight;
                sum[p * pitch + o] = snn_add(sum[p * pitch + o], products(pieces[i].from + p * step, w, length));
            }
}

#if SNN_HELIUM || SNN_DSP

/* Two outputs at two positions: every number and every weight that is loaded is used twice. */
#if SNN_HELIUM

static void two_by_two(int32_t *one_sum, int32_t *other_sum, const snn_piece *pieces, uint32_t count, uint32_t length,
                       const int16_t *weight, uint32_t weights, uint32_t step) {
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (uint32_t i = 0; i < count; i++) {
        const int16_t *x = pieces[i].from, *y = x + step, *u = weight + pieces[i].weight, *v = u + weights;
        for (uint32_t some = length / 8; some > 0; some--, x += 8, y += 8, u += 8, v += 8) {
            const int16x8_t one = vldrhq_s16(x), other = vldrhq_s16(y);
            int16x8_t w = vldrhq_s16(u);
            a = vmladavaq_s16(a, one, w);
            c = vmladavaq_s16(c, other, w);
            w = vldrhq_s16(v);
            b = vmladavaq_s16(b, one, w);
            d = vmladavaq_s16(d, other, w);
        }
        if (length % 8) { /* numbers beyond the end count as 0 */
            const mve_pred16_t lanes = vctp16q(length % 8);
            const int16x8_t one = vldrhq_z_s16(x, lanes), other = vldrhq_z_s16(y, lanes);
            int16x8_t w = vldrhq_z_s16(u, lanes);
            a = vmladavaq_s16(a, one, w);
            c = vmladavaq_s16(c, other, w);
            w = vldrhq_z_s16(v, lanes);
            b = vmladavaq_s16(b, one, w);
            d = vmladavaq_s16(d, other, w);
        }
    }
    one_sum[0] = snn_add(one_sum[0], a), one_sum[1] = snn_add(one_sum[1], b);
    other_sum[0] = snn_add(other_sum[0], c), other_sum[1] = snn_add(other_sum[1], d);
}

static int fast(const snn_piece *pieces, uint32_t count, uint32_t length, const int16_t *weight, uint32_t weights,
                uint32_t step) {
    (void)pieces, (void)count, (void)length, (void)weight, (void)weights, (void)step;
    return 1;
}

#else

static void two_by_two(int32_t *one_sum, int32_t *other_sum, const snn_piece *pieces, uint32_t count, uint32_t length,
                       const int16_t *weight, uint32_t weights, uint32_t step) {
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (uint32_t i = 0; i < count; i++) {
        const int16_t *x = pieces[i].from, *y = x + step, *u = weight + pieces[i].weight, *v = u + weights;
#define FOUR                                                                                                       \
    {                                                                                                              \
        int32_t x0, x1, y0, y1, w0, w1;                                                                            \
        SNN_NEXT_TWO_WORDS(x0, x1, x);                                                                             \
        SNN_NEXT_TWO_WORDS(y0, y1, y);                                                                             \
        SNN_NEXT_TWO_WORDS(w0, w1, u);                                                                             \
        a = __smlad(x0, w0, a), a = __smlad(x1, w1, a);                                                            \
        c = __smlad(y0, w0, c), c = __smlad(y1, w1, c);                                                            \
        SNN_NEXT_TWO_WORDS(w0, w1, v);                                                                             \
        b = __smlad(x0, w0, b), b = __smlad(x1, w1, b);                                                            \
        d = __smlad(y0, w0, d), d = __smlad(y1, w1, d);                                                            \
    }
        for (const int16_t *const end = x + (length & ~7u); x != end;) {
            FOUR
            FOUR
        }
        if (length & 4) FOUR
        for (uint32_t rest = length % 4; rest > 0; rest--, x++, y++, u++, v++) {
            a = snn_add(a, *x * *u), b = snn_add(b, *x * *v);
            c = snn_add(c, *y * *u), d = snn_add(d, *y * *v);
        }
    }
    one_sum[0] = snn_add(one_sum[0], a), one_sum[1] = snn_add(one_sum[1], b);
    other_sum[0] = snn_add(other_sum[0], c), other_sum[1] = snn_add(other_sum[1], d);
}

/* Whether everything starts at words: lengths, steps and weights are then even. */
static int fast(const snn_piece *pieces, uint32_t count, uint32_t length, const int16_t *weight, uint32_t weights,
                uint32_t step) {
    uintptr_t odd = (uintptr_t)weight | 2 * (uintptr_t)(length | weights | step);
    for (uint32_t i = 0; i < count; i++) odd |= (uintptr_t)pieces[i].from | 2 * (uintptr_t)pieces[i].weight;
    return odd % 4 == 0;
}

#endif

void snn_dot(int32_t *sum, uint32_t pitch, const snn_piece *pieces, uint32_t count, uint32_t length,
             const int16_t *weight, uint32_t weights, uint32_t outputs, uint32_t positions, uint32_t step) {
    const uint32_t even = fast(pieces, count, length, weight, weights, step) ? outputs & ~1u : 0;
    for (uint32_t p = 0; p < positions && even; p += 2) {
        int32_t *to = sum + p * pitch, dropped[2] = {0, 0};
        snn_piece here[SNN_MOST_PIECES];
        for (uint32_t i = 0; i < count; i++) here[i] = (snn_piece){pieces[i].from + p * step, pieces[i].weight};
        const int alone = positions - p == 1; /* then the other is the same one, and what comes of it is dropped */
        for (uint32_t o = 0; o < even; o += 2)
            two_by_two(to + o, alone ? dropped : to + pitch + o, here, count, length, weight + o * weights, weights,
                       alone ? 0 : step);
    }
    plain_dot(sum + even, pitch, pieces, count, length, weight + even * weights, weights, outputs - even, positions,
              step);
}

#else

void snn_dot(int32_t *sum, uint32_t pitch, const snn_piece *pieces, uint32_t count, uint32_t length,
             const int16_t *weight, uint32_t weights, uint32_t outputs, uint32_t positions, uint32_t step) {
    plain_dot(sum, pitch, pieces, count, length, weight, weights, outputs, positions, step);
}

#endif
