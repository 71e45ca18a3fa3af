/* The link over a debugger's or an emulator's standard input and output. */
#include "line.h"
#include "machine.h"

const uint32_t line_most_body = 1 << 14;

void line_open(void) { machine_open_host(); }

size_t line_receive(uint8_t *to, size_t most) {
    const size_t some = machine_read_host(to, most);
    if (!some) machine_exit(0);
    return some;
}

void line_send(const uint8_t *bytes, size_t count) {
    while (count) {
        const size_t some = machine_write_host(bytes, count);
        if (!some) machine_exit(1);
        bytes += some;
        count -= some;
    }
}
