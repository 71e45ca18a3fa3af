/* Checks a plan, whatever it is made of. Nothing that passes can make a run read or write out of bounds. */
#include <string.h>

#include "blake2b.h"
#include "check.h"
#include "operation.h"

const char *snn_status_name(snn_status status) {
    static const char *const names[SNN_STATUSES] = {
        "SNN_OK",        "SNN_ALIGNMENT", "SNN_TRUNCATED",  "SNN_NOT_A_PLAN", "SNN_VERSION", "SNN_HASH",
        "SNN_HEADER",    "SNN_VALUE",     "SNN_OPERATION",  "SNN_TERM",       "SNN_PROJECTION", "SNN_CONSTANT",
        "SNN_SIZE",      "SNN_TOO_LARGE", "SNN_MEMORY",     "SNN_MODE",       "SNN_STOPPED",
    };
    return (unsigned)status < SNN_STATUSES ? names[status] : "unknown";
}

#define MOST_ROWS (1u << 20)

static snn_status check_header(const snn_header *h, size_t size) {
    if (h->magic != SNN_MAGIC) return SNN_NOT_A_PLAN;
    if (h->version != SNN_VERSION_NUMBER || h->semantics != SNN_SEMANTICS) return SNN_VERSION;
    if (h->bytes != size || size % 4) return SNN_TRUNCATED;
    snn_blake2b hash;
    uint8_t digest[32];
    static const uint8_t blank[32];
    const uint8_t *bytes = (const uint8_t *)h;
    snn_blake2b_start(&hash, sizeof digest);
    snn_blake2b_add(&hash, bytes, offsetof(snn_header, hash));
    snn_blake2b_add(&hash, blank, sizeof blank);
    snn_blake2b_add(&hash, h->bundle_hash, size - offsetof(snn_header, bundle_hash));
    snn_blake2b_finish(&hash, digest);
    if (memcmp(digest, h->hash, sizeof digest)) return SNN_HASH;
    if (!snn_power_of_two(h->time_steps) || h->time_steps > SNN_MAX_STEPS) return SNN_HEADER;
    if (!snn_within(h->align, 1, SNN_MAX_ALIGN) || !snn_within(h->stride, 1, h->align) || h->align % h->stride)
        return SNN_HEADER;
    if (h->halo % h->align || h->halo > 1u << 20 || !snn_within(h->layers, 2, SNN_MAX_LAYERS)) return SNN_HEADER;
    /* Sections cannot be longer than the plan, so that the sum of their sizes below does not overflow. */
    if (h->values > size || h->operations > size || h->terms > size || h->projections > size) return SNN_TRUNCATED;
    if (h->unit % 4 || h->row_unit % 8 || h->zero) return SNN_HEADER;
    return SNN_OK;
}

/* Bytes of a value per block of stride x stride pixels. */
static uint64_t unit_of(const snn_plan *plan, const snn_value *v) {
    const uint64_t side = plan->header->stride / v->scale;
    return (side * side * v->steps * snn_position_bytes(v) + 3) / 4 * 4;
}

static snn_status check_value(const snn_plan *plan, const snn_value *v) {
    const snn_header *h = plan->header;
    if (v->layer >= h->layers || !snn_within(v->channels, 1, SNN_MAX_CHANNELS)) return SNN_VALUE;
    if (!snn_within(v->scale, 1, SNN_MAX_SCALE) || h->stride % v->scale) return SNN_VALUE;
    if (!snn_within(v->storage, SNN_BITS, SNN_COUNTS) || (v->storage == SNN_INT24 && v->channels % 2)) return SNN_VALUE;
    if (v->storage == SNN_COUNTS ? v->steps != snn_digits(h->time_steps) : v->steps != 1 && v->steps != h->time_steps)
        return SNN_VALUE;
    const uint64_t side = h->stride / v->scale, unit = unit_of(plan, v);
    if (v->offset % 4 || unit > h->unit || v->offset > h->unit - unit) return SNN_VALUE;
    if (!snn_within(v->rows, 1, MOST_ROWS)) return SNN_VALUE;
    const uint64_t row_unit = (side * v->rows * v->steps * snn_position_bytes(v) + 7) / 8 * 8;
    if (v->row_offset % 8 || row_unit > h->row_unit || v->row_offset > h->row_unit - row_unit) return SNN_VALUE;
    return SNN_OK;
}

/* Whether a value that an operation looks through or writes lies before its scratch, when worked on at once. */
static int below(const snn_plan *plan, uint32_t index, uint32_t used) {
    if (index == SNN_NONE) return 1;
    const snn_value *v = snn_value_at(plan, index);
    return v && unit_of(plan, v) <= used && v->offset <= used - unit_of(plan, v);
}

static snn_status check_operation(const snn_plan *plan, const snn_operation *op) {
    if (op->layer >= plan->layers || !snn_within(op->channels, 1, SNN_MAX_CHANNELS) || op->lead > MOST_ROWS)
        return SNN_OPERATION;
    if (op->used % 4 || op->used > plan->header->unit || !below(plan, op->input, op->used) ||
        !below(plan, op->output, op->used) || !below(plan, op->spikes, op->used))
        return SNN_OPERATION;
    const snn_operation_kind *kind = snn_kind_of(op);
    return kind ? kind->check(plan, op) : SNN_OPERATION;
}

static snn_status check_projection(const snn_plan *plan, const snn_projection *p) {
    const int sound = p->target < plan->layers && snn_within(p->target_scale, 1, SNN_MAX_SCALE) &&
                      snn_within(p->factor, 1, SNN_MAX_SCALE) && snn_within(p->kernel, 1, 7) &&
                      snn_within(p->stride, 1, 4) && snn_within(p->dilation, 1, SNN_MAX_DILATION) &&
                      p->padding <= 3 * SNN_MAX_DILATION && snn_within(p->channels, 1, SNN_MAX_CHANNELS);
    return sound ? SNN_OK : SNN_PROJECTION;
}

snn_status snn_open(snn_plan *plan, const void *bytes, size_t size, uint32_t *record) {
    uint32_t unused;
    if (!record) record = &unused;
    *record = 0;
    if ((uintptr_t)bytes % 8) return SNN_ALIGNMENT;
    if (size < sizeof(snn_header)) return SNN_TRUNCATED;
    const snn_header *h = bytes;
    snn_status status = check_header(h, size);
    if (status) return status;
    *plan = (snn_plan){
        .hash = h->hash,
        .bundle_hash = h->bundle_hash,
        .layers = h->layers,
        .time_steps = h->time_steps,
        .stride = h->stride,
        .align = h->align,
        .halo = h->halo,
        .header = h,
    };
    const uint64_t values = sizeof(snn_header), operations = values + (uint64_t)h->values * sizeof(snn_value);
    const uint64_t terms = operations + (uint64_t)h->operations * sizeof(snn_operation);
    const uint64_t projections = terms + (uint64_t)h->terms * sizeof(snn_term);
    const uint64_t constants = projections + (uint64_t)h->projections * sizeof(snn_projection);
    if (constants > size) return SNN_TRUNCATED;
    const uint8_t *base = bytes;
    plan->values = (const void *)(base + values);
    plan->operations = (const void *)(base + operations);
    plan->terms = (const void *)(base + terms);
    plan->projections = (const void *)(base + projections);
    plan->constants = base + constants;
    plan->constant_bytes = size - (size_t)constants;
    for (*record = 0; *record < h->values; ++*record)
        if ((status = check_value(plan, &plan->values[*record]))) return status;
    for (*record = 0; *record < h->projections; ++*record)
        if ((status = check_projection(plan, &plan->projections[*record]))) return status;
    for (*record = 0; *record < h->operations; ++*record)
        if ((status = check_operation(plan, &plan->operations[*record]))) return status;
    *record = 0;
    return SNN_OK;
}
