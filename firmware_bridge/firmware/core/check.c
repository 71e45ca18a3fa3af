#include "check.h"

int snn_has(const snn_plan *plan, uint32_t offset, uint64_t count, uint32_t item) {
    if (offset % 4 || offset > plan->constant_bytes) return 0;
    return count <= (plan->constant_bytes - offset) / item;
}

const snn_value *snn_value_at(const snn_plan *plan, uint32_t index) {
    return index < plan->header->values ? &plan->values[index] : NULL;
}

snn_status snn_check_terms(const snn_plan *plan, const snn_operation *op, uint32_t scale, uint32_t channels,
                           uint32_t steps, const snn_value *spikes) {
    if (op->first_term > plan->header->terms || op->terms > plan->header->terms - op->first_term) return SNN_OPERATION;
    for (uint32_t i = 0; i < op->terms; i++) {
        const snn_term *term = &plan->terms[op->first_term + i];
        const snn_value *v = snn_value_at(plan, term->value);
        if (!v || (spikes ? v->storage != spikes->storage : snn_is_spikes(v)) || term->mode > SNN_SPACE_TO_DEPTH || term->shift > 30)
            return SNN_TERM;
        if (spikes && (term->mode != SNN_NEAREST || term->shift)) return SNN_TERM;
        if (!snn_within(term->factor, 1, SNN_MAX_SCALE) || (v->steps != 1 && v->steps != steps)) return SNN_TERM;
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
