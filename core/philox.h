// Counter-based random numbers, the same on the host and in kernels.
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC
// 2011) maps a 128-bit counter and a 64-bit key to four 32-bit numbers. There is no state: who uses
// it says by the counter which number of which stream is wanted, so any order and any number of
// threads give the same numbers.
//
// Counters in Brim: words 0 and 1 are the index of the block of four numbers (low, high), words 2
// and 3 the stream (low, high: which tensor, which step). The key is the seed (low, high).
#ifndef BRIM_CORE_PHILOX_H
#define BRIM_CORE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

typedef struct philox_block {
    uint32_t v[4];
} philox_block;

static inline philox_block philox4x32(philox_block counter, uint32_t key0, uint32_t key1) {
    uint32_t *c = counter.v;
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c[0];
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t c0 = (uint32_t)(product1 >> 32) ^ c[1] ^ key0;
        uint32_t c2 = (uint32_t)(product0 >> 32) ^ c[3] ^ key1;
        c[1] = (uint32_t)product1;
        c[3] = (uint32_t)product0;
        c[0] = c0;
        c[2] = c2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// Block number index of a stream: the four numbers with indices 4 index .. 4 index + 3.
static inline philox_block philox_at(uint64_t seed, uint64_t stream, uint64_t index) {
    philox_block counter = {
        {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    return philox4x32(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

// Uniform in [0, 1): one of the 2^24 multiples of 2^-24, all of them exact in f32.
static inline float philox_uniform(uint32_t x) {
    return (float)(x >> 8) * 0x1p-24f;
}

// Fills out with elements first .. first + count - 1 of a stream of uniform numbers in [low, high),
// or in [low, high] where the rounding of the scaled number to f32 reaches high. first is a
// multiple of 4. Element i comes from number i of the stream.
void philox_fill_uniform(float *out, size_t first, size_t count, uint64_t seed, uint64_t stream,
                         float low, float high);

// The same with normal numbers by Box and Muller: of each block of four numbers (x0 x1 x2 x3), the
// pairs (x0, x1) and (x2, x3) give two elements each,
//     u = ((xa >> 8) + 1) 2^-24 in (0, 1],   v = (xb >> 8) 2^-24,   r = sqrt(-2 ln u)
//     r cos(2 pi v), r sin(2 pi v)
// computed in double and rounded to f32 after scaling. The largest deviation is sqrt(48 ln 2)
// = 5.77 times std.
void philox_fill_normal(float *out, size_t first, size_t count, uint64_t seed, uint64_t stream,
                        float mean, float std);

// Where index, 0 <= index < n, goes in a random permutation of [0, n) that (seed, epoch) chooses;
// nothing is stored. n is 1 .. 2^62.
int64_t shuffle_index(int64_t index, int64_t n, uint64_t seed, uint64_t epoch);

#endif
