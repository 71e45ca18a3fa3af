/* What the fuzzers share: numbers drawn by a seed, plans from files, and damage. */
#ifndef SNN_DRAW_H
#define SNN_DRAW_H

#include <sanitizer/common_interface_defs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blake2b.h"
#include "plan.h"

enum { MOST_PLANS = 64, LONGEST_PLAN = 1 << 20 };

typedef struct {
    uint8_t *bytes;
    size_t size;
} sample;

static uint64_t state, seed;

static inline void report(void) { fprintf(stderr, "seed %llu\n", (unsigned long long)seed); }

/* xorshift64*: the same numbers for the same seed, anywhere. */
static inline uint32_t draw(uint32_t below) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 32) % below;
}

static inline void *block(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) {
        fputs("no memory\n", stderr);
        exit(2);
    }
    return memory;
}

static inline sample read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    sample s = {block(LONGEST_PLAN), 0};
    if (file) s.size = fread(s.bytes, 1, LONGEST_PLAN, file);
    if (!file || s.size < sizeof(snn_header)) {
        fprintf(stderr, "%s is not a plan\n", path);
        exit(2);
    }
    fclose(file);
    return s;
}

/* Numbers that tend to be at some edge. */
static inline uint32_t telling(uint32_t old) {
    static const uint32_t edges[] = {
        0,    1,     2,     3,     4,        7,        8,           31,          32,          33,          255, 256,
        4095, 4096,  4097,  32768, 65535,    65536,    1u << 20,    1u << 28,    0x7FFFFFFFu, 0x80000000u,
        0xFFFFFFFEu, 0xFFFFFFFFu,
    };
    switch (draw(4)) {
    case 0:
        return old + 1;
    case 1:
        return old - 1;
    case 2:
        return old ^ (1u << draw(32));
    default:
        return edges[draw(sizeof edges / sizeof *edges)];
    }
}

static inline void damage(sample *s) {
    snn_header header;
    memcpy(&header, s->bytes, sizeof header);
    const size_t records = sizeof header + header.values * sizeof(snn_value) +
                           header.operations * sizeof(snn_operation) + header.terms * sizeof(snn_term) +
                           header.projections * sizeof(snn_projection);
    const size_t words = (records < s->size ? records : s->size) / 4;
    for (uint32_t n = draw(4) ? 1 + draw(3) : 1 + draw(24); n > 0; n--) {
        if (draw(16)) { /* a field of some record */
            const size_t at = 4 * (size_t)draw((uint32_t)words);
            uint32_t word;
            memcpy(&word, s->bytes + at, 4);
            word = telling(word);
            memcpy(s->bytes + at, &word, 4);
        } else if (draw(4)) { /* a byte anywhere */
            s->bytes[draw((uint32_t)s->size)] = (uint8_t)draw(256);
        } else { /* one record over another */
            const size_t from = 4 * (size_t)draw((uint32_t)words), to = 4 * (size_t)draw((uint32_t)words);
            size_t length = 4 * (size_t)(1 + draw(32));
            if (length > s->size - from) length = s->size - from;
            if (length > s->size - to) length = s->size - to;
            memmove(s->bytes + to, s->bytes + from, length);
        }
    }
    if (!draw(12)) s->size = draw((uint32_t)s->size + 1); /* cut short */
}

/* Most damaged plans get a hash that fits, or the core would look no further. */
static inline void seal(sample *s) {
    if (s->size < sizeof(snn_header)) return;
    snn_header *header = (snn_header *)(void *)s->bytes;
    if (draw(64)) {
        header->magic = SNN_MAGIC;
        header->version = SNN_VERSION_NUMBER;
        header->semantics = SNN_SEMANTICS;
        header->bytes = (uint32_t)s->size;
    }
    if (!draw(64)) return;
    snn_blake2b hash;
    memset(header->hash, 0, sizeof header->hash);
    snn_blake2b_start(&hash, sizeof header->hash);
    snn_blake2b_add(&hash, s->bytes, s->size);
    snn_blake2b_finish(&hash, header->hash);
}

/* The same numbers for the same seed, whatever was drawn before. */
static inline void start(uint64_t from) {
    seed = from;
    state = (seed + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 4; i++) draw(2);
}

/* When a long run is over, and a line about it on the way, every half minute. */
typedef struct {
    time_t began, told;
    double seconds; /* 0: no limit */
} watch;

static inline watch watching(double seconds) { return (watch){time(NULL), time(NULL), seconds}; }

static inline int over(watch *clock, uint64_t done, const char *what) {
    const time_t now = time(NULL);
    const double since = difftime(now, clock->began);
    if (difftime(now, clock->told) >= 30) {
        clock->told = now;
        fprintf(stderr, "... %.0f s: %llu %s, %.0f a second\n", since, (unsigned long long)done, what, (double)done / since);
    }
    return clock->seconds > 0 && since >= clock->seconds;
}

#endif
