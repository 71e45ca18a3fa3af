/* Talks to the board's end of the link as no host should: sound conversations, single fields out of bounds, damaged
 * frames, frames without end, noise, in pieces of any size. Compiled with sanitizers.
 *
 *     frames FIRST_SEED COUNT SECONDS PLAN...     stops after COUNT frames or SECONDS, whichever is first (0: no limit)
 *
 * A seed is a session with a board of its own, whose memory is a block of exactly its size. Besides what the sanitizers
 * see, every session checks that each sound frame is answered once, soundly and with its sequence, that a ping is
 * answered after any garbage, and that a conversation without garbage ends with the core's own picture and counts. */
#include "draw.h"
#include "link.h"

enum { HEADER = 4, CRC = 4, LARGEST = 4096, LINE = 3 * LARGEST, FRAMES = 96, SIDE = 12, DAMAGED = -1 };

static uint64_t frames, runs, sessions;
static snn_link board;

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "the board misbehaved: %s\n", what);
    report();
    exit(1);
}

/* Another CRC-32 than the board's, bit by bit. */
static uint32_t checksum(const uint8_t *bytes, size_t count) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            table[i] = i;
            for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
        }
    uint32_t crc = 0xFFFFFFFFu;
    while (count--) crc = crc >> 8 ^ table[(crc ^ *bytes++) & 255];
    return ~crc;
}

static uint32_t word(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

/* What the board is expected to say to the last frame, and what it said. */
static struct {
    int kind; /* DAMAGED: whatever it is */
    uint16_t sequence;
    int answers, refused;
    uint8_t body[LARGEST];
    size_t length;
} said;

static void hear(void *context, const uint8_t *bytes, size_t count) {
    static uint8_t frame[LARGEST + HEADER + CRC + 1];
    size_t length = 0, at = 0;
    (void)context;
    if (!count || bytes[count - 1]) fail("an answer that does not end with a zero");
    while (at < count - 1) {
        const uint8_t code = bytes[at++];
        if (!code || at + code - 1 > count - 1) fail("an answer that is no COBS");
        for (uint8_t i = 1; i < code; i++) {
            if (!bytes[at] || length >= sizeof frame) fail("an answer that is no COBS");
            frame[length++] = bytes[at++];
        }
        if (code < 255 && at < count - 1) {
            if (length >= sizeof frame) fail("an answer that is too long");
            frame[length++] = 0;
        }
    }
    if (length < HEADER + CRC || length > (size_t)board.most_body + HEADER + CRC) fail("an answer of a wrong length");
    if (checksum(frame, length - CRC) != word(frame + length - CRC)) fail("an answer with a wrong checksum");
    if (frame[0] != SNN_LINK_VERSION) fail("an answer of another version");
    if (frame[1] == SNN_PROGRESS + SNN_ANSWER) return;
    said.refused = frame[1] == SNN_ERROR + SNN_ANSWER;
    if (said.kind != DAMAGED) {
        if ((frame[2] | frame[3] << 8) != said.sequence) fail("an answer with another sequence");
        if (frame[1] != (uint8_t)(said.kind + SNN_ANSWER) && !said.refused) fail("an answer of another kind");
    }
    said.answers++;
    said.length = length - HEADER - CRC;
    memcpy(said.body, frame + HEADER, said.length);
}

static uint64_t ticks(void *context) {
    static uint64_t now;
    (void)context;
    return now += 7;
}

static void feed(const uint8_t *bytes, size_t count) {
    while (count) {
        const size_t some = draw(8) ? 1 + draw((uint32_t)count) : count;
        uint8_t *piece = block(some);
        memcpy(piece, bytes, some);
        snn_link_take(&board, piece, some);
        free(piece);
        bytes += some;
        count -= some;
    }
}

static size_t encode(uint8_t version, uint32_t kind, const uint8_t *body, size_t length, uint8_t *to) {
    static uint8_t frame[LINE];
    size_t at = 1, start = 0;
    frame[0] = version;
    frame[1] = (uint8_t)kind;
    memcpy(frame + 2, &said.sequence, 2);
    if (length) memcpy(frame + HEADER, body, length);
    const uint32_t crc = checksum(frame, HEADER + length);
    memcpy(frame + HEADER + length, &crc, CRC);
    for (size_t i = 0; i < HEADER + length + CRC; i++) {
        if (frame[i]) to[at++] = frame[i];
        if (!frame[i] || at - start == 255) {
            to[start] = (uint8_t)(at - start);
            start = at++;
        }
    }
    to[start] = (uint8_t)(at - start);
    to[at++] = 0;
    return at;
}

/* A sound frame, which gets one answer if it is no longer than the board takes. */
static void ask(uint32_t kind, const uint8_t *body, size_t length) {
    static uint8_t line[LINE];
    said.sequence = (uint16_t)draw(65536);
    said.kind = (uint8_t)kind;
    said.answers = said.refused = 0;
    const size_t count = encode(SNN_LINK_VERSION, kind, body, length, line);
    feed(line, count);
    frames++;
    if (said.answers != (length <= board.most_body)) fail("a sound frame was not answered once");
}

static void ping(void) {
    uint8_t body[16];
    const uint32_t length = draw(sizeof body);
    for (uint32_t i = 0; i < length; i++) body[i] = (uint8_t)draw(256);
    feed((const uint8_t[]){0}, 1);
    ask(SNN_PING, body, length);
    if (said.refused || said.length != length || memcmp(said.body, body, length)) fail("a ping is not returned");
}

/* A conversation as a host leads it; next() says what comes next. */
static struct {
    sample plan;
    uint8_t picture[3 * SIDE * SIDE];
    uint32_t height, width, sent, job, how;
    enum { HELLO, OPEN_PLAN, SEND_PLAN, CHECK_PLAN, OPEN_PICTURE, SEND_PICTURE, CHECK_PICTURE, RUN, RESTORED, COUNTED, LOOKED, TOLD } stage;
} talk;

static uint8_t *put(uint8_t *to, uint32_t value) {
    memcpy(to, &value, 4);
    return to + 4;
}

static void new_picture(void) {
    talk.height = 1 + draw(SIDE);
    talk.width = 1 + draw(SIDE);
    talk.job = draw(4);
    talk.how = (uint32_t[]){0, SNN_ROWS, SNN_TRACED, SNN_LOOK}[draw(4)];
    for (uint32_t i = 0; i < 3 * talk.height * talk.width; i++) talk.picture[i] = (uint8_t)draw(256);
}

static size_t opening(uint8_t *body, uint32_t what, const uint8_t *bytes, uint32_t count) {
    snn_blake2b hash;
    snn_blake2b_start(&hash, 32);
    snn_blake2b_add(&hash, bytes, count);
    snn_blake2b_finish(&hash, put(put(put(body, what), talk.job), count));
    talk.sent = 0;
    return 44;
}

static size_t piece(uint8_t *body, uint32_t what, const uint8_t *bytes, uint32_t count) {
    uint32_t some = count - talk.sent;
    if (some > board.most_body - 8) some = board.most_body - 8;
    if (!some) { /* a session may be led astray */
        talk.sent = 0;
        some = 1;
    }
    memcpy(put(put(body, what), talk.sent), bytes + talk.sent, some);
    talk.sent += some;
    if (talk.sent == count) talk.stage++;
    return 8 + some;
}

static size_t reading(uint8_t *body, uint32_t what, size_t count) {
    put(put(put(put(body, what), talk.job), 0), count < board.most_body - 8 ? (uint32_t)count : board.most_body - 8);
    talk.stage++;
    return 16;
}

static size_t running(uint8_t *body, uint32_t height, uint32_t width) {
    const uint32_t tile[] = {height, width, 0, 0, height, width, 0, 0, height, width};
    uint8_t *at = put(put(body, talk.job), talk.how);
    for (int i = 0; i < 10; i++) at = put(at, tile[i]);
    put(put(put(at, draw(8)), 0), draw(4));
    return 60;
}

/* The body of the next frame; returns its length. */
static size_t next(uint32_t *kind, uint8_t *body) {
    const uint32_t pixels = talk.height * talk.width;
    switch (talk.stage) {
    case HELLO: *kind = SNN_HELLO; talk.stage++; return 0;
    case OPEN_PLAN: *kind = SNN_BEGIN; talk.stage++; return opening(body, SNN_PLAN, talk.plan.bytes, (uint32_t)talk.plan.size);
    case SEND_PLAN: *kind = SNN_DATA; return piece(body, SNN_PLAN, talk.plan.bytes, (uint32_t)talk.plan.size);
    case CHECK_PLAN: *kind = SNN_BEGIN; talk.stage++; return opening(body, SNN_PLAN, talk.plan.bytes, (uint32_t)talk.plan.size);
    case OPEN_PICTURE: *kind = SNN_BEGIN; talk.stage++; new_picture(); return opening(body, SNN_PICTURE, talk.picture, 3 * talk.height * talk.width);
    case SEND_PICTURE: *kind = SNN_DATA; return piece(body, SNN_PICTURE, talk.picture, 3 * pixels);
    case CHECK_PICTURE: *kind = SNN_BEGIN; talk.stage++; return opening(body, SNN_PICTURE, talk.picture, 3 * pixels);
    case RUN: *kind = SNN_RUN; talk.stage++; return running(body, talk.height, talk.width);
    case RESTORED: *kind = SNN_READ; return reading(body, SNN_RESTORED, 3 * (size_t)pixels);
    case COUNTED: *kind = SNN_READ; return reading(body, SNN_COUNTED, board.plan.layers * sizeof(snn_counts));
    case LOOKED: *kind = SNN_READ; return reading(body, SNN_LOOKED, board.looked_bytes);
    default: *kind = SNN_STATISTICS; talk.stage = draw(16) ? OPEN_PICTURE : HELLO; return 0;
    }
}

/* What a conversation without garbage must have ended with. */
static void compare(void) {
    snn_plan plan;
    static uint8_t restored[3 * SIDE * SIDE];
    const snn_tile tile = snn_whole(talk.height, talk.width);
    size_t needed;
    if (snn_open(&plan, talk.plan.bytes, talk.plan.size, NULL) || snn_memory_size(&plan, &tile, SNN_AT_ONCE, &needed)) fail("a plan that only the link opens");
    snn_job job = {.mode = SNN_AT_ONCE, .picture = talk.picture, .restored = restored, .memory = block(needed), .memory_bytes = needed, .counts = block(plan.layers * sizeof(snn_counts))};
    if (snn_run(&plan, &tile, &job)) fail("a picture that only the link restores");
    if (memcmp(restored, board.picture, 3 * (size_t)talk.height * talk.width)) fail("another picture than the core's");
    if (memcmp(job.counts, board.counts, plan.layers * sizeof(snn_counts))) fail("other counts than the core's");
    free(job.memory);
    free(job.counts);
    runs++;
}

static void sound(void) {
    static uint8_t body[LARGEST];
    for (int i = 0; i < FRAMES; i++) {
        uint32_t kind;
        if (talk.stage == SEND_PICTURE && !draw(4)) {
            ask(SNN_RUN, body, running(body, talk.height, talk.width));
            if (!said.refused) fail("a picture was restored before it was there");
        } else if (talk.stage == RUN && !draw(4)) {
            ask(SNN_RUN, body, running(body, talk.height + 1 + draw(8), talk.width));
            if (!said.refused) fail("a picture was restored as one of another size");
        } else if (talk.stage == COUNTED && !draw(4)) {
            put(put(put(put(body, SNN_COUNTED), talk.job), 0), board.most_body - 7);
            ask(SNN_READ, body, 16);
            if (!said.refused) fail("more was given than fits a frame");
        }
        const size_t length = next(&kind, body);
        ask(kind, body, length);
        if (said.refused) fail("a sound request was refused");
        if (kind == SNN_RUN) compare();
    }
}

/* A sound frame with a body that is not. */
static void odd(uint8_t *body) {
    uint32_t kind;
    size_t length = next(&kind, body);
    if (kind == SNN_RUN && draw(2)) running(body, 1 + draw(64), 1 + draw(64)); /* not the picture's size */
    for (uint32_t n = draw(3); n > 0; n--) {
        switch (draw(4)) {
        case 0:
            kind = draw(2) ? draw(12) : draw(256);
            break;
        case 1:
            length = draw(2) ? draw(64) : draw(board.most_body + 1);
            break;
        default:
            if (length >= 4) {
                uint8_t *at = body + 4 * draw((uint32_t)length / 4);
                put(at, draw(2) ? telling(word(at)) : word(at) + draw(512));
            }
        }
    }
    ask(kind, body, length);
}

static void damaged(uint8_t *body) {
    static uint8_t line[LINE + 64];
    uint32_t kind;
    const size_t length = next(&kind, body);
    said.kind = DAMAGED;
    size_t count = encode(draw(8) ? SNN_LINK_VERSION : (uint8_t)draw(256), kind, body, length, line);
    for (uint32_t n = 1 + draw(4); n > 0; n--) {
        const size_t at = draw((uint32_t)count);
        switch (draw(3)) {
        case 0:
            line[at] = (uint8_t)draw(256);
            break;
        case 1:
            memmove(line + at, line + at + 1, count - at - 1);
            count -= count > 1;
            break;
        default:
            memmove(line + at + 1, line + at, count - at);
            count++;
        }
    }
    feed(line, count);
    frames++;
    ping();
}

static void noise(void) {
    static uint8_t line[3 * LARGEST];
    const uint32_t count = draw(8) ? 1 + draw(200) : 1 + draw(sizeof line), zeros = draw(3);
    for (uint32_t i = 0; i < count; i++) line[i] = zeros ? (uint8_t)draw(256) : (uint8_t)(1 + draw(255));
    said.kind = DAMAGED;
    feed(line, count);
    frames++;
    ping();
}

static void too_long(uint8_t *body) {
    const size_t length = board.most_body + 1 + draw(64);
    memset(body, (int)draw(2), length);
    said.kind = DAMAGED;
    ask(draw(12), body, length);
    ping();
}

static void hostile(void) {
    static uint8_t body[LARGEST + 128];
    if (!draw(4)) {
        damage(&talk.plan);
        seal(&talk.plan);
        if (talk.plan.size < 1) talk.plan.size = 1;
    }
    for (int i = 0; i < FRAMES; i++) {
        const uint32_t kind = draw(16);
        if (kind < 8) {
            uint32_t sound_kind;
            const size_t length = next(&sound_kind, body);
            ask(sound_kind, body, length);
        } else if (kind < 12) {
            odd(body);
        } else if (kind < 14) {
            damaged(body);
        } else if (draw(2)) {
            noise();
        } else {
            too_long(body);
        }
    }
}

int main(int argc, char **argv) {
    sample samples[MOST_PLANS];
    static snn_link_port port = {.write = hear, .ticks = ticks, .ticks_per_second = 1000, .clock = SNN_CYCLES};
    if (argc < 5 || argc - 4 > MOST_PLANS) {
        fputs("usage: frames FIRST_SEED COUNT SECONDS PLAN...\n", stderr);
        return 2;
    }
    const uint64_t first = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
    for (int i = 4; i < argc; i++) samples[i - 4] = read_file(argv[i]);
    watch clock = watching(strtod(argv[3], NULL));
    __sanitizer_set_death_callback(report);
    for (uint64_t from = first; (count == 0 || frames < count) && !over(&clock, frames, "frames"); from++, sessions++) {
        start(from);
        const int pure = !draw(4);
        const sample *plan = &samples[draw((uint32_t)argc - 4)];
        talk.plan = (sample){block(plan->size), plan->size};
        memcpy(talk.plan.bytes, plan->bytes, plan->size);
        talk.stage = HELLO;
        new_picture();
        const uint32_t most = pure ? 256u << 2 * draw(3) : draw(4) ? 1024u << draw(3) : 64 + draw(1024);
        const size_t memory = pure ? 512u << 10 : snn_link_overhead(most) + 8 * (size_t)draw(draw(2) ? 1u << 14 : 1u << 10);
        void *bytes = block(memory);
        if (!snn_link_start(&board, &port, bytes, memory, most)) fail("a board with memory that does not start");
        if (pure) sound();
        else hostile();
        free(bytes);
        free(talk.plan.bytes);
    }
    printf("%llu frames in %llu sessions, seeds from %llu; %llu pictures as the core restores them\n", (unsigned long long)frames, (unsigned long long)sessions, (unsigned long long)first, (unsigned long long)runs);
    for (int i = 4; i < argc; i++) free(samples[i - 4].bytes);
    return 0;
}
