#include "heads.h"

#include <string.h>

#include "accumulate.h"
#include "check.h"
#include "count.h"
#include "dot.h"
#include "number.h"
#include "picture.h"

/* A function with registers of its own. */
#define NOINLINE __attribute__((noinline))

/* Under a kernel, the columns of a row fold once at most. */
enum { MOST_VOLLEYS = SNN_MOST_DIGITS * SNN_MOST_KERNEL * 2 + 1 };

static int of_spikes(const snn_operation *op) { return op->as.pixels.head == SNN_CONV; }
static int of_picture(const snn_operation *op) { return op->as.pixels.head == SNN_PICTURE_CONV; }
static int known(const snn_operation *op) {
    return of_spikes(op) || of_picture(op) || op->as.pixels.head == SNN_DENSE_CONV;
}

/* Of the input. */
static uint32_t channels_of(const snn_plan *plan, const snn_operation *op) {
    return of_picture(op) ? 3 * op->as.pixels.factor * op->as.pixels.factor : plan->values[op->input].channels;
}
static uint32_t scale_of(const snn_plan *plan, const snn_operation *op) {
    return of_picture(op) ? op->as.pixels.factor : plan->values[op->input].scale;
}

snn_status snn_check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale) {
    const snn_value *in = snn_value_at(plan, op->input);
    if (!known(op)) return SNN_OPERATION;
    if (of_picture(op)) {
        if (in || !snn_within(op->as.pixels.factor, 1, 8)) return SNN_OPERATION;
    } else {
        if (!in || snn_is_spikes(in) != of_spikes(op)) return SNN_OPERATION;
        if (in->steps != 1 && in->steps != op->as.pixels.steps && in->storage != SNN_COUNTS) return SNN_OPERATION;
    }
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    const uint32_t channels = channels_of(plan, op), dilation = op->as.pixels.dilation;
    if (!snn_within(kernel, 1, SNN_MOST_KERNEL) || !snn_within(stride, 1, 4)) return SNN_OPERATION;
    if (!snn_within(dilation, 1, of_spikes(op) ? SNN_MAX_DILATION : 1)) return SNN_OPERATION;
    const uint32_t extent = snn_extent(kernel, dilation);
    if (padding > extent / 2 || extent <= 2 * padding || extent - 2 * padding > stride ||
        scale_of(plan, op) * stride != scale)
        return SNN_OPERATION;
    const uint32_t groups = op->as.pixels.groups;
    if (!groups || channels % groups || op->channels % groups) return SNN_OPERATION;
    if (op->as.pixels.head_layer >= plan->header->layers || !op->as.pixels.narrow) return SNN_OPERATION;
    const uint64_t taps = (uint64_t)kernel * kernel;
    const uint64_t weights = of_spikes(op) ? taps * channels * snn_run_length(op->channels, groups)
                                           : taps * (channels / groups) * op->channels;
    if (!snn_has(plan, op->as.pixels.weight, weights, 2)) return SNN_CONSTANT;
    if (op->as.pixels.bias != SNN_NONE && !snn_has(plan, op->as.pixels.bias, op->channels, 4)) return SNN_CONSTANT;
    return SNN_OK;
}

/* Whether the runs of weights are long enough to be worth a list for each group. */
static int listed(const snn_operation *op) {
    return op->as.pixels.groups == 1 || op->channels / op->as.pixels.groups >= 8;
}

void snn_take_head(const snn_plan *plan, const snn_operation *op, uint32_t columns, snn_parts *parts, snn_head *h) {
    if (!known(op)) return;
    const uint32_t width = columns / scale_of(plan, op), groups = op->as.pixels.groups;
    h->in = of_picture(op) ? NULL : &plan->values[op->input];
    h->channels = channels_of(plan, op);
    h->width = width;
    h->inputs = h->channels / groups;
    h->outputs = op->channels / groups;
    h->tap = h->channels * snn_run_length(op->channels, groups);
    const uint32_t rows = snn_extent(op->as.pixels.kernel, op->as.pixels.dilation);
    if (of_spikes(op)) snn_take_lists(h->in, rows, listed(op) ? groups : 1, width, parts, &h->lists);
    if (of_picture(op)) h->pixels = snn_take(parts, (uint64_t)op->as.pixels.kernel * width * h->channels, 2);
}

snn_status snn_start_head(const snn_run_state *run, const snn_operation *op, snn_head *h) {
    const uint8_t *constants = run->plan->constants;
    if (!known(op)) return SNN_OPERATION;
    h->weight = (const int16_t *)(const void *)(constants + op->as.pixels.weight);
    h->bias = op->as.pixels.bias == SNN_NONE ? NULL : (const int32_t *)(const void *)(constants + op->as.pixels.bias);
    h->height = run->rows / scale_of(run->plan, op);
    h->next = h->lists.next = 0;
    return SNN_OK;
}

/* Row y of the picture in blocks, within the ring. */
static int16_t *pixel_row(const snn_operation *op, const snn_head *h, uint32_t y) {
    return h->pixels + (size_t)(y % op->as.pixels.kernel) * h->width * h->channels;
}

void snn_move_to_row(const snn_run_state *run, const snn_operation *op, snn_head *h, uint32_t y) {
    const uint32_t kernel = op->as.pixels.kernel, dilation = op->as.pixels.dilation;
    h->top = y * op->as.pixels.stride - op->as.pixels.padding;
    h->first_dy = 0;
    while (h->first_dy < kernel && h->top + h->first_dy * dilation >= h->height) h->first_dy++;
    h->end_dy = h->first_dy;
    while (h->end_dy < kernel && h->top + h->end_dy * dilation < h->height) h->end_dy++;
    if (h->first_dy == h->end_dy) return;
    const uint32_t last = h->top + (h->end_dy - 1) * dilation;
    /* Rows between taps are those of taps later on: rows come in order, so they are listed now. */
    for (uint32_t row = h->top <= last ? h->top : 0; row <= last; row++) {
        if (of_spikes(op)) snn_list_row(run, &h->lists, row);
        if (of_picture(op) && row >= h->next) {
            snn_picture_row(run, op->as.pixels.factor, row, pixel_row(op, h, row));
            h->next = row + 1;
        }
    }
    for (uint32_t dy = h->first_dy; dy < h->end_dy && of_spikes(op); dy++) {
        const uint32_t row = h->top + dy * dilation;
        h->rows[dy].starts = snn_starts(&h->lists, row);
        h->rows[dy].events = snn_events(&h->lists, row);
        h->rows[dy].weight = h->weight + (size_t)dy * kernel * h->tap;
    }
}

/* Bias, or zeros. */
static void start_sums(const snn_operation *op, const snn_head *h, uint32_t count, int32_t *sum) {
    if (!h->bias) memset(sum, 0, count * op->channels * sizeof *sum);
    for (uint32_t i = 0; i < count && h->bias; i++) memcpy(sum + i * op->channels, h->bias, op->channels * sizeof *sum);
}

/* What a kernel covers across. */
typedef struct {
    uint32_t left;             /* input column of tap 0, modulo 2^32 where it lies beyond the border */
    uint32_t first_dx, end_dx; /* taps that lie within the input */
} across;

static across columns_at(const snn_operation *op, const snn_head *h, uint32_t x) {
    const uint32_t kernel = op->as.pixels.kernel, padding = op->as.pixels.padding, begin = x * op->as.pixels.stride;
    const uint32_t dilation = op->as.pixels.dilation, beyond = h->width + padding - begin; /* at least 1 */
    across a = {begin - padding, begin < padding ? snn_ceil_div(padding - begin, dilation) : 0, kernel};
    if (snn_extent(kernel, dilation) > beyond) a.end_dx = snn_ceil_div(beyond, dilation);
    if (a.first_dx > a.end_dx) a.first_dx = a.end_dx;
    return a;
}

/* Weights `count` further, modulo 2^32; a volley's events say how far it is from there back to weights that exist. */
static inline const int16_t *further(const int16_t *weight, uint32_t count) {
    return (const int16_t *)((uintptr_t)weight + (uintptr_t)(intptr_t)(int32_t)(count * 2));
}

/* --- spikes ------------------------------------------------------------------------------------------------------ */

/* Adds a row's events from column `from` to `end` where numbers of columns start again on the way. */
static snn_volley *folded(const snn_head *h, const snn_row_lists *row, const uint32_t *starts, uint32_t left,
                          uint32_t from, uint32_t end, uint32_t doublings, snn_volley *to) {
    const uint32_t fold = h->lists.fold;
    for (uint32_t next; from < end; from = next, doublings = 0) {
        const uint32_t at = from % fold;
        next = end - from > fold - at ? from + fold - at : end;
        *to++ = (snn_volley){row->events + starts[from], row->events + starts[next],
                             further(row->weight, (from - at - left) * h->tap), doublings};
    }
    return to;
}

/* The spikes that arrive from a group of channels: of one plane, or of all digits from the highest to the lowest.
 * Returns how many volleys they are; spikes: how many, counted as often as they are added. */
static NOINLINE uint32_t arriving(const snn_head *h, const across *a, uint32_t highest, uint32_t lowest, uint32_t group,
                                  snn_volley *volleys, uint32_t *spikes) {
    const uint32_t from = a->left + a->first_dx, end = a->left + a->end_dx;
    const snn_row_lists *const first = h->rows + h->first_dy, *const last = h->rows + h->end_dy;
    const uint32_t pitch = h->lists.groups * (h->width + 1), whole = h->width <= h->lists.fold;
    const uint32_t back = 0 - a->left * h->tap;
    uint32_t offset = highest * pitch + group * (h->width + 1), doublings = 0, count = 0;
    snn_volley *to = volleys;
    for (uint32_t plane = highest + 1; plane-- > lowest; offset -= pitch) {
        count *= 2;
        for (const snn_row_lists *row = first; row < last; row++) {
            const uint32_t *starts = row->starts + offset, begin = starts[from], beyond = starts[end];
            if (begin == beyond) continue;
            count += beyond - begin;
            if (whole)
                *to++ = (snn_volley){row->events + begin, row->events + beyond, further(row->weight, back), doublings};
            else
                to = folded(h, row, starts, a->left, from, end, doublings, to);
            doublings = 0;
        }
        if (plane > lowest) doublings += to != volleys;
    }
    if (doublings) *to++ = (snn_volley){h->lists.events, h->lists.events, h->weight, doublings}; /* adds nothing */
    *spikes = count;
    return (uint32_t)(to - volleys);
}

/* The same of one plane where taps lie apart: each tap's column by itself. */
static NOINLINE uint32_t arriving_apart(const snn_head *h, const across *a, uint32_t dilation, uint32_t plane,
                                        uint32_t group, snn_volley *volleys, uint32_t *spikes) {
    const uint32_t offset = (plane * h->lists.groups + group) * (h->width + 1);
    snn_volley *to = volleys;
    *spikes = 0;
    for (const snn_row_lists *row = h->rows + h->first_dy; row < h->rows + h->end_dy; row++)
        for (uint32_t dx = a->first_dx; dx < a->end_dx; dx++) {
            const uint32_t column = a->left + dx * dilation;
            const uint32_t begin = row->starts[offset + column], beyond = row->starts[offset + column + 1];
            if (begin == beyond) continue;
            *spikes += beyond - begin;
            *to++ = (snn_volley){row->events + begin, row->events + beyond,
                                 further(row->weight, (dx - column % h->lists.fold) * h->tap), 0};
        }
    return (uint32_t)(to - volleys);
}

/* Adds volleys, each spike for 2^shift, that together are too many for int16, so many at a time that they are not. */
static void add_pieces(const snn_operation *op, const snn_head *h, snn_volley *volleys, uint32_t count, uint32_t shift,
                       int32_t *sum) {
    const uint32_t pitch = snn_run_length(op->channels, op->as.pixels.groups), most = op->as.pixels.narrow;
    for (uint32_t i = 0; i < count; i++) shift += volleys[i].doublings;
    for (uint32_t i = 0, j; i < count; i = j) {
        shift -= volleys[i].doublings;
        volleys[i].doublings = 0;
        uint32_t some = 0;
        for (j = i; j < count && !volleys[j].doublings; j++) {
            const uint32_t more = (uint32_t)(volleys[j].end - volleys[j].events);
            if (more > most - some) break;
            some += more;
        }
        if (j > i) {
            snn_accumulate(sum, volleys + i, j - i, h->outputs, pitch, shift);
        } else {
            snn_volley part = volleys[i];
            part.end = volleys[i].events += most;
            snn_accumulate(sum, &part, 1, h->outputs, pitch, shift);
        }
    }
}

/* Short runs of weights are added one spike at a time, each to the channels of its own group. */
static void add_each(const snn_head *h, const snn_volley *volleys, uint32_t count, uint32_t shift, int32_t *sum) {
    for (uint32_t i = 0; i < count; i++) shift += volleys[i].doublings;
    for (uint32_t i = 0; i < count; i++) {
        shift -= volleys[i].doublings;
        for (const uint16_t *event = volleys[i].events; event != volleys[i].end; event++) {
            const int16_t *weight = volleys[i].weight + (uint32_t)*event * h->outputs;
            int32_t *to = sum + *event % h->channels / h->inputs * h->outputs;
            for (uint32_t c = 0; c < h->outputs; c++) to[c] = snn_add(to[c], snn_scaled(weight[c], shift));
        }
    }
}

/* Adds a group's volleys, each spike for 2^shift. */
static void add_volleys(const snn_operation *op, const snn_head *h, uint32_t group, snn_volley *volleys, uint32_t count,
                        uint32_t spikes, uint32_t shift, int32_t *sum) {
    const uint32_t pitch = snn_run_length(op->channels, op->as.pixels.groups);
    if (!listed(op))
        add_each(h, volleys, count, shift, sum);
    else if (spikes <= op->as.pixels.narrow)
        snn_accumulate(sum + group * h->outputs, volleys, count, h->outputs, pitch, shift);
    else
        add_pieces(op, h, volleys, count, shift, sum + group * h->outputs);
}

/* Of a window all steps are added up, digit by digit of how often each neuron fires. */
static void convolve_spikes(const snn_operation *op, const snn_head *h, uint32_t t, uint32_t x, uint32_t count,
                            int32_t *sum) {
    const int window = h->in->storage == SNN_COUNTS;
    const uint32_t plane = h->in->steps == 1 ? 0 : t, dilation = op->as.pixels.dilation;
    const uint32_t highest = window ? h->in->steps - 1 : plane, lowest = window ? 0 : plane;
    snn_volley volleys[MOST_VOLLEYS];
    for (; count > 0; count--, x++, sum += op->channels) {
        const across a = columns_at(op, h, x);
        for (uint32_t group = 0; group < h->lists.groups; group++) {
            uint32_t spikes, pieces;
            for (uint32_t one = lowest; dilation > 1 && one <= highest; one++) {
                pieces = arriving_apart(h, &a, dilation, one, group, volleys, &spikes);
                if (pieces) add_volleys(op, h, group, volleys, pieces, spikes, window ? one : 0, sum);
            }
            if (dilation > 1) continue;
            pieces = arriving(h, &a, highest, lowest, group, volleys, &spikes);
            if (pieces) add_volleys(op, h, group, volleys, pieces, spikes, 0, sum);
        }
    }
}

/* --- real values ------------------------------------------------------------------------------------------------- */

/* Numbers that do not fit int16. */
static void convolve_wide(const snn_run_state *run, const snn_operation *op, const snn_head *h, uint32_t t, uint32_t x,
                          int32_t *sum) {
    const across a = columns_at(op, h, x);
    const uint32_t kernel = op->as.pixels.kernel, weights = kernel * kernel * h->inputs;
    for (uint32_t dy = h->first_dy; dy < h->end_dy; dy++)
        for (uint32_t dx = a.first_dx; dx < a.end_dx; dx++) {
            const uint8_t *from = snn_position(run, h->in, snn_row(run, h->in, h->top + dy), t, a.left + dx);
            for (uint32_t c = 0; c < op->channels; c++) {
                const int16_t *weight = h->weight + (size_t)c * weights + (dy * kernel + dx) * h->inputs;
                const uint32_t first = c / h->outputs * h->inputs;
                for (uint32_t i = 0; i < h->inputs; i++)
                    sum[c] = snn_add(sum[c], snn_times(snn_number(h->in, from, first + i), weight[i]));
            }
        }
}

/* The pieces of the input that the kernel covers, for one group. Returns how many; length: of each. */
static uint32_t covered(const snn_run_state *run, const snn_operation *op, const snn_head *h, const across *a,
                        uint32_t t, uint32_t group, snn_piece *pieces, uint32_t *length) {
    const uint32_t kernel = op->as.pixels.kernel, taps = a->end_dx - a->first_dx;
    const uint32_t apart = op->as.pixels.groups == 1 ? 1 : taps; /* with one group taps across lie side by side */
    uint32_t count = 0;
    *length = taps / (apart ? apart : 1) * h->inputs;
    for (uint32_t dy = h->first_dy; dy < h->end_dy; dy++) {
        const uint32_t row = h->top + dy, column = a->left + a->first_dx;
        const int16_t *from = of_picture(op)
                                  ? pixel_row(op, h, row) + (size_t)column * h->channels
                                  : (const void *)snn_position(run, h->in, snn_row(run, h->in, row), t, column);
        for (uint32_t i = 0; i < apart; i++)
            pieces[count++] = (snn_piece){from + i * h->channels + group * h->inputs,
                                          (dy * kernel + a->first_dx + i) * h->inputs};
    }
    return count;
}

static void convolve_numbers(const snn_run_state *run, const snn_operation *op, const snn_head *h, uint32_t t,
                             uint32_t x, uint32_t count, int32_t *sum) {
    const uint32_t kernel = op->as.pixels.kernel, weights = kernel * kernel * h->inputs;
    snn_piece pieces[SNN_MOST_PIECES];
    for (uint32_t n; count > 0; count -= n, x += n, sum += n * op->channels) {
        const across a = columns_at(op, h, x);
        n = 1;
        if (h->in && h->in->storage != SNN_INT16) {
            convolve_wide(run, op, h, t, x, sum);
            continue;
        }
        if (a.first_dx == 0 && a.end_dx == kernel) /* those that follow cover the same taps, up to the border */
            while (n < count && columns_at(op, h, x + n).end_dx == kernel) n++;
        for (uint32_t group = 0; group < op->as.pixels.groups; group++) {
            uint32_t length;
            const uint32_t some = covered(run, op, h, &a, t, group, pieces, &length);
            snn_dot(sum + group * h->outputs, op->channels, pieces, some, length,
                    h->weight + (size_t)group * h->outputs * weights, weights, h->outputs, n,
                    op->as.pixels.stride * h->channels);
        }
    }
}

void snn_convolve(const snn_run_state *run, const snn_operation *op, const snn_head *h, uint32_t t, uint32_t x,
                  uint32_t count, int32_t *sum) {
    start_sums(op, h, count, sum);
    if (of_spikes(op))
        convolve_spikes(op, h, t, x, count, sum);
    else
        convolve_numbers(run, op, h, t, x, count, sum);
}

uint64_t snn_head_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width) {
    if (of_spikes(op)) return 0;
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    const uint32_t before = scale_of(plan, op), scale = before * stride;
    const uint32_t rows = snn_ceil_div(height, before), columns = snn_ceil_div(width, before);
    const uint64_t down = snn_taps(rows, snn_ceil_div(height, scale), kernel, stride, padding);
    const uint64_t across = snn_taps(columns, snn_ceil_div(width, scale), kernel, stride, padding);
    const uint32_t steps = of_picture(op) ? 1 : plan->values[op->input].steps;
    return down * across * channels_of(plan, op) * (op->channels / op->as.pixels.groups) * steps;
}
