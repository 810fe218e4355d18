#include "core/checksum.h"

#include <string.h>

// The names of the specification.
static const uint64_t prime1 = 0x9E3779B185EBCA87, prime2 = 0xC2B2AE3D27D4EB4F,
                      prime3 = 0x165667B19E3779F9, prime4 = 0x85EBCA77C2B2AE63,
                      prime5 = 0x27D4EB2F165667C5;

static uint64_t rotate(uint64_t value, int bits) {
    return value << bits | value >> (64 - bits);
}

// Little-endian, whatever the machine is; compilers make one load of it.
static uint64_t read_u32(const unsigned char *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

static uint64_t read_u64(const unsigned char *p) {
    return read_u32(p) | read_u32(p + 4) << 32;
}

static uint64_t mix(uint64_t lane, uint64_t input) {
    return rotate(lane + input * prime2, 31) * prime1;
}

static void add_stripes(uint64_t lanes[4], const unsigned char *bytes, size_t stripes) {
    uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
    for (; stripes > 0; stripes--, bytes += CHECKSUM_STRIPE) {
        a = mix(a, read_u64(bytes));
        b = mix(b, read_u64(bytes + 8));
        c = mix(c, read_u64(bytes + 16));
        d = mix(d, read_u64(bytes + 24));
    }
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;
}

checksum checksum_start(void) {
    return (checksum){.lanes = {prime1 + prime2, prime2, 0, 0 - prime1}};
}

void checksum_add(checksum *sum, const void *data, size_t size) {
    const unsigned char *bytes = data;
    size_t held = sum->size % CHECKSUM_STRIPE;
    sum->size += size;
    if (held > 0) {
        size_t taken = size < CHECKSUM_STRIPE - held ? size : CHECKSUM_STRIPE - held;
        memcpy(sum->rest + held, bytes, taken);
        if (held + taken < CHECKSUM_STRIPE) return;
        add_stripes(sum->lanes, sum->rest, 1);
        bytes += taken;
        size -= taken;
    }
    size_t stripes = size / CHECKSUM_STRIPE, left = size % CHECKSUM_STRIPE;
    add_stripes(sum->lanes, bytes, stripes);
    if (left) memcpy(sum->rest, bytes + stripes * CHECKSUM_STRIPE, left);
}

static uint64_t merge_lanes(const checksum *sum) {
    const uint64_t *lanes = sum->lanes;
    if (sum->size < CHECKSUM_STRIPE) return prime5;
    uint64_t value =
        rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18);
    for (int i = 0; i < 4; i++) value = (value ^ mix(0, lanes[i])) * prime1 + prime4;
    return value;
}

uint64_t checksum_value(const checksum *sum) {
    uint64_t value = merge_lanes(sum) + sum->size;
    const unsigned char *rest = sum->rest, *end = rest + sum->size % CHECKSUM_STRIPE;
    for (; end - rest >= 8; rest += 8) {
        value = rotate(value ^ mix(0, read_u64(rest)), 27) * prime1 + prime4;
    }
    for (; end - rest >= 4; rest += 4) {
        value = rotate(value ^ read_u32(rest) * prime1, 23) * prime2 + prime3;
    }
    for (; rest < end; rest++) value = rotate(value ^ *rest * prime5, 11) * prime1;
    value = (value ^ value >> 33) * prime2;
    value = (value ^ value >> 29) * prime3;
    return value ^ value >> 32;
}
