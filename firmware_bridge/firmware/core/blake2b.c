#include "blake2b.h"

#include <string.h>

static const uint64_t initial[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u,
};

static const uint8_t order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint64_t rotated(uint64_t x, unsigned by) { return (x >> by) | (x << (64u - by)); }

static void mix(uint64_t *v, unsigned a, unsigned b, unsigned c, unsigned d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x;
    v[d] = rotated(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = rotated(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 63);
}

static void compress(snn_blake2b *hash, uint64_t last) {
    uint64_t v[16], m[16];
    for (unsigned i = 0; i < 16; i++) {
        uint64_t word = 0;
        for (unsigned j = 8; j-- > 0;) word = (word << 8) | hash->block[8 * i + j];
        m[i] = word;
        v[i] = i < 8 ? hash->state[i] : initial[i - 8];
    }
    v[12] ^= hash->length;
    v[14] ^= last;
    for (unsigned round = 0; round < 12; round++) {
        const uint8_t *s = order[round % 10];
        for (unsigned i = 0; i < 4; i++) mix(v, i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
        for (unsigned i = 0; i < 4; i++)
            mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
    }
    for (unsigned i = 0; i < 8; i++) hash->state[i] ^= v[i] ^ v[i + 8];
}

void snn_blake2b_start(snn_blake2b *hash, size_t digest_bytes) {
    memcpy(hash->state, initial, sizeof initial);
    hash->state[0] ^= 0x01010000u ^ digest_bytes;
    hash->length = 0;
    hash->filled = 0;
    hash->digest_bytes = digest_bytes;
}

void snn_blake2b_add(snn_blake2b *hash, const void *data, size_t size) {
    const uint8_t *bytes = data;
    while (size) {
        if (hash->filled == sizeof hash->block) { /* only when more follows: the last block is compressed as such */
            hash->length += sizeof hash->block;
            compress(hash, 0);
            hash->filled = 0;
        }
        size_t part = sizeof hash->block - hash->filled;
        if (part > size) part = size;
        memcpy(hash->block + hash->filled, bytes, part);
        hash->filled += part;
        bytes += part;
        size -= part;
    }
}

void snn_blake2b_finish(snn_blake2b *hash, uint8_t *digest) {
    hash->length += hash->filled;
    memset(hash->block + hash->filled, 0, sizeof hash->block - hash->filled);
    compress(hash, UINT64_MAX);
    for (size_t i = 0; i < hash->digest_bytes; i++) digest[i] = (uint8_t)(hash->state[i / 8] >> (8 * (i % 8)));
}
