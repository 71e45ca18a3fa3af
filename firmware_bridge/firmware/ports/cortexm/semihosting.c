/* The runner on a bare Cortex-M whose debugger, or emulator, lends it standard input and output (Arm semihosting). */
#include "machine.h"
#include "runner.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

extern uint8_t pool_start[], pool_end[]; /* memory for plans, pictures and the core's work */

static size_t used;
static uint32_t standard_input, standard_output;

static uint32_t call(uint32_t operation, const void *parameters) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = parameters;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t terminal(uint32_t mode) {
    static const char name[] = ":tt";
    const uint32_t parameters[] = {(uint32_t)(uintptr_t)name, mode, 3};
    return call(SYS_OPEN, parameters);
}

/* Both answer how many bytes are left to do. */
static int transfer(uint32_t operation, uint32_t file, uintptr_t at, size_t size) {
    while (size) {
        const uint32_t parameters[] = {file, (uint32_t)at, size};
        const uint32_t left = call(operation, parameters);
        if (left >= size) return 0;
        at += size - left;
        size = left;
    }
    return 1;
}

int port_read(void *to, size_t size) { return transfer(SYS_READ, standard_input, (uintptr_t)to, size); }

int port_write(const void *from, size_t size) { return transfer(SYS_WRITE, standard_output, (uintptr_t)from, size); }

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

void machine_exit(int code) {
    const uint32_t parameters[] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
    call(SYS_EXIT_EXTENDED, parameters);
    for (;;) {
    }
}

int main(void) {
    standard_input = terminal(0);
    standard_output = terminal(4);
    return runner();
}
