/* The kernel of convolutions of real values: products of what a kernel covers with its weights, added up. */
#ifndef SNN_DOT_H
#define SNN_DOT_H

#include <stdint.h>

/* A piece of what a kernel covers: numbers side by side, and where their weights start from an output's first one. */
typedef struct {
    const int16_t *from;
    uint32_t weight;
} snn_piece;

enum { SNN_MOST_PIECES = 49 };

/* sum[p * pitch + o] += the products of all pieces, each `length` long, with the weights of output o, at position p.
 *
 * An output's weights start `weights` behind those of the one before; a position's pieces `step` numbers behind those
 * of the one before. Modulo 2^32. Fast where everything starts at words. */
void snn_dot(int32_t *sum, uint32_t pitch, const snn_piece *pieces, uint32_t count, uint32_t length,
             const int16_t *weight, uint32_t weights, uint32_t outputs, uint32_t positions, uint32_t step);

#endif
