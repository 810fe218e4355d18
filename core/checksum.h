// A 64-bit checksum of bytes, against damage, not against an attacker: XXH64 with seed 0 (its
// specification is doc/xxhash_spec.md of github.com/Cyan4973/xxHash). At several GB/s it costs less
// than the disk does.
//
//   1. checksum sum = checksum_start();
//   2. checksum_add(&sum, data, size);      as often as there are parts; where they are cut does
//   not matter
//   3. checksum_value(&sum)
#ifndef BRIM_CORE_CHECKSUM_H
#define BRIM_CORE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

enum { CHECKSUM_STRIPE = 32 };

typedef struct checksum {
    uint64_t lanes[4];
    uint64_t size;                       // bytes so far
    unsigned char rest[CHECKSUM_STRIPE]; // of them the last size % CHECKSUM_STRIPE
} checksum;

checksum checksum_start(void);
void checksum_add(checksum *sum, const void *data, size_t size);

// Of all bytes so far; more may follow.
uint64_t checksum_value(const checksum *sum);

#endif
