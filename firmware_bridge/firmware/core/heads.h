/* What drives an operation at each position: the currents of a convolution, of spikes (event-driven: only those that
 * arrive are looked at) or of real values (multiply-accumulate), the picture's pixels among them. A new head is one
 * more of plan.h's, its part of each function here, and the function that computes it. */
#ifndef SNN_HEADS_H
#define SNN_HEADS_H

#include "lists.h"

enum { SNN_SPAN = 8, SNN_MOST_KERNEL = 7 }; /* positions side by side that are worked on together; taps a side */

/* The lists of one row, and where the weights of its taps start. */
typedef struct {
    const uint32_t *starts; /* [planes][groups][width + 1] */
    const uint16_t *events;
    const int16_t *weight;
} snn_row_lists;

typedef struct {
    const snn_value *in; /* NULL for the picture */
    const int16_t *weight;
    const int32_t *bias;
    uint32_t channels, height, width; /* of the input */
    uint32_t inputs, outputs;         /* channels of a group, before and after */
    uint32_t top;                     /* input row of tap 0, modulo 2^32 where it lies beyond the border */
    uint32_t first_dy, end_dy;        /* taps down that lie within the input */
    /* Of spikes: lists of what the kernel covers, by taps down, and weights of a tap. */
    snn_lists lists;
    snn_row_lists rows[SNN_MOST_KERNEL];
    uint32_t tap;
    /* Of the picture: [kernel][width][channels], a ring of rows; needed ones before `next` are there. */
    int16_t *pixels;
    uint32_t next;
} snn_head;

/* Whether the record's head is known, in range, and fits its input and constants. */
snn_status snn_check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale);

/* Takes the head's working memory for a picture of so many columns, and sets what does not depend on the run. */
void snn_take_head(const snn_plan *plan, const snn_operation *op, uint32_t columns, snn_parts *parts, snn_head *head);

/* SNN_OPERATION for a head that the core does not have. */
snn_status snn_start_head(const snn_run_state *run, const snn_operation *op, snn_head *head);
void snn_move_to_row(const snn_run_state *run, const snn_operation *op, snn_head *head, uint32_t y);

/* Currents at step t of `count` positions from column x on, sum[count][channels of the output]. */
void snn_convolve(const snn_run_state *run, const snn_operation *op, const snn_head *head, uint32_t t, uint32_t x,
                  uint32_t count, int32_t *sum);

/* MACs of the whole image. */
uint64_t snn_head_macs(const snn_plan *plan, const snn_operation *op, uint32_t height, uint32_t width);

#endif
