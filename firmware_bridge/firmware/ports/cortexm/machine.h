/* What startup.c, semihosting.c and the linker script give each other. */
#ifndef SNN_MACHINE_H
#define SNN_MACHINE_H

#include <stdint.h>

int main(void);
uint64_t machine_ticks(void); /* of SysTick at the processor's clock */
_Noreturn void machine_exit(int code);

#endif
