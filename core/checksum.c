#include "core/checksum.h"

#include <zlib.h>

static uint64_t combine(uLong crc, uLong adler) {
    return (uint64_t)crc << 32 | (adler & 0xffffffff);
}

uint64_t checksum_start(void) {
    return combine(crc32_z(0, Z_NULL, 0), adler32_z(0, Z_NULL, 0));
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t size) {
    if (size == 0) return sum;
    return combine(crc32_z((uLong)(sum >> 32), data, size),
                   adler32_z((uLong)(sum & 0xffffffff), data, size));
}
