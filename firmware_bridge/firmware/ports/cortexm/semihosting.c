/* What a debugger, or an emulator, lends a bare Cortex-M (Arm semihosting): standard input and output, and an end. */
#include "machine.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

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

void machine_open_host(void) {
    standard_input = terminal(0);
    standard_output = terminal(4);
}

size_t machine_read_host(void *to, size_t most) {
    const uint32_t parameters[] = {standard_input, (uint32_t)(uintptr_t)to, most};
    return most - call(SYS_READ, parameters);
}

size_t machine_write_host(const void *from, size_t most) {
    const uint32_t parameters[] = {standard_output, (uint32_t)(uintptr_t)from, most};
    return most - call(SYS_WRITE, parameters);
}

void machine_exit(int code) {
    const uint32_t parameters[] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
    call(SYS_EXIT_EXTENDED, parameters);
    for (;;) {
    }
}
