/* What drives an operation at each position: the currents of a convolution, of spikes (event-driven: only those that
 * arrive are looked at) or of real values (multiply-accumulate). A new head is one more of plan.h's, its part of each
 * function here, and the function that computes it. */
#ifndef SNN_HEADS_H
#define SNN_HEADS_H

#include "accumulate.h"
#include "scratch.h"
#include "value.h"

/* The part of the input that a position's kernel covers, borders cut off. */
typedef struct {
    const snn_value *in;
    const int16_t *weight;
    const int32_t *bias;
    uint8_t *rows[7];          /* of the input, NULL beyond the border */
    uint32_t run;              /* length of a run of weights: output channels of a group */
    uint32_t first_dx, end_dx; /* taps across that lie within the input */
    uint32_t left;             /* input column of tap 0, modulo 2^32 where it lies beyond the border */
} snn_patch;

typedef struct {
    int16_t *current;     /* [even]: where int16 is wide enough */
    uint32_t *events;     /* [EVENTS + 32]: where the weights of arriving spikes start */
    snn_arrival *numbers; /* [EVENTS]: that arrive instead */
    uint32_t even;        /* channels, rounded up to even */
} snn_head_scratch;

/* Whether the record's head is known, in range, and fits its input and constants. */
snn_status snn_check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale);

/* Takes the head's working memory; no more than `even` is set where there is no head. */
void snn_take_head(const snn_operation *op, snn_parts *parts, snn_head_scratch *s);

/* SNN_OPERATION for a head that the core does not have. */
snn_status snn_start_head(const snn_run_state *run, const snn_operation *op, snn_patch *w);
void snn_move_to_row(const snn_run_state *run, const snn_operation *op, snn_patch *w, uint32_t y);
void snn_move_to_column(const snn_run_state *run, const snn_operation *op, snn_patch *w, uint32_t x);

/* Currents at the patch's position and step t, sum[0..even). */
void snn_convolve(const snn_run_state *run, const snn_operation *op, const snn_patch *w, const snn_head_scratch *s,
                  uint32_t t, int32_t *sum);

/* MACs of the whole image. */
uint64_t snn_head_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width);

#endif
