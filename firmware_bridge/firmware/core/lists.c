#include "lists.h"

#define TOO_MANY (UINT64_MAX / 8)

void snn_take_lists(const snn_value *value, uint32_t rows, uint32_t groups, uint32_t columns,
                    snn_parts *parts, snn_lists *lists) {
    /* Of the binary digits of 0 to T, a power of two, never all are 1 unless T is 1. */
    const uint32_t steps = value->steps, ones = value->storage == SNN_COUNTS && steps > 1 ? steps - 1 : steps;
    const uint64_t most = (uint64_t)columns * value->channels * ones;
    *lists = (snn_lists){
        .value = value,
        .rows = rows,
        .groups = groups,
        .columns = columns,
        .fold = 65536u / value->channels,
        .most = (uint32_t)most,
    };
    lists->events = snn_take(parts, most > UINT32_MAX ? TOO_MANY : most * rows, 2);
    lists->starts = snn_take(parts, (uint64_t)rows * steps * groups * (columns + 1), 4);
}

/* Channels of one group, as bits of the words [first, last] of a position. */
typedef struct {
    uint32_t first, last, first_mask, last_mask;
} channel_bits;

static channel_bits bits_of_group(uint32_t inputs, uint32_t group) {
    const uint32_t from = group * inputs, last = from + inputs - 1;
    return (channel_bits){from / 32, last / 32, UINT32_MAX << from % 32, UINT32_MAX >> (31 - last % 32)};
}

/* One row of one plane, as it is looked through. top: the plane of the highest digit, where this is one of a lower
 * digit, or NULL; a neuron that has the highest has no other. */
typedef struct {
    const uint32_t *words, *top;
    const uint16_t *begin; /* of the row's list */
    uint32_t *starts;
    uint32_t columns, channels, fold;
} plane_row;

/* Lists a plane's spikes of the channels `bits`, from `list` on; returns their end. With one word to a position, which
 * is a constant where this is called, the compiler sees a single loop. */
static inline __attribute__((always_inline)) uint16_t *list_bits(const plane_row *p, const channel_bits *bits,
                                                                 uint32_t words, uint16_t *list) {
    const uint32_t *word_at = p->words, *top = p->top;
    uint32_t *starts = p->starts, *const end = starts + p->columns;
    const uint32_t channels = p->channels, beyond = p->fold * channels;
    for (uint32_t event = 0; starts != end; word_at += words, top += top ? words : 0) {
        *starts++ = (uint32_t)(list - p->begin);
        for (uint32_t i = words == 1 ? 0 : bits->first; i <= (words == 1 ? 0 : bits->last); i++) {
            uint32_t word = word_at[i];
            if (words == 1 || i == bits->first) word &= bits->first_mask;
            if (words == 1 || i == bits->last) word &= bits->last_mask;
            if (top) word &= ~top[i];
            for (const uint32_t highest = event + 32 * i + 31; word;) {
                const uint32_t zeros = (uint32_t)__builtin_clz(word);
                *list++ = (uint16_t)(highest - zeros);
                word &= ~(0x80000000u >> zeros);
            }
        }
        event += channels;
        if (event == beyond) event = 0;
    }
    *starts = (uint32_t)(list - p->begin);
    return list;
}

static uint16_t *list_plane(const plane_row *p, const channel_bits *bits, uint16_t *list) {
    const uint32_t words = snn_bit_words(p->channels);
    return words == 1 ? list_bits(p, bits, 1, list) : list_bits(p, bits, words, list);
}

void snn_list_row(const snn_run_state *run, snn_lists *lists, uint32_t y) {
    if (y < lists->next) return;
    lists->next = y + 1;
    const snn_value *value = lists->value;
    uint8_t *row = snn_row(run, value, y);
    uint16_t *const begin = lists->events + (size_t)(y % lists->rows) * lists->most, *list = begin;
    const uint32_t planes = value->steps, highest = value->storage == SNN_COUNTS ? planes - 1 : planes;
    const void *top = highest < planes ? snn_position(run, value, row, highest, 0) : NULL;
    plane_row p = {.begin = begin, .columns = lists->columns, .channels = value->channels, .fold = lists->fold};
    p.starts = lists->starts + (size_t)(y % lists->rows) * planes * lists->groups * (lists->columns + 1);
    for (uint32_t plane = 0; plane < planes; plane++)
        for (uint32_t group = 0; group < lists->groups; group++) {
            const channel_bits bits = bits_of_group(value->channels / lists->groups, group);
            p.words = (const void *)snn_position(run, value, row, plane, 0);
            p.top = plane < highest ? top : NULL;
            list = list_plane(&p, &bits, list);
            p.starts += lists->columns + 1;
        }
}
