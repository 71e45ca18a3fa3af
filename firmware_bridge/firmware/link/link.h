/* The board's end of the link: frames in, frames out. firmware_bridge/PROTOCOL.md says what every byte means.
 *
 * The caller owns all memory and moves the bytes:
 *
 *     snn_link link;
 *     snn_link_start(&link, &port, memory, bytes, most_body);
 *     for (;;) snn_link_take(&link, received, count);          whatever came, in pieces of any size
 *
 * Nothing that arrives makes it read or write beyond its memory; what is no valid frame is counted and forgotten.
 */
#ifndef SNN_LINK_H
#define SNN_LINK_H

#include "snn.h"

enum { SNN_LINK_VERSION = 2, SNN_LINK_LEAST_BODY = 64, SNN_LINK_MOST_BODY = 1 << 16, SNN_LINK_BUILD = 16 };

/* Kinds of frames. An answer has its request's kind plus SNN_ANSWER. Never renumber. */
enum {
    SNN_HELLO = 1, SNN_PING, SNN_RESET, SNN_BEGIN, SNN_DATA, SNN_RUN, SNN_READ, SNN_STATISTICS,
    SNN_PROGRESS = 0x70, SNN_ERROR = 0x7F, SNN_ANSWER = 0x80
};
enum { SNN_PLAN = 0, SNN_PICTURE = 1 };              /* what is uploaded */
enum { SNN_RESTORED = 0, SNN_COUNTED = 1, SNN_LOOKED = 2 }; /* what is read */
enum { SNN_ROWS = 1, SNN_TRACED = 2, SNN_LOOK = 4 }; /* how a job is run: by rows; with a trace, or a look into a layer */
enum { SNN_WALL_NS = 0, SNN_CYCLES = 1, SNN_INSTRUCTIONS = 2 }; /* what ticks count */

/* Why a request is not answered as asked. */
enum {
    SNN_BAD_KIND = 1, /* unknown kind of request */
    SNN_BAD_LENGTH,   /* the body is not as long as the kind needs */
    SNN_BAD_VALUE,    /* a field is out of range */
    SNN_NO_ROOM,      /* plan, picture and working memory do not fit */
    SNN_NO_PLAN,      /* no plan is there, or not yet all of it */
    SNN_NO_PICTURE,   /* no picture is there for this job, or not yet all of it */
    SNN_BAD_HASH,     /* what was uploaded is not what was announced; it has to be sent again */
    SNN_NO_RESULT,    /* no result of this job is there */
    SNN_REFUSED       /* the core refused; the detail is its snn_status */
};

/* What a machine gives. write: all of it, or the link is lost. */
typedef struct {
    void *context;
    void (*write)(void *context, const uint8_t *bytes, size_t count);
    uint64_t (*ticks)(void *context);
    uint64_t ticks_per_second;
    uint32_t clock; /* SNN_WALL_NS, ... */
    uint8_t build[SNN_LINK_BUILD];
} snn_link_port;

typedef struct {
    uint32_t size, have, state; /* state: see link.c */
    uint8_t hash[32];
} snn_upload;

typedef struct {
    const snn_link_port *port;
    uint32_t most_body;
    uint8_t *frame, *answer, *wire, *pool; /* what is received, what is answered, the same encoded, the rest */
    size_t frame_room, pool_bytes;
    /* the frame that is coming in */
    size_t filled;
    uint8_t block, left;
    int lost;
    /* what is here */
    snn_upload upload[2];
    snn_plan plan;
    snn_tile tile;
    uint32_t job, result; /* number of the job that the picture is for; whether its result is here */
    uint64_t took, progress;
    size_t used_memory, looked_bytes;
    uint8_t *picture, *counts, *looked; /* looked: the trace, or the numbers of a layer */
    uint16_t running;
    uint32_t statistics[6]; /* frames, bad frames, bytes[2], runs, errors */
} snn_link;

/* Bytes of memory that are not for plans and pictures. */
size_t snn_link_overhead(uint32_t most_body);

/* memory: a multiple of 8. most_body: of a frame, SNN_LINK_LEAST_BODY to SNN_LINK_MOST_BODY. 0 if it does not fit. */
int snn_link_start(snn_link *link, const snn_link_port *port, void *memory, size_t bytes, uint32_t most_body);

void snn_link_take(snn_link *link, const uint8_t *bytes, size_t count);

#endif
