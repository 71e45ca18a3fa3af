/* From reset to main on a Cortex-M: vectors, memory, vector unit, and a clock that counts beyond 24 bits. */
#include <stdint.h>

#include "machine.h"

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];

static volatile uint32_t *const system_control = (volatile uint32_t *)0xE000E000u; /* by words */
enum { SYSTICK_CONTROL = 4, SYSTICK_RELOAD = 5, SYSTICK_VALUE = 6, COPROCESSORS = 0xD88 / 4 };

static volatile uint32_t systick_wraps;

__attribute__((noinline)) static void start(void) {
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to != data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to != bss_end;) *to++ = 0;
    system_control[SYSTICK_RELOAD] = 0xFFFFFFu;
    system_control[SYSTICK_VALUE] = 0;
    system_control[SYSTICK_CONTROL] = 7; /* processor clock, interrupt, on */
    machine_exit(main());
}

void reset(void); /* not static: the linker scripts name it */

/* Only integer registers until the vector unit is on; compilers use it for plain loops, too. */
__attribute__((target("general-regs-only"))) void reset(void) {
    system_control[COPROCESSORS] |= 0xFu << 20; /* floating point and vector unit */
    __asm volatile("dsb\n\tisb" ::: "memory");
    start();
}

static void fault(void) { machine_exit(70); }

static void systick(void) { systick_wraps++; }

__attribute__((weak)) void machine_interrupt(void) {}

uint64_t machine_ticks(void) {
    uint32_t wraps, value;
    do {
        wraps = systick_wraps;
        value = system_control[SYSTICK_VALUE];
    } while (wraps != systick_wraps);
    return ((uint64_t)wraps << 24) + (0xFFFFFFu - value);
}

typedef void (*handler)(void);

enum { DEVICES = 64 };
#define FOUR(handler) handler, handler, handler, handler
#define SIXTEEN(handler) FOUR(handler), FOUR(handler), FOUR(handler), FOUR(handler)

__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack;
    handler handlers[15], devices[DEVICES];
} vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, systick},
    {SIXTEEN(machine_interrupt), SIXTEEN(machine_interrupt), SIXTEEN(machine_interrupt), SIXTEEN(machine_interrupt)},
};
