/* The link on a bare Cortex-M: over the UART, or with LINK_SEMIHOSTING over a debugger's or emulator's standard input. */
#include "link.h"
#include "machine.h"

#ifndef TICKS_PER_SECOND
#error "say what SysTick counts per second"
#endif

#ifdef LINK_SEMIHOSTING
enum { MOST_BODY = 1 << 14 };

static void open_line(void) { machine_open_host(); }

static size_t receive(uint8_t *to, size_t most) {
    const size_t some = machine_read_host(to, most);
    if (!some) machine_exit(0);
    return some;
}

static void put(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    while (count) {
        const size_t some = machine_write_host(bytes, count);
        if (!some) machine_exit(1);
        bytes += some;
        count -= some;
    }
}
#else
enum { MOST_BODY = 1 << 10, RING = 1 << 14 };
enum { DATA = 0, STATE = 1, CONTROL = 2, STATUS = 3, DIVIDER = 4 }; /* registers of the CMSDK UART, by words */
enum { TX_FULL = 1, RX_FULL = 2, TX_ON = 1, RX_ON = 2, RX_INTERRUPT = 8, RX_HAPPENED = 2 };

static volatile uint32_t *const uart = (volatile uint32_t *)UART_BASE;
static volatile uint8_t ring[RING];
static volatile uint32_t written, taken; /* both count on; their difference is what waits */

void machine_interrupt(void) {
    uart[STATUS] = RX_HAPPENED; /* first: a byte that comes while the others are read must call again */
    while (uart[STATE] & RX_FULL) {
        const uint8_t byte = (uint8_t)uart[DATA];
        if (written - taken < RING) ring[written % RING] = byte, written++; /* else lost, as on any line */
    }
}

static void open_line(void) {
    uart[DIVIDER] = 16;
    uart[CONTROL] = TX_ON | RX_ON | RX_INTERRUPT;
    ((volatile uint32_t *)0xE000E100u)[UART_INTERRUPT / 32] = 1u << UART_INTERRUPT % 32;
}

static size_t receive(uint8_t *to, size_t most) {
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

static void put(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    while (count--) {
        while (uart[STATE] & TX_FULL) {
        }
        uart[DATA] = *bytes++;
    }
}
#endif

static uint64_t ticks(void *context) {
    (void)context;
    return machine_ticks();
}

int main(void) {
    static const snn_link_port port = {
        .write = put, .ticks = ticks, .ticks_per_second = TICKS_PER_SECOND, .clock = CLOCK_KIND, .build = SNN_BUILD};
    static snn_link link;
    static uint8_t buffer[1 << 12];
    open_line();
    if (!snn_link_start(&link, &port, pool_start, (size_t)(pool_end - pool_start), MOST_BODY)) return 1;
    for (;;) snn_link_take(&link, buffer, receive(buffer, sizeof buffer));
}
