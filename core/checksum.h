// A 64-bit checksum of bytes, against damage, not against an attacker: zlib's CRC-32 in the upper
// half and its Adler-32 in the lower.
#ifndef BRIM_CORE_CHECKSUM_H
#define BRIM_CORE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

// The checksum of no bytes, to start from.
uint64_t checksum_start(void);

// The checksum of what sum was computed of, followed by these bytes.
uint64_t checksum_add(uint64_t sum, const void *data, size_t size);

#endif
