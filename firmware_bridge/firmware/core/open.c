/* Checks a plan, whatever it is made of. Nothing that passes can make a run read or write out of bounds. */
#include <string.h>

#include "blake2b.h"
#include "plan.h"

const char *snn_status_name(snn_status status) {
    static const char *const names[SNN_STATUSES] = {
        "SNN_OK",        "SNN_ALIGNMENT", "SNN_TRUNCATED",  "SNN_NOT_A_PLAN", "SNN_VERSION", "SNN_HASH",
        "SNN_HEADER",    "SNN_VALUE",     "SNN_OPERATION",  "SNN_TERM",       "SNN_PROJECTION", "SNN_CONSTANT",
        "SNN_SIZE",      "SNN_TOO_LARGE", "SNN_MEMORY",     "SNN_MODE",       "SNN_STOPPED",
    };
    return (unsigned)status < SNN_STATUSES ? names[status] : "unknown";
}

#define MOST_ROWS (1u << 20)

static int power_of_two(uint32_t x) { return x && !(x & (x - 1)); }
static int within(uint32_t x, uint32_t least, uint32_t most) { return least <= x && x <= most; }

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
    if (!power_of_two(h->time_steps) || h->time_steps > SNN_MAX_STEPS) return SNN_HEADER;
    if (!within(h->align, 1, SNN_MAX_ALIGN) || !within(h->stride, 1, h->align) || h->align % h->stride)
        return SNN_HEADER;
    if (h->halo % h->align || h->halo > 1u << 20 || !within(h->layers, 2, SNN_MAX_LAYERS)) return SNN_HEADER;
    /* Sections cannot be longer than the plan, so that the sum of their sizes below does not overflow. */
    if (h->values > size || h->operations > size || h->terms > size || h->projections > size) return SNN_TRUNCATED;
    if (h->unit % 4 || h->row_unit % 8 || h->zero) return SNN_HEADER;
    return SNN_OK;
}

static snn_status check_value(const snn_plan *plan, const snn_value *v) {
    const snn_header *h = plan->header;
    if (v->layer >= h->layers || !within(v->channels, 1, SNN_MAX_CHANNELS)) return SNN_VALUE;
    if (!within(v->scale, 1, SNN_MAX_SCALE) || h->stride % v->scale) return SNN_VALUE;
    if (v->steps != 1 && v->steps != h->time_steps) return SNN_VALUE;
    if (v->storage != SNN_BITS && v->storage != SNN_INT16 && v->storage != SNN_INT32) return SNN_VALUE;
    const uint64_t side = h->stride / v->scale;
    const uint64_t unit = (side * side * v->steps * snn_position_bytes(v) + 3) / 4 * 4;
    if (v->offset % 4 || unit > h->unit || v->offset > h->unit - unit) return SNN_VALUE;
    if (!within(v->rows, 1, MOST_ROWS)) return SNN_VALUE;
    const uint64_t row_unit = (side * v->rows * v->steps * snn_position_bytes(v) + 7) / 8 * 8;
    if (v->row_offset % 8 || row_unit > h->row_unit || v->row_offset > h->row_unit - row_unit) return SNN_VALUE;
    return SNN_OK;
}

/* Whether an array of constants lies within the plan. */
static int has(const snn_plan *plan, uint32_t offset, uint64_t count, uint32_t item) {
    if (offset % 4 || offset > plan->constant_bytes) return 0;
    return count <= (plan->constant_bytes - offset) / item;
}

static const snn_value *value_at(const snn_plan *plan, uint32_t index) {
    return index < plan->header->values ? &plan->values[index] : NULL;
}

/* Terms of an operation at `scale` with `channels` that does `steps` steps. bits: terms must be spikes. */
static snn_status check_terms(const snn_plan *plan, const snn_operation *op, uint32_t scale, uint32_t channels,
                              uint32_t steps, int bits) {
    if (op->first_term > plan->header->terms || op->terms > plan->header->terms - op->first_term) return SNN_OPERATION;
    for (uint32_t i = 0; i < op->terms; i++) {
        const snn_term *term = &plan->terms[op->first_term + i];
        const snn_value *v = value_at(plan, term->value);
        if (!v || (v->storage == SNN_BITS) != bits || term->mode > SNN_SPACE_TO_DEPTH || term->shift > 30)
            return SNN_TERM;
        if (bits && (term->mode != SNN_NEAREST || term->shift)) return SNN_TERM;
        if (!within(term->factor, 1, SNN_MAX_SCALE) || (v->steps != 1 && v->steps != steps)) return SNN_TERM;
        const uint32_t area = term->factor * term->factor;
        uint32_t given = v->channels;
        if (term->mode == SNN_SPACE_TO_DEPTH) {
            if (v->scale * term->factor != scale) return SNN_TERM;
            given *= area;
        } else {
            if (v->scale != scale * term->factor) return SNN_TERM;
            if (term->mode == SNN_DEPTH_TO_SPACE) {
                if (given % area) return SNN_TERM;
                given /= area;
            }
        }
        if (term->offset > channels || given > channels - term->offset) return SNN_TERM;
    }
    return SNN_OK;
}

static snn_status check_head(const snn_plan *plan, const snn_operation *op, uint32_t scale) {
    const snn_value *in = value_at(plan, op->input);
    if (!in || (in->storage == SNN_BITS) != (op->as.pixels.head == SNN_CONV)) return SNN_OPERATION;
    if (in->steps != 1 && in->steps != op->as.pixels.steps) return SNN_OPERATION;
    const uint32_t kernel = op->as.pixels.kernel, stride = op->as.pixels.stride, padding = op->as.pixels.padding;
    if (!within(kernel, 1, 7) || !within(stride, 1, 4) || padding > 3) return SNN_OPERATION;
    if (kernel <= 2 * padding || kernel - 2 * padding > stride || in->scale * stride != scale) return SNN_OPERATION;
    const uint32_t groups = op->as.pixels.groups;
    if (!groups || in->channels % groups || op->channels % groups) return SNN_OPERATION;
    if (op->as.pixels.head_layer >= plan->header->layers) return SNN_OPERATION;
    if (op->as.pixels.wide > 1 || (op->as.pixels.head == SNN_DENSE_CONV && !op->as.pixels.wide)) return SNN_OPERATION;
    const uint64_t runs = (uint64_t)kernel * kernel * in->channels;
    if (!has(plan, op->as.pixels.weight, runs * snn_run_length(op->channels, groups), 2)) return SNN_CONSTANT;
    if (op->as.pixels.bias != SNN_NONE && !has(plan, op->as.pixels.bias, op->channels, 4)) return SNN_CONSTANT;
    return SNN_OK;
}

static snn_status check_neuron(const snn_plan *plan, const snn_operation *op, const snn_value *spikes) {
    const uint32_t first = op->as.pixels.first_projection, count = op->as.pixels.projections;
    if (spikes->storage != SNN_BITS || spikes->steps != plan->time_steps || spikes->channels != op->channels)
        return SNN_OPERATION;
    if (op->as.pixels.lif_layer >= plan->layers || op->as.pixels.decay > 1 || op->as.pixels.subtract > 1)
        return SNN_OPERATION;
    if (!has(plan, op->as.pixels.threshold, op->channels, 4) || !has(plan, op->as.pixels.lif_bias, op->channels, 4) ||
        !has(plan, op->as.pixels.leak, op->channels, 1))
        return SNN_CONSTANT;
    for (uint32_t c = 0; c < op->channels; c++)
        if (plan->constants[op->as.pixels.leak + c] > 15) return SNN_CONSTANT;
    if (first > plan->header->projections || count > plan->header->projections - first) return SNN_OPERATION;
    return SNN_OK;
}

static snn_status check_pixels(const snn_plan *plan, const snn_operation *op) {
    const snn_value *out = value_at(plan, op->output), *spikes = value_at(plan, op->spikes);
    if (!out && !spikes) return SNN_OPERATION;
    const uint32_t scale = out ? out->scale : spikes->scale, steps = op->as.pixels.steps;
    if (spikes && spikes->scale != scale) return SNN_OPERATION;
    if ((steps != 1 && steps != plan->time_steps) || op->as.pixels.time_sum > 1 || op->as.pixels.rounds > 1)
        return SNN_OPERATION;
    if (out && (out->storage == SNN_BITS || out->channels != op->channels ||
                out->steps != (op->as.pixels.time_sum ? 1 : steps)))
        return SNN_OPERATION;
    if (op->as.pixels.shift > 30 || op->as.pixels.lo > op->as.pixels.hi || op->as.pixels.head > SNN_DENSE_CONV ||
        op->as.pixels.head_shift > 30)
        return SNN_OPERATION;
    snn_status status = check_terms(plan, op, scale, op->channels, steps, 0);
    if (!status && op->as.pixels.head) status = check_head(plan, op, scale);
    if (!status && spikes) status = check_neuron(plan, op, spikes);
    return status;
}

static snn_status check_attend(const snn_plan *plan, const snn_operation *op) {
    const snn_value *in = value_at(plan, op->input), *out = value_at(plan, op->output);
    if (!in || !out || in->storage == SNN_BITS || out->storage == SNN_BITS) return SNN_OPERATION;
    if (in->channels != op->channels || out->channels != op->channels || in->scale != out->scale) return SNN_OPERATION;
    const uint32_t over = op->as.attend.over, hidden = op->as.attend.hidden;
    if (over > SNN_OVER_SPACE || out->steps != (over == SNN_OVER_TIME ? plan->time_steps : in->steps))
        return SNN_OPERATION;
    if (!power_of_two(op->as.attend.window) || op->as.attend.window > 1024) return SNN_OPERATION;
    if (op->as.attend.pool_shift > 30 || op->as.attend.hidden_shift > 30 || op->as.attend.gate_shift > 30 ||
        op->as.attend.gate_q > 10)
        return SNN_OPERATION;
    if (over == SNN_OVER_SPACE) {
        if (op->as.attend.window != 1) return SNN_OPERATION;
        return has(plan, op->as.attend.squeeze, 9, 2) && has(plan, op->as.attend.squeeze_bias, 1, 4) ? SNN_OK
                                                                                                   : SNN_CONSTANT;
    }
    if (!within(hidden, 1, SNN_MAX_CHANNELS)) return SNN_OPERATION;
    const uint32_t size = over == SNN_OVER_TIME ? plan->time_steps : op->channels;
    const uint64_t weights = (uint64_t)hidden * size;
    return has(plan, op->as.attend.squeeze, weights, 2) && has(plan, op->as.attend.squeeze_bias, hidden, 4) &&
                   has(plan, op->as.attend.excite, weights, 2) && has(plan, op->as.attend.excite_bias, size, 4)
               ? SNN_OK
               : SNN_CONSTANT;
}

static snn_status check_operation(const snn_plan *plan, const snn_operation *op) {
    if (op->layer >= plan->layers || !within(op->channels, 1, SNN_MAX_CHANNELS) || op->lead > MOST_ROWS)
        return SNN_OPERATION;
    const snn_value *out = value_at(plan, op->output), *spikes = value_at(plan, op->spikes);
    if ((op->output != SNN_NONE && !out) || (op->spikes != SNN_NONE && !spikes)) return SNN_OPERATION;
    switch (op->kind) {
    case SNN_IMAGE: {
        const uint32_t factor = op->as.image.factor;
        if (!out || out->storage == SNN_BITS || out->steps != 1 || !within(factor, 1, 8) || out->scale != factor ||
            out->channels != 3 * factor * factor)
            return SNN_OPERATION;
        return SNN_OK;
    }
    case SNN_PIXELS:
        return check_pixels(plan, op);
    case SNN_SPIKES:
        if (!spikes || spikes->storage != SNN_BITS || spikes->steps != plan->time_steps) return SNN_OPERATION;
        return check_terms(plan, op, spikes->scale, spikes->channels, spikes->steps, 1);
    case SNN_ATTEND:
        return check_attend(plan, op);
    case SNN_READOUT:
        if (op->channels != 3 || op->as.readout.shift > 30) return SNN_OPERATION;
        return check_terms(plan, op, 1, 3, 1, 0);
    default:
        return SNN_OPERATION;
    }
}

static snn_status check_projection(const snn_plan *plan, const snn_projection *p) {
    const int sound = p->target < plan->layers && within(p->target_scale, 1, SNN_MAX_SCALE) &&
                      within(p->factor, 1, SNN_MAX_SCALE) && within(p->kernel, 1, 7) && within(p->stride, 1, 4) &&
                      p->padding <= 3 && within(p->channels, 1, SNN_MAX_CHANNELS);
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
