/* Event-driven inference of a spiking image-restoration network: integers only, no allocation, no operating system.
 *
 * The caller owns all memory: the plan (made by firmware_bridge/plan, format in firmware_bridge/PLAN.md), the
 * pictures and one block of working memory whose size snn_memory_size() tells. Every result equals
 * simulator/reference.py to the last bit. Nothing here is global: calls on different memory may run at the same time.
 *
 *     snn_plan plan;
 *     snn_open(&plan, bytes, size);                      checks everything; the bytes stay where they are
 *     snn_tile tile = snn_whole(height, width);
 *     snn_memory_size(&plan, &tile, SNN_AT_ONCE, &needed);
 *     snn_run(&plan, &tile, &job);
 */
#ifndef SNN_H
#define SNN_H

#include <stddef.h>
#include <stdint.h>

/* Values are part of the link's protocol: append, never renumber. */
typedef enum {
    SNN_OK = 0,
    SNN_ALIGNMENT,   /* the plan or the working memory does not start at a multiple of 8 */
    SNN_TRUNCATED,   /* the plan is shorter than it says, or than its records need */
    SNN_NOT_A_PLAN,  /* the first bytes are not a plan's */
    SNN_VERSION,     /* a plan of another version of the format or of the nodes' meaning */
    SNN_HASH,        /* the plan's hash is not that of its bytes: it was damaged on its way */
    SNN_HEADER,      /* a field of the header is out of range */
    SNN_VALUE,       /* a stored value's record is out of range */
    SNN_OPERATION,   /* an operation's record is out of range or does not fit its values */
    SNN_TERM,        /* a term's record likewise */
    SNN_PROJECTION,  /* a projection's record likewise */
    SNN_CONSTANT,    /* an operation's constants lie outside the plan or are out of range */
    SNN_SIZE,        /* the tile has no pixel, is not aligned, or lies outside its image */
    SNN_TOO_LARGE,   /* the working memory would not fit this machine's addresses */
    SNN_MEMORY,      /* less working memory was given than snn_memory_size() says */
    SNN_MODE,        /* an unknown way of working, or a trace or probe of a run by rows */
    SNN_STOPPED,     /* the caller's poll function asked to stop; the picture is incomplete */
    SNN_STATUSES
} snn_status;

/* The status in words of its own, as "SNN_OK". */
const char *snn_status_name(snn_status status);

/* An opened plan. The caller may read the fields above the line. */
typedef struct {
    const uint8_t *hash;        /* 32 bytes, of the plan */
    const uint8_t *bundle_hash; /* 32 bytes, of the bundle that it was compiled from */
    uint32_t layers;            /* nodes of the network, as results number them */
    uint32_t time_steps;
    uint32_t stride; /* images are replicate-padded right and bottom to a multiple of this, pixels */
    uint32_t align;  /* tiles start at multiples of this */
    uint32_t halo;   /* a tile's result is exact from this many pixels inside its cut edges */
    /* ---- */
    const struct snn_header *header;
    const struct snn_value *values;
    const struct snn_operation *operations;
    const struct snn_term *terms;
    const struct snn_projection *projections;
    const uint8_t *constants;
    size_t constant_bytes;
} snn_plan;

/* Checks a plan of `size` bytes and opens it; reads nothing beyond. On failure `operation`, if not NULL, is the index
 * of the record at fault. */
snn_status snn_open(snn_plan *plan, const void *bytes, size_t size, uint32_t *record);

/* Which pixels are given, and what of them counts. All in pixels of the whole image.
 *
 * A tile ends at the image's edge or at a multiple of the stride; zeros lie beyond the padded tile. So cut edges need
 * `halo` pixels of real image around the part that is to be exact. Spikes are counted in the inner part only, in
 * place, so that the counts of all tiles add up to those of the image. */
typedef struct {
    uint32_t image_height, image_width;
    uint32_t top, left, height, width;                         /* the pixels that are given */
    uint32_t inner_top, inner_left, inner_height, inner_width; /* multiples of align, or up to the image's edge */
} snn_tile;

snn_tile snn_whole(uint32_t height, uint32_t width);

/* What one layer did: spikes of a lif node, synaptic operations of a conv node, multiply-accumulates of a dense_conv
 * or attend node, as simulator/statistics.py defines them. MACs are those of the whole image, whatever the tile. */
typedef struct {
    uint64_t spikes, synops, macs;
} snn_counts;

/* Ways of working, with the same results. At once: one operation after the other, each over the whole tile; memory
 * grows with the tile's area. By rows: from top to bottom in bands, of which only the rows that are still needed are
 * kept; memory grows with the tile's width alone, nothing is computed twice, but a small tile takes more. */
typedef enum { SNN_AT_ONCE = 0, SNN_BY_ROWS = 1 } snn_mode;

/* Bytes of working memory for a tile. */
snn_status snn_memory_size(const snn_plan *plan, const snn_tile *tile, snn_mode mode, size_t *bytes);

/* Numbers to look at: one step and channel of a layer's output over the padded tile, [row][column]. */
typedef struct {
    uint32_t layer, step, channel;
    int32_t *numbers;
    size_t count; /* how many fit; snn_run says how many it wrote: 0 where nothing of that kind is stored, or fits */
} snn_probe;

typedef struct {
    snn_mode mode;
    const uint8_t *picture; /* [height][width][3], RGB */
    uint8_t *restored;      /* likewise; may be the picture itself */
    void *memory;           /* multiple of 8 */
    size_t memory_bytes;
    snn_counts *counts;     /* [layers] */
    uint64_t *trace;        /* NULL, or [layers][time_steps]: simulator/trace.py's hashes, 0 where nothing is stored;
                             * only of a run at once */
    int (*poll)(void *context); /* NULL, or called once a row; not 0 stops the run */
    void *context;
    snn_probe *probe; /* NULL, or what to look at; only of a run at once */
} snn_job;

snn_status snn_run(const snn_plan *plan, const snn_tile *tile, const snn_job *job);

#endif
