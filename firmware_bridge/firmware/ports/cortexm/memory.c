/* The functions that compilers call for themselves, for machines without a C library. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* Without the attribute compilers would turn these loops into calls of the functions themselves. */
#define LOOP __attribute__((optimize("no-tree-loop-distribute-patterns")))

LOOP void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (!(((uintptr_t)t | (uintptr_t)f) & 3u))
        for (; size >= 4; size -= 4, t += 4, f += 4) *(uint32_t *)(void *)t = *(const uint32_t *)(const void *)f;
    while (size--) *t++ = *f++;
    return to;
}

LOOP void *memmove(void *to, const void *from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f) return memcpy(to, from, size);
    while (size--) t[size] = f[size];
    return to;
}

LOOP void *memset(void *to, int value, size_t size) {
    uint8_t *t = to;
    const uint32_t word = (uint8_t)value * 0x01010101u;
    if (!((uintptr_t)t & 3u)) {
        uint32_t *words = (uint32_t *)(void *)t;
        for (; size >= 16; size -= 16, words += 4) words[0] = words[1] = words[2] = words[3] = word;
        for (; size >= 4; size -= 4) *words++ = word;
        t = (uint8_t *)words;
    }
    while (size--) *t++ = (uint8_t)value;
    return to;
}

LOOP int memcmp(const void *a, const void *b, size_t size) {
    const uint8_t *x = a, *y = b;
    for (; size--; x++, y++)
        if (*x != *y) return *x < *y ? -1 : 1;
    return 0;
}
