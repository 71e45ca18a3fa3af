/* Damages plans in ways drawn by a seed and has the core read and run what comes out. Compiled with sanitizers, so that
 * anything but a clean answer ends the program.
 *
 *     plans FIRST_SEED COUNT SECONDS PLAN...     stops after COUNT plans or SECONDS, whichever is first (0: no limit)
 *
 * Every plan, picture and working memory is a block of exactly its size, so that the sanitizer sees one byte too far.
 * Prints how many plans got which answer, or the seed at which the sanitizer ended the program. */
#include "draw.h"

enum { MOST_MEMORY = 4 << 20, MOST_ROWS = 4000 };

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
        .memory_bytes = draw(16) || !needed ? needed : draw((uint32_t)needed),
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
        fputs("usage: plans FIRST_SEED COUNT SECONDS PLAN...\n", stderr);
        return 2;
    }
    const uint64_t first = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
    for (int i = 4; i < argc; i++) samples[i - 4] = read_file(argv[i]);
    watch clock = watching(strtod(argv[3], NULL));
    __sanitizer_set_death_callback(report);
    for (seed = first; count == 0 || seed < first + count; seed++) {
        if (over(&clock, seed - first, "plans")) break;
        start(seed);
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
