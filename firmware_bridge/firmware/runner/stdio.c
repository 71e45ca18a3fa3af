/* The runner as a program: standard input and output, malloc, and nanoseconds. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runner.h"

enum { MOST_BLOCKS = 16 };

static void *blocks[MOST_BLOCKS];
static size_t used;

int port_read(void *to, size_t size) { return fread(to, 1, size, stdin) == size; }

int port_write(const void *from, size_t size) {
    return fwrite(from, 1, size, stdout) == size && fflush(stdout) == 0;
}

void *port_memory(size_t size) {
    void *memory = used < MOST_BLOCKS ? malloc(size ? size : 1) : NULL;
    if (memory) blocks[used++] = memory;
    return memory;
}

size_t port_mark(void) { return used; }

void port_rewind(size_t mark) {
    while (used > mark) free(blocks[--used]);
}

uint64_t port_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(void) {
    const int result = runner();
    port_rewind(0);
    return result;
}
