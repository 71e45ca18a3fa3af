/* Attention over time, channels or space: every number times a gate in 0..1 that pooled sums decide.
 *
 * Channel and time: means over windows aligned to the image pass a perceptron of two layers (squeeze, ReLU, excite).
 * Space: the mean over channels passes a 3x3 convolution. Then a hard sigmoid, clip((a + 2) / 4, 0, 1). */
#include <string.h>

#include "check.h"
#include "count.h"
#include "number.h"
#include "operation.h"
#include "scratch.h"

#define CAP 2047 /* means and hidden units are clipped to +-CAP */

typedef struct {
    int32_t *mean;   /* [size]: of one window; size is the number of channels or steps */
    int32_t *hidden; /* [hidden] */
    uint16_t *gates; /* [windows across][size] */
    int32_t *means;  /* [3 rows][steps][columns]: over space, a ring */
    int32_t *out;    /* [channels] of one position */
} attend_scratch;

static snn_status check_attend(const snn_plan *plan, const snn_operation *op) {
    const snn_value *in = snn_value_at(plan, op->input), *out = snn_value_at(plan, op->output);
    if (!in || !out || snn_is_spikes(in) || snn_is_spikes(out)) return SNN_OPERATION;
    if (in->channels != op->channels || out->channels != op->channels || in->scale != out->scale) return SNN_OPERATION;
    const uint32_t over = op->as.attend.over, hidden = op->as.attend.hidden;
    if (over > SNN_OVER_SPACE || out->steps != (over == SNN_OVER_TIME ? plan->time_steps : in->steps))
        return SNN_OPERATION;
    if (!snn_power_of_two(op->as.attend.window) || op->as.attend.window > 1024) return SNN_OPERATION;
    if (op->as.attend.pool_shift > 30 || op->as.attend.hidden_shift > 30 || op->as.attend.gate_shift > 30 ||
        op->as.attend.gate_q > 10)
        return SNN_OPERATION;
    if (over == SNN_OVER_SPACE) {
        if (op->as.attend.window != 1) return SNN_OPERATION;
        const int there = snn_has(plan, op->as.attend.squeeze, 9, 2) && snn_has(plan, op->as.attend.squeeze_bias, 1, 4);
        return there ? SNN_OK : SNN_CONSTANT;
    }
    if (!snn_within(hidden, 1, SNN_MAX_CHANNELS)) return SNN_OPERATION;
    const uint32_t size = over == SNN_OVER_TIME ? plan->time_steps : op->channels;
    const uint64_t weights = (uint64_t)hidden * size;
    return snn_has(plan, op->as.attend.squeeze, weights, 2) && snn_has(plan, op->as.attend.squeeze_bias, hidden, 4) &&
                   snn_has(plan, op->as.attend.excite, weights, 2) && snn_has(plan, op->as.attend.excite_bias, size, 4)
               ? SNN_OK
               : SNN_CONSTANT;
}

static uint32_t pooled_size(const snn_plan *plan, const snn_operation *op) {
    return op->as.attend.over == SNN_OVER_TIME ? plan->time_steps : op->channels;
}

static uint64_t lay_out(const snn_plan *plan, const snn_operation *op, uint32_t columns, uint8_t *base,
                        attend_scratch *s) {
    snn_parts parts = {base, 0};
    const snn_value *in = &plan->values[op->input];
    const uint32_t across = columns / in->scale, size = pooled_size(plan, op);
    const int space = op->as.attend.over == SNN_OVER_SPACE;
    s->mean = snn_take(&parts, space ? 0 : size, 4);
    s->hidden = snn_take(&parts, space ? 0 : op->as.attend.hidden, 4);
    s->gates = snn_take(&parts, space ? 0 : (uint64_t)snn_ceil_div(across, op->as.attend.window) * size, 2);
    s->means = snn_take(&parts, space ? (uint64_t)3 * in->steps * across : 0, 4);
    s->out = snn_take(&parts, op->channels, 4);
    return parts.used;
}

static uint64_t attend_size(const snn_plan *plan, const snn_operation *op, uint32_t columns) {
    attend_scratch none;
    return lay_out(plan, op, columns, NULL, &none);
}

static uint32_t gate(const snn_operation *op, int32_t x) {
    x = snn_add(x, (int32_t)op->as.attend.gate_offset);
    return (uint32_t)snn_requantise(x, op->as.attend.gate_shift, 0, (int32_t)(1u << op->as.attend.gate_q));
}

/* to[i] = bias[i] + sum over j of weight[i][j] * from[j] */
static void layer(const snn_plan *plan, uint32_t weights, uint32_t biases, const int32_t *from, uint32_t inputs,
                  uint32_t i, int32_t *to) {
    const int16_t *weight = (const int16_t *)(const void *)(plan->constants + weights) + (size_t)i * inputs;
    *to = ((const int32_t *)(const void *)(plan->constants + biases))[i];
    for (uint32_t j = 0; j < inputs; j++) *to = snn_add(*to, snn_times(weight[j], from[j]));
}

/* Sums of the window that starts at row y and column x, over all steps ("channel") or channels ("time"). */
static void pool(const snn_run_state *run, const snn_operation *op, const attend_scratch *s, uint32_t y, uint32_t x) {
    const snn_value *in = &run->plan->values[op->input];
    const uint32_t window = op->as.attend.window, rows = run->rows / in->scale, columns = run->columns / in->scale;
    const uint32_t size = pooled_size(run->plan, op), all = run->plan->time_steps;
    const int over_time = op->as.attend.over == SNN_OVER_TIME;
    memset(s->mean, 0, size * sizeof *s->mean);
    for (uint32_t dy = 0; dy < window && y + dy < rows; dy++) {
        uint8_t *row = snn_row(run, in, y + dy);
        for (uint32_t t = 0; t < in->steps; t++)
            for (uint32_t dx = 0; dx < window && x + dx < columns; dx++) {
                const void *position = snn_position(run, in, row, t, x + dx);
                for (uint32_t c = 0; c < in->channels; c++) {
                    int32_t *to = &s->mean[over_time ? t : c];
                    *to = snn_add(*to, snn_number(in, position, c));
                }
            }
    }
    if (in->steps != all) { /* a static value counts at every step */
        if (over_time)
            for (uint32_t t = 1; t < all; t++) s->mean[t] = s->mean[0];
        else
            for (uint32_t c = 0; c < size; c++) s->mean[c] = snn_times(s->mean[c], (int32_t)all);
    }
}

/* Gates of one row of windows, which starts at row y. */
static void gates_of_windows(const snn_run_state *run, const snn_operation *op, const attend_scratch *s, uint32_t y) {
    const snn_plan *plan = run->plan;
    const uint32_t size = pooled_size(plan, op), hidden = op->as.attend.hidden, window = op->as.attend.window;
    const uint32_t columns = run->columns / plan->values[op->input].scale;
    uint16_t *to = s->gates;
    for (uint32_t x = 0; x < columns; x += window) {
        pool(run, op, s, y, x);
        for (uint32_t i = 0; i < size; i++)
            s->mean[i] = snn_requantise(s->mean[i], op->as.attend.pool_shift, -CAP, CAP);
        for (uint32_t i = 0; i < hidden; i++) {
            layer(plan, op->as.attend.squeeze, op->as.attend.squeeze_bias, s->mean, size, i, &s->hidden[i]);
            s->hidden[i] = snn_requantise(s->hidden[i], op->as.attend.hidden_shift, 0, CAP);
        }
        for (uint32_t i = 0; i < size; i++) {
            int32_t x_gate;
            layer(plan, op->as.attend.excite, op->as.attend.excite_bias, s->hidden, hidden, i, &x_gate);
            *to++ = (uint16_t)gate(op, x_gate);
        }
    }
}

/* Means over the channels of row y, into the ring. */
static void means_of_row(const snn_run_state *run, const snn_operation *op, const attend_scratch *s, uint32_t y) {
    const snn_value *in = &run->plan->values[op->input];
    const uint32_t columns = run->columns / in->scale;
    int32_t *to = s->means + (size_t)(y % 3) * in->steps * columns;
    uint8_t *row = snn_row(run, in, y);
    for (uint32_t t = 0; t < in->steps; t++)
        for (uint32_t x = 0; x < columns; x++) {
            const void *position = snn_position(run, in, row, t, x);
            int32_t sum = 0;
            for (uint32_t c = 0; c < in->channels; c++) sum = snn_add(sum, snn_number(in, position, c));
            *to++ = snn_requantise(sum, op->as.attend.pool_shift, -CAP, CAP);
        }
}

static uint32_t gate_of_position(const snn_run_state *run, const snn_operation *op, const attend_scratch *s, uint32_t t,
                                 uint32_t y, uint32_t x) {
    const snn_plan *plan = run->plan;
    const snn_value *in = &plan->values[op->input];
    const uint32_t rows = run->rows / in->scale, columns = run->columns / in->scale;
    const int16_t *weight = (const int16_t *)(const void *)(plan->constants + op->as.attend.squeeze);
    int32_t sum = *(const int32_t *)(const void *)(plan->constants + op->as.attend.squeeze_bias);
    for (uint32_t dy = 0; dy < 3; dy++)
        for (uint32_t dx = 0; dx < 3; dx++) {
            const uint32_t row = y + dy - 1, column = x + dx - 1; /* wrap beyond the border */
            if (row < rows && column < columns)
                sum = snn_add(sum, snn_times(weight[dy * 3 + dx],
                                             s->means[((size_t)(row % 3) * in->steps + t) * columns + column]));
        }
    return gate(op, sum);
}

static snn_status run_attend(const snn_run_state *run, const snn_operation *op, uint32_t first, uint32_t end) {
    const snn_plan *plan = run->plan;
    const snn_value *in = &plan->values[op->input], *out = &plan->values[op->output];
    const uint32_t rows = run->rows / in->scale, columns = run->columns / in->scale;
    const uint32_t over = op->as.attend.over, window = op->as.attend.window, size = pooled_size(plan, op);
    attend_scratch s;
    lay_out(plan, op, run->columns, run->scratch, &s);
    for (uint32_t y = first; y < end; y++) {
        /* All gates that a row needs are known before it is written: output and input may be the same memory. */
        if (over == SNN_OVER_SPACE) {
            if (y == first && y > 0) means_of_row(run, op, &s, y - 1);
            if (y == first) means_of_row(run, op, &s, y);
            if (y + 1 < rows) means_of_row(run, op, &s, y + 1);
        } else if (y == first || y % window == 0) {
            gates_of_windows(run, op, &s, y - y % window);
        }
        uint8_t *row = snn_row(run, in, y);
        for (uint32_t t = 0; t < out->steps; t++)
            for (uint32_t x = 0; x < columns; x++) {
                const void *position = snn_position(run, in, row, t, x);
                const uint16_t *gates = s.gates + (size_t)(x / window) * size;
                const uint32_t common = over == SNN_OVER_SPACE  ? gate_of_position(run, op, &s, t, y, x)
                                        : over == SNN_OVER_TIME ? gates[t]
                                                                : 0;
                for (uint32_t c = 0; c < op->channels; c++) {
                    const int32_t by = (int32_t)(over == SNN_OVER_CHANNEL ? gates[c] : common);
                    const int32_t product = snn_times(snn_number(in, position, c), by);
                    s.out[c] = snn_requantise(product, op->as.attend.gate_q, INT32_MIN, INT32_MAX);
                }
                snn_put(run, out, t, y, x, s.out);
            }
        if (snn_stopped(run)) return SNN_STOPPED;
    }
    return SNN_OK;
}

static uint64_t macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    const snn_value *in = &plan->values[op->input], *out = &plan->values[op->output];
    const uint32_t rows = snn_ceil_div(height, in->scale), columns = snn_ceil_div(width, in->scale);
    const uint64_t products = (uint64_t)rows * columns * op->channels * out->steps;
    if (op->as.attend.over == SNN_OVER_SPACE)
        return products + snn_taps(rows, rows, 3, 1, 1) * snn_taps(columns, columns, 3, 1, 1) * in->steps;
    const uint32_t size = op->as.attend.over == SNN_OVER_TIME ? plan->time_steps : op->channels;
    const uint64_t windows =
        (uint64_t)snn_ceil_div(rows, op->as.attend.window) * snn_ceil_div(columns, op->as.attend.window);
    return products + windows * 2 * size * op->as.attend.hidden;
}

static void count_attend(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width,
                         snn_counts *counts) {
    counts[op->layer].macs = macs(plan, op, height, width);
}

const snn_operation_kind snn_attend = {
    .check = check_attend, .scratch = attend_size, .run = run_attend, .count = count_attend};
