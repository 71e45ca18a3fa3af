/* The UART of Arm's Cortex-M System Design Kit. */
#include "uart.h"

enum { DATA = 0, STATE = 1, CONTROL = 2, STATUS = 3, DIVIDER = 4 }; /* registers, by words */
enum { TX_FULL = 1, RX_FULL = 2, TX_ON = 1, RX_ON = 2, RX_INTERRUPT = 8, RX_HAPPENED = 2 };

static volatile uint32_t *const uart = (volatile uint32_t *)UART_BASE;

void uart_open(void) {
    uart[DIVIDER] = 16;
    uart[CONTROL] = TX_ON | RX_ON | RX_INTERRUPT;
}

void uart_interrupt(void) {
    uart[STATUS] = RX_HAPPENED; /* first: a byte that comes while the others are read must call again */
    while (uart[STATE] & RX_FULL) uart_received((uint8_t)uart[DATA]);
}

void uart_send(uint8_t byte) {
    while (uart[STATE] & TX_FULL) {
    }
    uart[DATA] = byte;
}
