/* The link over a UART: what has come is kept until it is asked for. */
#include "line.h"
#include "machine.h"
#include "uart.h"

enum { RING = 1 << 14 };

const uint32_t line_most_body = 1 << 10;

static volatile uint8_t ring[RING];
static volatile uint32_t written, taken; /* both count on; their difference is what waits */

void machine_interrupt(void) { uart_interrupt(); }

void uart_received(uint8_t byte) {
    if (written - taken < RING) ring[written % RING] = byte, written++; /* else lost, as on any line */
}

void line_open(void) {
    uart_open();
    ((volatile uint32_t *)0xE000E100u)[UART_INTERRUPT / 32] = 1u << UART_INTERRUPT % 32;
}

size_t line_receive(uint8_t *to, size_t most) {
    for (;;) { /* asleep until something is there; an interrupt wakes up even while it is masked */
        __asm volatile("cpsid i" ::: "memory");
        if (written != taken) break;
        __asm volatile("wfi\n\tcpsie i\n\tisb" ::: "memory");
    }
    __asm volatile("cpsie i" ::: "memory");
    size_t count = 0;
    while (count < most && written != taken) to[count++] = ring[taken % RING], taken++;
    return count;
}

void line_send(const uint8_t *bytes, size_t count) {
    while (count--) uart_send(*bytes++);
}
