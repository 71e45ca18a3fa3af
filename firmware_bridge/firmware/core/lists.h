/* Lists of the spikes in the rows that a kernel covers: each row is looked through once, bit by bit, and from then on
 * the spikes that arrive at a position are pieces of lists. */
#ifndef SNN_LISTS_H
#define SNN_LISTS_H

#include "scratch.h"
#include "value.h"

/* A row's list has plane after plane, in each group after group of channels, in each column after column. An event is
 * (column % fold) * channels + channel: as many columns have numbers of their own as 16 bits can tell apart, and a
 * kernel's always do. */
typedef struct {
    const snn_value *value;
    uint16_t *events; /* [rows][most] */
    uint32_t *starts; /* [rows][planes][groups][columns + 1]: where a column's events begin in its row's */
    uint32_t rows, groups, columns, fold;
    uint32_t most; /* events that a row can have */
    uint32_t next; /* rows before this one are listed, as far as they are needed */
} snn_lists;

/* Room for `rows` rows, the channels in `groups` equal groups. Sizes beyond all memory where 32 bits do not count the
 * events of a row. */
void snn_take_lists(const snn_value *value, uint32_t rows, uint32_t groups, uint32_t columns,
                    snn_parts *parts, snn_lists *lists);

/* Lists row y, unless it is listed; rows come in order, `rows` of them are kept. */
void snn_list_row(const snn_run_state *run, snn_lists *lists, uint32_t y);

/* Where the events of a listed row begin. */
static inline const uint16_t *snn_events(const snn_lists *lists, uint32_t y) {
    return lists->events + (size_t)(y % lists->rows) * lists->most;
}

/* Where the columns' events begin among them: [planes][groups][columns + 1]. */
static inline const uint32_t *snn_starts(const snn_lists *lists, uint32_t y) {
    return lists->starts + (size_t)(y % lists->rows) * lists->value->steps * lists->groups * (lists->columns + 1);
}

#endif
