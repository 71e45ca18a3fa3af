/* Damages plans in ways drawn by a seed and has the core read and run what comes out. Compiled with sanitizers, so that
 * anything but a clean answer ends the program.
 *
 *     fuzz FIRST_SEED COUNT SECONDS PLAN...     stops after COUNT plans or SECONDS, whichever is first (0: no limit)
 *
 * Every plan, picture and working memory is a block of exactly its size, so that the sanitizer sees one byte too far.
 * Prints how many plans got which answer, or the seed at which the sanitizer ended the program. */
#include <sanitizer/common_interface_defs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blake2b.h"
#include "plan.h"

enum { MOST_PLANS = 64, LONGEST_PLAN = 1 << 20, MOST_MEMORY = 4 << 20, MOST_ROWS = 4000 };

typedef struct {
    uint8_t *bytes;
    size_t size;
} sample;

static uint64_t state, seed;

static void report(void) { fprintf(stderr, "seed %llu\n", (unsigned long long)seed); }

/* xorshift64*: the same numbers for the same seed, anywhere. */
static uint32_t draw(uint32_t below) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 32) % below;
}

static void *block(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) {
        fputs("no memory\n", stderr);
        exit(2);
    }
    return memory;
}

static sample read_file(const char *path) {
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
static uint32_t telling(uint32_t old) {
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

static void damage(sample *s) {
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
static void seal(sample *s) {
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

static int poll(void *context) {
    uint32_t *rows = context;
    return (*rows)++ >= MOST_ROWS; /* a damaged plan may ask for a lot of work */
}

/* Runs an opened plan on a picture, whole or as a tile; the tile may be nonsense. */
static snn_status run(const snn_plan *plan) {
    snn_tile tile = snn_whole(1 + draw(20), 1 + draw(20));
    if (!draw(4)) {
        uint32_t fields[10];
        memcpy(fields, &tile, sizeof fields);
        for (uint32_t n = 1 + draw(4); n > 0; n--) {
            const uint32_t i = draw(10);
            fields[i] = draw(2) ? plan->align * draw(4) : telling(fields[i]);
        }
        memcpy(&tile, fields, sizeof tile);
    }
    size_t needed;
    const snn_mode mode = draw(16) ? (snn_mode)draw(2) : (snn_mode)draw(4);
    snn_status status = snn_memory_size(plan, &tile, mode, &needed);
    if (status) return status;
    const uint64_t pixels = (uint64_t)tile.height * tile.width;
    if (needed > MOST_MEMORY || pixels > MOST_MEMORY / 3) return SNN_TOO_LARGE;
    const size_t bytes = (size_t)pixels * 3;
    uint8_t *picture = block(bytes);
    uint32_t rows = 0;
    snn_job job = {
        .mode = mode,
        .picture = picture,
        .restored = draw(2) ? picture : block(bytes),
        .memory = block(needed),
        .memory_bytes = draw(16) ? needed : draw((uint32_t)needed),
        .counts = block(plan->layers * sizeof(snn_counts)),
        .trace = draw(8) ? NULL : block((size_t)plan->layers * plan->time_steps * sizeof(uint64_t)),
        .poll = poll,
        .context = &rows,
    };
    for (size_t i = 0; i < bytes; i++) picture[i] = (uint8_t)draw(256);
    memset(job.memory, (int)draw(256), needed);
    status = snn_run(plan, &tile, &job);
    if (job.restored != picture) free(job.restored);
    free(picture);
    free(job.memory);
    free(job.counts);
    free(job.trace);
    return status;
}

int main(int argc, char **argv) {
    sample samples[MOST_PLANS];
    uint64_t tally[SNN_STATUSES] = {0};
    if (argc < 5 || argc - 4 > MOST_PLANS) {
        fputs("usage: fuzz FIRST_SEED COUNT SECONDS PLAN...\n", stderr);
        return 2;
    }
    const uint64_t first = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
    const double seconds = strtod(argv[3], NULL);
    for (int i = 4; i < argc; i++) samples[i - 4] = read_file(argv[i]);
    const time_t start = time(NULL);
    __sanitizer_set_death_callback(report);
    for (seed = first; count == 0 || seed < first + count; seed++) {
        if (seconds > 0 && difftime(time(NULL), start) >= seconds) break;
        state = (seed + 1) * 0x9E3779B97F4A7C15u;
        for (int i = 0; i < 4; i++) draw(2);
        const sample *from = &samples[draw((uint32_t)argc - 4)];
        sample s = {block(from->size), from->size};
        memcpy(s.bytes, from->bytes, from->size);
        if (draw(50)) damage(&s); /* the others are sound: only picture and tile are drawn */
        seal(&s);
        uint8_t *exact = block(s.size);
        memcpy(exact, s.bytes, s.size);
        snn_plan plan;
        snn_status status = snn_open(&plan, exact, s.size, NULL);
        if (!status) status = run(&plan);
        tally[status]++;
        free(exact);
        free(s.bytes);
    }
    printf("%llu plans, seeds from %llu\n", (unsigned long long)(seed - first), (unsigned long long)first);
    for (int i = 0; i < SNN_STATUSES; i++)
        printf("%-16s %llu\n", snn_status_name((snn_status)i), (unsigned long long)tally[i]);
    for (int i = 4; i < argc; i++) free(samples[i - 4].bytes);
    return 0;
}
