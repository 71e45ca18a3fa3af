/* What a machine must give so that firmware/runner can run on it. */
#ifndef SNN_RUNNER_H
#define SNN_RUNNER_H

#include <stddef.h>
#include <stdint.h>

/* All of `size` bytes from and to the host; 0 if that is no longer possible. */
int port_read(void *to, size_t size);
int port_write(const void *from, size_t size);

/* Memory that starts at a multiple of 8, or NULL. What was given since a mark is given back by a rewind to it. */
void *port_memory(size_t size);
size_t port_mark(void);
void port_rewind(size_t mark);

/* A clock of the machine's own; the host knows what it counts. */
uint64_t port_ticks(void);

int runner(void); /* serves requests until the host ends them; 0, or 1 if the host vanished or sent nonsense */

#endif
