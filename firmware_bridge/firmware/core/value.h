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

/* Channel c of a position of numbers. */
static inline int32_t snn_number(const snn_value *value, const void *position, uint32_t c) {
    return value->storage == SNN_INT16 ? ((const int16_t *)position)[c] : ((const int32_t *)position)[c];
}

/* Stores numbers at (t, y, x), from[0..channels). */
void snn_put(const snn_run_state *run, const snn_value *value, uint32_t t, uint32_t y, uint32_t x,
             const int32_t *from);

/* sum[offset + c] += value << shift, for every channel that the term gives at (t, y, x). */
void snn_add_term(const snn_run_state *run, const snn_term *term, uint32_t t, uint32_t y, uint32_t x, int32_t *sum);

#endif
