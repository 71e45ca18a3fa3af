/* What a host sees of the layers: a hash of each step, or the numbers of one step and channel. */
#ifndef SNN_TRACE_H
#define SNN_TRACE_H

#include "value.h"

/* simulator/trace.py's hash of each step. */
void snn_trace(const snn_run_state *run, const snn_value *value, uint64_t *hashes);
/* Copies what the probe asks for, if the value has it and `room` numbers hold it. */
void snn_look(const snn_run_state *run, const snn_value *value, snn_probe *probe, size_t room);

#endif
