#include "operation.h"

const snn_operation_kind *snn_kind_of(const snn_operation *op) {
    static const snn_operation_kind *const kinds[] = {
        [SNN_IMAGE] = &snn_image,
        [SNN_PIXELS] = &snn_pixels,
        [SNN_SPIKES] = &snn_spikes,
        [SNN_ATTEND] = &snn_attend,
    };
    return op->kind < sizeof kinds / sizeof *kinds ? kinds[op->kind] : NULL;
}
