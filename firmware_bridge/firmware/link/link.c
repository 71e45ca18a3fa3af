#include "link.h"

#include <string.h>

#include "blake2b.h"

enum { HEADER = 4, CRC = 4, EMPTY = 0, COMING = 1, WHOLE = 2 };

static size_t encoded(size_t bytes) { return bytes + bytes / 254 + 2; } /* of COBS, with the zero that ends it */

static size_t round_up(size_t bytes) { return (bytes + 7) & ~(size_t)7; }

size_t snn_link_overhead(uint32_t most_body) {
    const size_t frame = (size_t)most_body + HEADER + CRC;
    return 2 * round_up(frame) + round_up(encoded(frame));
}

/* CRC-32 of IEEE 802.3, a byte at a time. The table is linear: an entry is the sum of those of its bits. */
#define BIT(i, bit, of_bit) ((i) & (bit) ? of_bit : 0u)
#define ENTRY(i)                                                                                             \
    (BIT(i, 1, 0x77073096u) ^ BIT(i, 2, 0xEE0E612Cu) ^ BIT(i, 4, 0x076DC419u) ^ BIT(i, 8, 0x0EDB8832u) ^     \
     BIT(i, 16, 0x1DB71064u) ^ BIT(i, 32, 0x3B6E20C8u) ^ BIT(i, 64, 0x76DC4190u) ^ BIT(i, 128, 0xEDB88320u))
#define FOUR(i) ENTRY(i), ENTRY((i) + 1), ENTRY((i) + 2), ENTRY((i) + 3)
#define SIXTEEN(i) FOUR(i), FOUR((i) + 4), FOUR((i) + 8), FOUR((i) + 12)
#define SIXTY_FOUR(i) SIXTEEN(i), SIXTEEN((i) + 16), SIXTEEN((i) + 32), SIXTEEN((i) + 48)

static uint32_t crc32(const uint8_t *bytes, size_t count) {
    static const uint32_t table[256] = {SIXTY_FOUR(0), SIXTY_FOUR(64), SIXTY_FOUR(128), SIXTY_FOUR(192)};
    uint32_t crc = 0xFFFFFFFFu;
    while (count--) crc = crc >> 8 ^ table[(crc ^ *bytes++) & 255];
    return ~crc;
}

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint8_t *put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

static uint8_t *put64(uint8_t *at, uint64_t value) { return put32(put32(at, (uint32_t)value), (uint32_t)(value >> 32)); }

static uint8_t *digest8(uint8_t *at, const void *bytes, size_t count) {
    snn_blake2b hash;
    snn_blake2b_start(&hash, 8);
    snn_blake2b_add(&hash, bytes, count);
    snn_blake2b_finish(&hash, at);
    return at + 8;
}

int snn_link_start(snn_link *link, const snn_link_port *port, void *memory, size_t bytes, uint32_t most_body) {
    memset(link, 0, sizeof *link);
    if (most_body < SNN_LINK_LEAST_BODY || most_body > SNN_LINK_MOST_BODY) return 0;
    const size_t frame = round_up((size_t)most_body + HEADER + CRC);
    if (bytes < snn_link_overhead(most_body)) return 0;
    link->port = port;
    link->most_body = most_body;
    link->frame = memory;
    link->frame_room = (size_t)most_body + HEADER + CRC;
    link->answer = link->frame + frame;
    link->wire = link->answer + frame;
    link->pool = link->frame + snn_link_overhead(most_body);
    link->pool_bytes = (bytes - snn_link_overhead(most_body)) & ~(size_t)7;
    return 1;
}

/* Sends a frame whose body lies in link->answer behind the room for its header. */
static void send(snn_link *link, uint32_t kind, uint16_t sequence, size_t body) {
    uint8_t *frame = link->answer, *to = link->wire + 1, *block = link->wire;
    frame[0] = SNN_LINK_VERSION;
    frame[1] = (uint8_t)kind;
    frame[2] = (uint8_t)sequence;
    frame[3] = (uint8_t)(sequence >> 8);
    const size_t count = HEADER + body + CRC;
    put32(frame + HEADER + body, crc32(frame, HEADER + body));
    for (size_t i = 0; i < count; i++) {
        if (frame[i]) *to++ = frame[i];
        if (!frame[i] || to - block == 255) {
            *block = (uint8_t)(to - block);
            block = to++;
        }
    }
    *block = (uint8_t)(to - block);
    *to++ = 0;
    link->port->write(link->port->context, link->wire, (size_t)(to - link->wire));
}

static void refuse(snn_link *link, uint8_t kind, uint16_t sequence, uint32_t why, uint32_t detail) {
    link->statistics[5]++;
    put32(put32(put32(link->answer + HEADER, kind), why), detail);
    send(link, SNN_ERROR + SNN_ANSWER, sequence, 12);
}

static void forget(snn_link *link) {
    memset(link->upload, 0, sizeof link->upload);
    link->plan.layers = 0;
    link->job = link->result = 0;
}

/* Where the plan ends: the picture, the counts and the working memory lie behind it. */
static size_t behind_plan(const snn_link *link) {
    return link->upload[SNN_PLAN].state ? round_up(link->upload[SNN_PLAN].size) : 0;
}

/* what, job, size, 32 bytes of hash -> what, how much is here, state, status of the core */
static uint32_t begin(snn_link *link, const uint8_t *body, uint32_t *detail) {
    const uint32_t what = get32(body), job = get32(body + 4), size = get32(body + 8);
    if (what > SNN_PICTURE || !size) return SNN_BAD_VALUE;
    snn_upload *upload = &link->upload[what];
    const int same = upload->state && upload->size == size && !memcmp(upload->hash, body + 12, 32) &&
                     (what == SNN_PLAN || link->job == job);
    if (!same) {
        if (what == SNN_PLAN) {
            forget(link);
            if (size > link->pool_bytes) return SNN_NO_ROOM;
        } else {
            link->result = 0;
            upload->state = EMPTY;
            if (!link->plan.layers) return SNN_NO_PLAN;
            const size_t start = behind_plan(link), counts = (size_t)link->plan.layers * sizeof(snn_counts);
            if (size > link->pool_bytes || start + round_up(size) + round_up(counts) > link->pool_bytes) return SNN_NO_ROOM;
            link->job = job;
            link->picture = link->pool + start;
            link->counts = link->picture + round_up(size);
        }
        upload->size = size;
        upload->have = 0;
        upload->state = COMING;
        memcpy(upload->hash, body + 12, 32);
    }
    if (upload->state == COMING && upload->have == upload->size) {
        const uint8_t *bytes = what == SNN_PLAN ? link->pool : link->picture;
        uint8_t hash[32];
        snn_blake2b state;
        snn_blake2b_start(&state, sizeof hash);
        snn_blake2b_add(&state, bytes, size);
        snn_blake2b_finish(&state, hash);
        if (memcmp(hash, upload->hash, sizeof hash)) {
            upload->have = 0;
            return SNN_BAD_HASH;
        }
        if (what == SNN_PLAN) {
            const snn_status status = snn_open(&link->plan, bytes, size, NULL);
            if (status) {
                forget(link);
                *detail = status;
                return SNN_REFUSED;
            }
        }
        upload->state = WHOLE;
    }
    uint8_t *at = put32(link->answer + HEADER, what);
    put32(put32(at, upload->have), upload->state == WHOLE);
    return 0;
}

/* what, offset, bytes -> what, how much is here. What does not continue is dropped: the answer says where to go on. */
static uint32_t data(snn_link *link, const uint8_t *body, size_t count) {
    const uint32_t what = get32(body), offset = get32(body + 4);
    if (what > SNN_PICTURE || !link->upload[what].state) return what > SNN_PICTURE ? SNN_BAD_VALUE : what ? SNN_NO_PICTURE : SNN_NO_PLAN;
    snn_upload *upload = &link->upload[what];
    count -= 8;
    if (upload->state == COMING && offset == upload->have && count <= upload->size - upload->have) {
        memcpy((what == SNN_PLAN ? link->pool : link->picture) + offset, body + 8, count);
        upload->have += (uint32_t)count;
    }
    put32(put32(link->answer + HEADER, what), upload->have);
    return 0;
}

/* Called once a row: four times a second the host hears that the board is alive. */
static int alive(void *context) {
    snn_link *link = context;
    const uint64_t now = link->port->ticks(link->port->context);
    if (now - link->progress >= link->port->ticks_per_second / 4) {
        link->progress = now;
        put32(link->answer + HEADER, link->job);
        send(link, SNN_PROGRESS + SNN_ANSWER, link->running, 4);
    }
    return 0;
}

/* Runs the picture that is here; -> why not. */
static uint32_t carry_out(snn_link *link, const uint8_t *body, uint16_t sequence, uint32_t *detail) {
    const uint32_t flags = get32(body + 4);
    uint32_t *fields = (uint32_t *)(void *)&link->tile;
    for (int i = 0; i < 10; i++) fields[i] = get32(body + 8 + 4 * i);
    const uint64_t pixels = (uint64_t)link->tile.height * link->tile.width;
    if (pixels * 3 != link->upload[SNN_PICTURE].size) return SNN_BAD_VALUE;
    const snn_mode mode = flags & SNN_ROWS ? SNN_BY_ROWS : SNN_AT_ONCE;
    size_t needed = 0;
    snn_status status = snn_memory_size(&link->plan, &link->tile, mode, &needed);
    link->looked = link->counts + round_up((size_t)link->plan.layers * sizeof(snn_counts));
    const size_t room = link->pool_bytes - (size_t)(link->looked - link->pool);
    const uint64_t looked = flags & SNN_TRACED ? (uint64_t)link->plan.layers * link->plan.time_steps * sizeof(uint64_t)
                            : flags & SNN_LOOK ? pixels * sizeof(int32_t)
                                               : 0;
    if (!status && (looked > room || needed > room - round_up((size_t)looked))) return SNN_NO_ROOM;
    snn_probe probe = {get32(body + 48), get32(body + 52), get32(body + 56), (int32_t *)(void *)link->looked, (size_t)looked / sizeof(int32_t)};
    const snn_job job = {
        .mode = mode,
        .picture = link->picture,
        .restored = link->picture,
        .memory = link->looked + round_up((size_t)looked),
        .memory_bytes = needed,
        .counts = (snn_counts *)(void *)link->counts,
        .trace = flags & SNN_TRACED ? (uint64_t *)(void *)link->looked : NULL,
        .poll = alive,
        .context = link,
        .probe = flags & SNN_LOOK ? &probe : NULL,
    };
    link->running = sequence;
    if (!status) {
        const uint64_t start = link->progress = link->port->ticks(link->port->context);
        status = snn_run(&link->plan, &link->tile, &job);
        link->took = link->port->ticks(link->port->context) - start;
    }
    if (status) {
        link->upload[SNN_PICTURE].state = EMPTY; /* it may be half restored */
        *detail = status;
        return SNN_REFUSED;
    }
    link->used_memory = needed;
    link->looked_bytes = flags & SNN_LOOK ? probe.count * sizeof(int32_t) : (size_t)looked;
    link->result = 1;
    link->statistics[4]++;
    return 0;
}

/* job, flags, tile[10], layer, step, channel -> job, ticks[2], bytes of memory[2], 8 bytes of hash of the picture, 8 of
 * the counts, bytes that were looked at, 8 of their hash. A job that is done is not done again: the picture was restored
 * in place. */
static uint32_t run(snn_link *link, const uint8_t *body, uint16_t sequence, uint32_t *detail) {
    const uint32_t job = get32(body), flags = get32(body + 4), both = SNN_TRACED | SNN_LOOK;
    if (flags > 7 || (flags & both) == both || get32(body + 24) > 1u << 20 || get32(body + 28) > 1u << 20) /* height, width */
        return SNN_BAD_VALUE;
    if (!link->plan.layers) return SNN_NO_PLAN;
    if (link->upload[SNN_PICTURE].state != WHOLE || link->job != job) return SNN_NO_PICTURE;
    if (!link->result) {
        const uint32_t why = carry_out(link, body, sequence, detail);
        if (why) return why;
    }
    uint8_t *at = put64(put64(put32(link->answer + HEADER, job), link->took), link->used_memory);
    at = digest8(at, link->picture, link->upload[SNN_PICTURE].size);
    at = digest8(at, link->counts, (size_t)link->plan.layers * sizeof(snn_counts));
    digest8(put32(at, (uint32_t)link->looked_bytes), link->looked, link->looked_bytes);
    return 0;
}

/* what, job, offset, length -> what, offset, bytes; `body` becomes the answer's length */
static uint32_t read_result(snn_link *link, const uint8_t *body, size_t *length) {
    const uint32_t what = get32(body), job = get32(body + 4), offset = get32(body + 8), count = get32(body + 12);
    if (what > SNN_LOOKED) return SNN_BAD_VALUE;
    if (!link->result || job != link->job) return SNN_NO_RESULT;
    const uint8_t *from = what == SNN_RESTORED ? link->picture : what == SNN_COUNTED ? link->counts : link->looked;
    const size_t size = what == SNN_RESTORED  ? link->upload[SNN_PICTURE].size
                        : what == SNN_COUNTED ? (size_t)link->plan.layers * sizeof(snn_counts)
                                              : link->looked_bytes;
    if (offset > size || count > size - offset || count > link->most_body - 8) return SNN_BAD_VALUE;
    memcpy(put32(put32(link->answer + HEADER, what), offset), from + offset, count);
    *length = 8 + (size_t)count;
    return 0;
}

static size_t hello(snn_link *link) {
    const snn_link_port *port = link->port;
    uint8_t *at = link->answer + HEADER;
    at = put32(put32(at, SNN_LINK_VERSION), link->most_body);
    at = put64(put64(at, link->pool_bytes), port->ticks_per_second);
    at = put32(at, port->clock);
    memcpy(at, port->build, SNN_LINK_BUILD);
    return (size_t)(at + SNN_LINK_BUILD - link->answer) - HEADER;
}

static void serve(snn_link *link, size_t count) {
    const uint8_t *frame = link->frame, *body = frame + HEADER;
    const uint8_t kind = frame[1];
    const uint16_t sequence = (uint16_t)(frame[2] | frame[3] << 8);
    const size_t length = count - HEADER - CRC;
    static const uint8_t exactly[] = {[SNN_HELLO] = 0, [SNN_RESET] = 0, [SNN_BEGIN] = 44, [SNN_RUN] = 60, [SNN_READ] = 16, [SNN_STATISTICS] = 0};
    uint32_t why = 0, detail = 0;
    size_t answered = 0;
    if (frame[0] != SNN_LINK_VERSION || !kind || kind > SNN_STATISTICS) {
        why = SNN_BAD_KIND;
    } else if (kind == SNN_DATA ? length < 9 : kind != SNN_PING && length != exactly[kind]) {
        why = SNN_BAD_LENGTH;
    } else {
        switch (kind) {
        case SNN_HELLO: answered = hello(link); break;
        case SNN_PING: memcpy(link->answer + HEADER, body, answered = length); break;
        case SNN_RESET: forget(link); break;
        case SNN_BEGIN: why = begin(link, body, &detail), answered = 12; break;
        case SNN_DATA: why = data(link, body, length), answered = 8; break;
        case SNN_RUN: why = run(link, body, sequence, &detail), answered = 48; break;
        case SNN_READ: why = read_result(link, body, &answered); break;
        default:
            memcpy(link->answer + HEADER, link->statistics, answered = sizeof link->statistics);
        }
    }
    if (why)
        refuse(link, kind, sequence, why, detail);
    else
        send(link, kind + SNN_ANSWER, sequence, answered);
}

/* A zero ends a frame wherever it stands, so that after any damage the next frame is read again. */
void snn_link_take(snn_link *link, const uint8_t *bytes, size_t count) {
    link->statistics[2] += (uint32_t)count;
    link->statistics[3] += link->statistics[2] < (uint32_t)count;
    for (; count--; bytes++) {
        if (!*bytes) {
            if (link->filled || link->lost || link->block) {
                const size_t size = link->filled;
                const int whole = !link->lost && !link->left && size >= HEADER + CRC &&
                                  crc32(link->frame, size - CRC) == get32(link->frame + size - CRC);
                link->statistics[whole ? 0 : 1]++;
                if (whole) serve(link, size);
            }
            link->filled = 0;
            link->block = link->left = 0;
            link->lost = 0;
        } else if (link->lost) {
            continue;
        } else if (!link->left) {
            /* the length of a block; a zero stood before it unless it is the first or follows a full one */
            if (link->block && link->block != 255) {
                if (link->filled == link->frame_room) link->lost = 1;
                else link->frame[link->filled++] = 0;
            }
            link->block = *bytes;
            link->left = (uint8_t)(*bytes - 1);
        } else { /* bytes of the block, as many as are here */
            size_t run = link->frame_room - link->filled;
            if (run > link->left) run = link->left;
            if (run > count + 1) run = count + 1;
            uint8_t *to = link->frame + link->filled;
            size_t at = 0;
            while (at < run && bytes[at]) to[at] = bytes[at], at++;
            link->filled += at;
            link->left = (uint8_t)(link->left - at);
            if (!at) {
                link->lost = 1;
            } else { /* the loop takes one more */
                bytes += at - 1;
                count -= at - 1;
            }
        }
    }
}
