/* What line_uart.c needs of a UART. Its driver is a file of this folder; boards/ says which one a board has, and where.
 *
 * UART_BASE: address of the registers. UART_INTERRUPT: number of the interrupt that says that something has come. */
#ifndef SNN_UART_H
#define SNN_UART_H

#include <stdint.h>

/* Switches the UART and its interrupt on; the interrupt controller is the line's affair. */
void uart_open(void);
/* In the interrupt: clears it and hands every byte that is there to uart_received. */
void uart_interrupt(void);
/* Waits until the byte can be taken. */
void uart_send(uint8_t byte);

/* line_uart.c has this one. */
void uart_received(uint8_t byte);

#endif
