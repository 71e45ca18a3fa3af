/* What carries the link of a bare Cortex-M: one file that has these is linked in. */
#ifndef SNN_LINE_H
#define SNN_LINE_H

#include <stddef.h>
#include <stdint.h>

/* Of the link's frames, bytes: long ones where much comes at a time. */
extern const uint32_t line_most_body;

void line_open(void);
/* Waits until something is there; returns how much it was, at most `most` bytes. */
size_t line_receive(uint8_t *to, size_t most);
void line_send(const uint8_t *bytes, size_t count);

#endif
