/* The picture: its pixels become numbers, and numbers change its pixels. */
#ifndef SNN_PICTURE_H
#define SNN_PICTURE_H

#include "value.h"

/* Row y of the picture in blocks of factor x factor pixels, grey level - 128: to[column][colour, dy, dx];
 * replicate-padded right and bottom. */
void snn_picture_row(const snn_run_state *run, uint32_t factor, uint32_t y, int16_t *to);

/* Restores `count` blocks of factor x factor pixels from column x of row y on: each pixel changes by
 * (change + half of 2^shift) >> shift, change[count][colour, dy, dx]. Pixels are read before they are written, so the
 * restored picture may be the same memory; what lies beyond it is left out. */
void snn_restore(const snn_run_state *run, uint32_t factor, uint32_t shift, uint32_t y, uint32_t x, uint32_t count,
                 const int32_t *change);

#endif
