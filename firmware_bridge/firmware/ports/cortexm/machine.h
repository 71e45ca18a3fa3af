/* What the files of this port and the linker script give each other. */
#ifndef SNN_MACHINE_H
#define SNN_MACHINE_H

#include <stddef.h>
#include <stdint.h>

extern uint8_t pool_start[], pool_end[]; /* memory for plans, pictures and the core's work */

int main(void);
uint64_t machine_ticks(void); /* of SysTick at the processor's clock */
void machine_interrupt(void); /* any device's; startup.c has one that does nothing */

/* Semihosting. What is read may be less than asked for; 0 is the end. */
void machine_open_host(void);
size_t machine_read_host(void *to, size_t most);
size_t machine_write_host(const void *from, size_t most);
_Noreturn void machine_exit(int code);

#endif
