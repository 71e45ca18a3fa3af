#include "neurons.h"

#include "check.h"
#include "machine_code.h"
#include "number.h"

static const int32_t *constant32(const snn_plan *plan, uint32_t offset) {
    return (const int32_t *)(const void *)(plan->constants + offset);
}

snn_status snn_check_neurons(const snn_plan *plan, const snn_operation *op, const snn_value *spikes) {
    const uint32_t first = op->as.pixels.first_projection, count = op->as.pixels.projections;
    if (spikes->channels != op->channels || op->as.pixels.neuron_layer >= plan->layers) return SNN_OPERATION;
    if (first > plan->header->projections || count > plan->header->projections - first) return SNN_OPERATION;
    if (op->as.pixels.fine > (op->as.pixels.neurons == SNN_LIF ? 16 : 0)) return SNN_OPERATION;
    if (!snn_has(plan, op->as.pixels.threshold, op->channels, 4)) return SNN_CONSTANT;
    if (op->as.pixels.neurons == SNN_WINDOW) {
        /* All that drives them is there at once: a static value, or a sum over time. */
        if (spikes->storage != SNN_COUNTS) return SNN_OPERATION;
        if (op->as.pixels.steps != 1 && !op->as.pixels.time_sum) return SNN_OPERATION;
        if (!snn_has(plan, op->as.pixels.level, op->channels, 4)) return SNN_CONSTANT;
        for (uint32_t c = 0; c < op->channels; c++)
            if (constant32(plan, op->as.pixels.threshold)[c] < 1) return SNN_CONSTANT;
        return SNN_OK;
    }
    if (op->as.pixels.neurons != SNN_LIF || op->as.pixels.decay > 1 || op->as.pixels.subtract > 1) return SNN_OPERATION;
    if (spikes->storage != SNN_BITS || spikes->steps != plan->time_steps) return SNN_OPERATION;
    if (!snn_has(plan, op->as.pixels.lif_bias, op->channels, 4) || !snn_has(plan, op->as.pixels.leak, op->channels, 1))
        return SNN_CONSTANT;
    for (uint32_t c = 0; c < op->channels; c++)
        if (plan->constants[op->as.pixels.leak + c] > 15) return SNN_CONSTANT;
    return SNN_OK;
}

snn_neurons snn_neurons_of(const snn_plan *plan, const snn_operation *op) {
    const int window = op->as.pixels.neurons == SNN_WINDOW;
    return (snn_neurons){
        .threshold = constant32(plan, op->as.pixels.threshold),
        .bias = window ? NULL : constant32(plan, op->as.pixels.lif_bias),
        .leak = window ? NULL : plan->constants + op->as.pixels.leak,
        .level = window ? constant32(plan, op->as.pixels.level) : NULL,
    };
}

/* Up to 32 neurons at one position. current[t * stride + i]: I of neuron i; stride 0 if it is the same at every step.
 * words[t * pitch]: their spikes. */
typedef struct {
    const int32_t *current, *threshold, *bias;
    const uint8_t *leak;
    uint32_t *words;
    uint32_t stride, pitch, count, steps;
} population;

/* All steps of each neuron: v <- leak(v) + I + b, a spike where v >= threshold, reset. With everything but the
 * population constant, `bits` and `v` are registers. */
static inline __attribute__((always_inline)) void run_neurons(const population *n, uint32_t *bits, uint32_t steps,
                                                              int decay, int subtract) {
    const int32_t *current = n->current, *thresholds = n->threshold, *biases = n->bias;
    const uint8_t *leaks = n->leak, *const end = leaks + n->count;
    const uint32_t stride = n->stride;
    uint32_t bit = 1;
    for (uint32_t t = 0; t < steps; t++) bits[t] = 0;
    for (; leaks != end; current++, bit <<= 1) {
        const int32_t threshold = *thresholds++, bias = *biases++;
        const uint32_t leak = *leaks++;
        const int32_t *at = current;
        int32_t v = 0;
        for (uint32_t t = 0; t < steps; t++, at += stride) {
            const int32_t kept = v >> leak;
            v = decay ? (int32_t)((uint32_t)v - (uint32_t)kept) : kept;
            v = snn_add(snn_add(v, *at), bias);
            if (v >= threshold) {
                bits[t] |= bit;
                v = subtract ? (int32_t)((uint32_t)v - (uint32_t)threshold) : 0;
            }
        }
    }
    for (uint32_t t = 0; t < steps; t++) n->words[t * n->pitch] = bits[t];
}

/* The usual number of steps is known to the compiler. */
#define NEURONS(name, decay, subtract)                                                                             \
    static __attribute__((noinline)) void name(const population *n) {                                              \
        if (n->steps == 4) {                                                                                       \
            uint32_t bits[4];                                                                                      \
            run_neurons(n, bits, 4, decay, subtract);                                                              \
        } else {                                                                                                   \
            uint32_t bits[SNN_MAX_STEPS];                                                                          \
            run_neurons(n, bits, n->steps, decay, subtract);                                                       \
        }                                                                                                          \
    }
NEURONS(shift_to_zero, 0, 0)
NEURONS(shift_subtract, 0, 1)
NEURONS(decay_to_zero, 1, 0)
NEURONS(decay_subtract, 1, 1)

static inline uint32_t bits_set(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0Fu;
    return x * 0x01010101u >> 24;
}

/* Up to 32 window neurons at one position, k = clip(1 + floor((I - level) / threshold), 0, T) spikes each, level being
 * threshold - bias. words[digit * pitch]: the binary digits of k. Returns the sum of k. */
typedef struct {
    const int32_t *current, *level, *threshold;
    uint32_t *words;
    uint32_t pitch, count, steps, digits;
} windows;

#if SNN_HELIUM

/* Four neurons, spikes from 0 to `steps`: the sign of I - level - t * threshold says whether spike t is missing. */
static inline __attribute__((always_inline)) int32x4_t fire_four(int32x4_t current, int32x4_t level,
                                                                 int32x4_t threshold, uint32_t steps) {
    int32x4_t left = vqsubq_s32(current, level);
    int32x4_t count = vaddq_n_s32(vshrq_n_s32(left, 31), (int32_t)steps);
    for (uint32_t t = 1; t < steps; t++) {
        left = vqsubq_s32(left, threshold);
        count = vaddq_s32(count, vshrq_n_s32(left, 31));
    }
    return count;
}

static inline __attribute__((always_inline)) uint32_t fire_some(const windows *n, uint32_t digits, uint32_t steps) {
    const int32_t *current = n->current, *level = n->level, *threshold = n->threshold;
    uint8_t counts[32] = {0};
    int8_t *to = (int8_t *)counts;
    for (uint32_t some = n->count / 4; some > 0; some--, current += 4, level += 4, threshold += 4, to += 4)
        vstrbq_s32(to, fire_four(vldrwq_s32(current), vldrwq_s32(level), vldrwq_s32(threshold), steps));
    if (n->count % 4) {
        const mve_pred16_t lanes = vctp32q(n->count % 4);
        vstrbq_p_s32(to, fire_four(vldrwq_z_s32(current, lanes), vldrwq_z_s32(level, lanes),
                                   vldrwq_z_s32(threshold, lanes), steps), lanes);
    }
    const uint8x16_t first = vldrbq_u8(counts), second = vldrbq_u8(counts + 16);
    for (uint32_t digit = 0; digit < digits; digit++) {
        const uint8x16_t bit = vdupq_n_u8((uint8_t)(1u << digit));
        const uint32_t low = vcmpneq_n_u8(vandq_u8(first, bit), 0), high = vcmpneq_n_u8(vandq_u8(second, bit), 0);
        n->words[digit * n->pitch] = (low & 0xFFFFu) | high << 16;
    }
    return vaddvaq_u8(vaddvq_u8(first), second);
}

#else

/* Most neurons do not fire, which one comparison says. With `digits` constant, `bits` are registers. */
static inline __attribute__((always_inline)) uint32_t fire_some(const windows *n, uint32_t digits, uint32_t steps) {
    const int32_t *current = n->current, *level = n->level;
    uint32_t bits[SNN_MOST_DIGITS] = {0}, spikes = 0;
#define FIRE(I, from, i)                                                                                           \
    if (__builtin_expect((I) >= (from), 0)) {                                                                      \
        const uint32_t more = ((uint32_t)(I) - (uint32_t)(from)) / (uint32_t)n->threshold[i];                      \
        const uint32_t count = more < steps ? 1 + more : steps;                                                    \
        for (uint32_t digit = 0; digit < digits; digit++) bits[digit] |= (count >> digit & 1u) << (i);             \
        spikes += count;                                                                                           \
    }
    uint32_t i = 0;
#if SNN_DSP
#define FIRE_TWO(i)                                                                                                \
    {                                                                                                              \
        int32_t one, other, level_one, level_other;                                                                \
        SNN_NEXT_TWO_WORDS(one, other, current);                                                                   \
        SNN_NEXT_TWO_WORDS(level_one, level_other, level);                                                         \
        FIRE(one, level_one, i)                                                                                    \
        FIRE(other, level_other, i + 1)                                                                            \
    }
    for (; i != (n->count & ~7u); i += 8) {
        FIRE_TWO(i)
        FIRE_TWO(i + 2)
        FIRE_TWO(i + 4)
        FIRE_TWO(i + 6)
    }
#endif
    for (; i < n->count; i++, current++, level++) FIRE(*current, *level, i)
    for (uint32_t digit = 0; digit < digits; digit++) n->words[digit * n->pitch] = bits[digit];
    return spikes;
}

#endif

/* The usual number of steps is known to the compiler. */
static uint32_t fire_windows(const windows *n) {
    return n->steps == 4 ? fire_some(n, 3, 4) : fire_some(n, n->digits, n->steps);
}

static uint32_t fire_window(const snn_operation *op, const snn_neurons *n, const int32_t *current, uint32_t steps,
                            uint32_t *words, uint32_t pitch) {
    windows some = {.words = words, .pitch = pitch, .steps = steps, .digits = snn_digits(steps)};
    uint32_t spikes = 0;
    for (uint32_t c = 0; c < op->channels; c += 32, some.words++) {
        some.current = current + c;
        some.level = n->level + c;
        some.threshold = n->threshold + c;
        some.count = op->channels - c < 32 ? op->channels - c : 32;
        spikes += fire_windows(&some);
    }
    return spikes;
}

uint32_t snn_fire(const snn_operation *op, const snn_neurons *n, const int32_t *current, uint32_t stride,
                  uint32_t steps, uint32_t *words, uint32_t pitch) {
    if (op->as.pixels.neurons == SNN_WINDOW) return fire_window(op, n, current, steps, words, pitch);
    static void (*const kinds[])(const population *) = {shift_to_zero, shift_subtract, decay_to_zero, decay_subtract};
    void (*const run)(const population *) = kinds[2 * op->as.pixels.decay + op->as.pixels.subtract];
    population some = {.stride = stride, .pitch = pitch, .steps = steps, .words = words};
    uint32_t spikes = 0;
    for (uint32_t c = 0; c < op->channels; c += 32, some.words++) {
        some.current = current + c;
        some.threshold = n->threshold + c;
        some.bias = n->bias + c;
        some.leak = n->leak + c;
        some.count = op->channels - c < 32 ? op->channels - c : 32;
        run(&some);
        for (uint32_t t = 0; t < steps; t++) spikes += bits_set(some.words[t * pitch]);
    }
    return spikes;
}
