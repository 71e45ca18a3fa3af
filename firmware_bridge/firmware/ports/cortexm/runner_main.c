/* The runner on a bare Cortex-M. */
#include "machine.h"
#include "runner.h"

static size_t used;

int port_read(void *to, size_t size) {
    for (uint8_t *at = to; size;) {
        const size_t some = machine_read_host(at, size);
        if (!some) return 0;
        at += some;
        size -= some;
    }
    return 1;
}

int port_write(const void *from, size_t size) {
    for (const uint8_t *at = from; size;) {
        const size_t some = machine_write_host(at, size);
        if (!some) return 0;
        at += some;
        size -= some;
    }
    return 1;
}

void *port_memory(size_t size) {
    const size_t room = (size_t)(pool_end - pool_start) - used;
    if (size > room || ((size + 7) & ~(size_t)7) > room) return NULL;
    void *memory = pool_start + used;
    used += (size + 7) & ~(size_t)7;
    return memory;
}

size_t port_mark(void) { return used; }

void port_rewind(size_t mark) { used = mark; }

uint64_t port_ticks(void) { return machine_ticks(); }

int main(void) {
    machine_open_host();
    return runner();
}
