/* The link on a bare Cortex-M, over the line that is linked in. */
#include "line.h"
#include "link.h"
#include "machine.h"

#ifndef TICKS_PER_SECOND
#error "say what SysTick counts per second"
#endif

static void put(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    line_send(bytes, count);
}

static uint64_t ticks(void *context) {
    (void)context;
    return machine_ticks();
}

int main(void) {
    static const snn_link_port port = {
        .write = put, .ticks = ticks, .ticks_per_second = TICKS_PER_SECOND, .clock = CLOCK_KIND, .build = SNN_BUILD};
    static snn_link link;
    static uint8_t buffer[1 << 12];
    line_open();
    if (!snn_link_start(&link, &port, pool_start, (size_t)(pool_end - pool_start), line_most_body)) return 1;
    for (;;) snn_link_take(&link, buffer, line_receive(buffer, sizeof buffer));
}
