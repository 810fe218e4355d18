#include "core/philox.h"

#include <math.h>

static const double two_pi = 6.283185307179586;

void philox_fill_uniform(float *out, size_t first, size_t count, uint64_t seed, uint64_t stream,
                         float low, float high) {
    double width = (double)high - (double)low;
    for (size_t i = 0; i < count; i += 4) {
        philox_block block = philox_at(seed, stream, (first + i) / 4);
        for (size_t k = 0; k < 4 && i + k < count; k++) {
            out[i + k] = (float)(low + width * philox_uniform(block.v[k]));
        }
    }
}

static void normal_block(philox_block block, double mean, double std, float out[4]) {
    for (int pair = 0; pair < 4; pair += 2) {
        double u = ((block.v[pair] >> 8) + 1) * 0x1p-24;
        double v = (block.v[pair + 1] >> 8) * 0x1p-24;
        double radius = std * sqrt(-2 * log(u));
        out[pair] = (float)(mean + radius * cos(two_pi * v));
        out[pair + 1] = (float)(mean + radius * sin(two_pi * v));
    }
}

void philox_fill_normal(float *out, size_t first, size_t count, uint64_t seed, uint64_t stream,
                        float mean, float std) {
    for (size_t i = 0; i < count; i += 4) {
        float four[4];
        normal_block(philox_at(seed, stream, (first + i) / 4), mean, std, four);
        for (size_t k = 0; k < 4 && i + k < count; k++) out[i + k] = four[k];
    }
}

// A Feistel network on numbers of 2 * half_bits bits is a permutation whatever its round function
// is.
static uint64_t feistel(uint64_t number, int half_bits, uint64_t seed, uint64_t epoch) {
    enum { ROUNDS = 6 };
    uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t left = number >> half_bits, right = number & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        philox_block mixed = philox_at(seed, epoch, right << 3 | round);
        uint64_t next = left ^ (((uint64_t)mixed.v[1] << 32 | mixed.v[0]) & mask);
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

// Cycle walking: the network permutes the least power of 4 that is not below n; walking on from an
// image outside [0, n) until one is inside gives a permutation of [0, n). Fewer than four steps are
// taken on average.
int64_t shuffle_index(int64_t index, int64_t n, uint64_t seed, uint64_t epoch) {
    int half_bits = 3; // in a smaller network some permutations would be more likely than others
    while (half_bits < 31 && (int64_t)1 << (2 * half_bits) < n) half_bits++;
    uint64_t number = (uint64_t)index;
    do number = feistel(number, half_bits, seed, epoch);
    while (number >= (uint64_t)n);
    return (int64_t)number;
}
