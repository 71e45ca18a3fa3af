/* Reads a plan, then tiles, and answers with pictures and counts: the core on any machine, driven by runner.py.
 *
 * All numbers are little-endian 32-bit words. Requests and their answers:
 *   1 size, plan                 -> status, record; the plan replaces the one before
 *   2 flags, tile[10], probe[3], picture
 *                                -> status, ticks[2], bytes of memory, and if the status is 0: picture, counts, trace,
 *                                   how many numbers, numbers; flags: 1 a trace is wanted, 2 by rows, 4 a probe's
 *                                   layer, step and channel follow the tile and its numbers are wanted
 *   3 plain, channels, runs, events, int16 weights[runs][channels], uint16 numbers of runs [events]
 *                                -> ticks[2], int32 sums[channels]: the accumulate kernel alone, fast or plain version
 *   0                            -> the end
 */
#include "runner.h"

#include <string.h>

#include "accumulate.h"
#include "snn.h"

enum { END = 0, OPEN = 1, RUN = 2, ACCUMULATE = 3 };

static int answer_words(const uint32_t *words, size_t count) { return port_write(words, 4 * count); }

static int open_plan(snn_plan *plan) {
    uint32_t size, answer[2] = {SNN_TOO_LARGE, 0};
    if (!port_read(&size, sizeof size)) return 0;
    void *bytes = port_memory(size);
    if (!bytes) return answer_words(answer, 2) && 0; /* the plan behind it cannot be skipped: give up */
    if (!port_read(bytes, size)) return 0;
    answer[0] = snn_open(plan, bytes, size, &answer[1]);
    if (answer[0]) plan->layers = 0;
    return answer_words(answer, 2);
}

static int run_tile(const snn_plan *plan) {
    uint32_t words[11], wanted[3] = {0};
    snn_tile tile;
    if (!port_read(words, sizeof words)) return 0;
    memcpy(&tile, words + 1, sizeof tile);
    if (tile.height > 1u << 16 || tile.width > 1u << 12) return 0;
    const size_t bytes = (size_t)tile.height * tile.width * 3;
    const size_t traced = words[0] & 1 ? (size_t)plan->layers * plan->time_steps * sizeof(uint64_t) : 0;
    snn_probe probe = {.count = words[0] & 4 ? (size_t)tile.height * tile.width : 0};
    if (words[0] & 4 && !port_read(wanted, sizeof wanted)) return 0;
    probe.layer = wanted[0], probe.step = wanted[1], probe.channel = wanted[2];
    probe.numbers = port_memory(probe.count * sizeof *probe.numbers);
    uint8_t *picture = port_memory(bytes);
    if (!picture || !port_read(picture, bytes)) return 0;
    uint32_t answer[4] = {SNN_TOO_LARGE, 0, 0, 0};
    const snn_mode mode = words[0] & 2 ? SNN_BY_ROWS : SNN_AT_ONCE;
    snn_job job = {
        .mode = mode,
        .picture = picture,
        .restored = picture,
        .counts = port_memory(plan->layers * sizeof(snn_counts)),
        .trace = traced ? port_memory(traced) : NULL,
        .probe = words[0] & 4 ? &probe : NULL,
    };
    size_t needed = 0;
    answer[0] = snn_memory_size(plan, &tile, mode, &needed);
    job.memory = answer[0] ? NULL : port_memory(needed);
    job.memory_bytes = needed;
    answer[3] = (uint32_t)needed;
    if (!answer[0] && !(job.memory && job.counts && (job.trace || !traced) && (probe.numbers || !job.probe))) answer[0] = SNN_TOO_LARGE;
    if (!answer[0]) {
        memset(job.memory, 0xA5, needed); /* results must not depend on what was there */
        const uint64_t start = port_ticks();
        answer[0] = snn_run(plan, &tile, &job);
        const uint64_t ticks = port_ticks() - start;
        answer[1] = (uint32_t)ticks;
        answer[2] = (uint32_t)(ticks >> 32);
    }
    if (!answer_words(answer, 4)) return 0;
    if (answer[0]) return 1;
    const uint32_t found = (uint32_t)probe.count;
    return port_write(picture, bytes) && port_write(job.counts, plan->layers * sizeof(snn_counts)) &&
           (!traced || port_write(job.trace, traced)) &&
           (!job.probe || (port_write(&found, sizeof found) && port_write(probe.numbers, 4 * (size_t)found)));
}

static int accumulate(void) {
    uint32_t words[4]; /* plain, channels, runs, events */
    if (!port_read(words, sizeof words)) return 0;
    const uint32_t channels = words[1], runs = words[2], count = words[3];
    if (channels > 4096 || runs > 1024 || count > 65536) return 0;
    int32_t *sum = port_memory(4 * (size_t)channels);
    int16_t *weight = port_memory(2 * (size_t)channels * runs);
    uint16_t *events = port_memory(2 * (size_t)count);
    if (!sum || !weight || !events) return 0;
    if (!port_read(weight, 2 * (size_t)channels * runs) || !port_read(events, 2 * (size_t)count)) return 0;
    memset(sum, 0, 4 * (size_t)channels);
    const snn_volley all = {.events = events, .end = events + count, .weight = weight};
    const uint64_t start = port_ticks();
    (words[0] ? snn_accumulate_plain : snn_accumulate)(sum, &all, 1, channels, channels, 0);
    const uint64_t ticks = port_ticks() - start;
    return port_write(&ticks, sizeof ticks) && port_write(sum, 4 * (size_t)channels);
}

int runner(void) {
    snn_plan plan;
    const size_t empty = port_mark();
    size_t opened = empty;
    plan.layers = 0; /* no plan yet */
    for (;;) {
        uint32_t request;
        if (!port_read(&request, sizeof request)) return 1;
        if (request == END) return 0;
        if (request == OPEN) {
            port_rewind(empty);
            if (!open_plan(&plan)) return 1;
            opened = port_mark();
        } else {
            port_rewind(opened);
            if (request == ACCUMULATE) {
                if (!accumulate()) return 1;
            } else if (request != RUN || !plan.layers || !run_tile(&plan)) {
                return 1;
            }
        }
    }
}
