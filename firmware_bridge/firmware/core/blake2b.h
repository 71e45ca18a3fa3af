/* BLAKE2b (RFC 7693) without a key, for plans' hashes and traces. */
#ifndef SNN_BLAKE2B_H
#define SNN_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t state[8];
    uint64_t length;
    size_t filled, digest_bytes;
    uint8_t block[128];
} snn_blake2b;

void snn_blake2b_start(snn_blake2b *hash, size_t digest_bytes); /* 1 to 64 */
void snn_blake2b_add(snn_blake2b *hash, const void *data, size_t size);
void snn_blake2b_finish(snn_blake2b *hash, uint8_t *digest);

#endif
