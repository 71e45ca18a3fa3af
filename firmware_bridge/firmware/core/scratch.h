/* An operation's working memory, laid out by the same lines that say how much it is. */
#ifndef SNN_SCRATCH_H
#define SNN_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

/* Hands out parts of a block of memory, or only adds them up where base is NULL; each aligned to 8. */
typedef struct {
    uint8_t *base;
    uint64_t used;
} snn_parts;

static inline void *snn_take(snn_parts *parts, uint64_t count, uint32_t item) {
    void *part = parts->base ? parts->base + (size_t)parts->used : NULL;
    parts->used += (count * item + 7u) & ~(uint64_t)7u;
    return part;
}

#endif
