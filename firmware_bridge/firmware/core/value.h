/* One run, and the stored values in its memory: where they lie, and how they are read and written. */
#ifndef SNN_VALUE_H
#define SNN_VALUE_H

#include "plan.h"

/* One call of snn_run. */
typedef struct {
    const snn_plan *plan;
    const snn_tile *tile;
    const snn_job *job;
    uint32_t rows, columns; /* of the padded tile, pixels */
    uint32_t units;         /* at once: blocks of stride x stride pixels in it; by rows: of `stride` columns */
    int by_rows;
    uint8_t *arena;         /* stored values */
    uint8_t *scratch;       /* of the operation at work, aligned to 8 */
} snn_run_state;

static inline int snn_stopped(const snn_run_state *run) {
    return run->job->poll && run->job->poll(run->job->context) != 0;
}

/* Start of row y of a stored value: [step][column][channel], or [step][column][word] for spikes. By rows, the place of
 * a row is that of an earlier one. */
static inline uint8_t *snn_row(const snn_run_state *run, const snn_value *value, uint32_t y) {
    const size_t bytes = (size_t)(run->columns / value->scale) * value->steps * snn_position_bytes(value);
    if (run->by_rows) return run->arena + (size_t)run->units * value->row_offset + y % value->rows * bytes;
    return run->arena + (size_t)run->units * value->offset + y * bytes;
}

/* Position (step t, column x) within a row; t counts as 0 where the value is static. */
static inline uint8_t *snn_position(const snn_run_state *run, const snn_value *value, uint8_t *row, uint32_t t,
                                    uint32_t x) {
    const uint32_t columns = run->columns / value->scale;
    return row + ((size_t)(t < value->steps ? t : 0) * columns + x) * snn_position_bytes(value);
}

/* 24-bit numbers: the lower halves of all channels, then their upper bytes. */
static inline int32_t snn_number24(const void *position, uint32_t channels, uint32_t c) {
    const int8_t *upper = (const int8_t *)position + 2 * (size_t)channels;
    return upper[c] * 65536 + ((const uint16_t *)position)[c];
}

/* Channel c of a position of numbers. */
static inline int32_t snn_number(const snn_value *value, const void *position, uint32_t c) {
    if (value->storage == SNN_INT16) return ((const int16_t *)position)[c];
    if (value->storage == SNN_INT32) return ((const int32_t *)position)[c];
    return snn_number24(position, value->channels, c);
}

/* Stores numbers at step t, in row y, at `count` positions from x on: from[count][channels]. */
void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x, uint32_t count,
             const int32_t *from);

/* sum[i * channels + offset + c] += value << shift, for every channel c that the term gives at step t, in row y, at
 * position i of `count` from x on. */
void snn_add_term(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x, uint32_t count,
                  uint32_t channels, int32_t *sum);

#endif
