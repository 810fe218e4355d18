#include "core/gunzip.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>
#include "core/alloc.h"
#include "core/size.h"

typedef struct unpacking {
    z_stream stream;
    const char *path;
    const unsigned char *data;
    size_t size, taken; // of data
    unsigned char *out;
    size_t capacity, length; // of out
} unpacking;

bool gunzip_detect(const unsigned char *data, size_t size) {
    return size >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

// One call of inflate with as much input and room as its 32-bit counters take.
static int inflate_some(unpacking *u, brim_error *err) {
    size_t wanted;
    if (!size_add(u->length, 1 << 16, &wanted) ||
        !brim_grow((void **)&u->out, &u->capacity, wanted, 1, err)) {
        return Z_MEM_ERROR;
    }
    size_t input = u->size - u->taken, room = u->capacity - u->length;
    uInt given = (uInt)(input < UINT_MAX ? input : UINT_MAX);
    uInt free_bytes = (uInt)(room < UINT_MAX ? room : UINT_MAX);
    u->stream.next_in = (z_const Bytef *)(u->data + u->taken);
    u->stream.avail_in = given;
    u->stream.next_out = u->out + u->length;
    u->stream.avail_out = free_bytes;
    int result = inflate(&u->stream, Z_NO_FLUSH);
    u->taken += given - u->stream.avail_in;
    u->length += free_bytes - u->stream.avail_out;
    return result;
}

static void inflate_member(unpacking *u, brim_error *err) {
    int result = Z_OK;
    while (result == Z_OK) result = inflate_some(u, err);
    if (result == Z_STREAM_END) return;
    if (result == Z_BUF_ERROR) {
        brim_fail(err, BRIM_FORMAT, "%s: the gzip data ends early, after %zu bytes; is it cut off?",
                  u->path, u->size);
    } else if (result == Z_MEM_ERROR) {
        brim_fail(err, BRIM_MEMORY, "%s: host memory does not suffice to unpack it", u->path);
    } else {
        brim_fail(err, BRIM_FORMAT, "%s: the gzip data is damaged near byte %zu of %zu: %s",
                  u->path, u->taken, u->size, u->stream.msg ? u->stream.msg : "no reason given");
    }
}

// Tapes and some servers pad files with zeros.
static bool only_zeros_left(const unpacking *u) {
    for (size_t i = u->taken; i < u->size; i++) {
        if (u->data[i]) return false;
    }
    return true;
}

static void inflate_members(unpacking *u, brim_error *err) {
    inflate_member(u, err);
    while (!failed(err) && !only_zeros_left(u)) {
        if (!gunzip_detect(u->data + u->taken, u->size - u->taken)) {
            brim_fail(err, BRIM_FORMAT,
                      "%s: after the gzip data, at byte %zu of %zu, there is something else",
                      u->path, u->taken, u->size);
            return;
        }
        inflateReset(&u->stream);
        inflate_member(u, err);
    }
}

unsigned char *gunzip(const unsigned char *data, size_t size, const char *path, size_t *length,
                      brim_error *err) {
    if (failed(err)) return NULL;
    enum { GZIP_ONLY = 16 };
    unpacking u = {.path = path, .data = data, .size = size};
    if (inflateInit2(&u.stream, MAX_WBITS + GZIP_ONLY) != Z_OK) {
        brim_fail(err, BRIM_MEMORY, "%s: zlib cannot start: %s", path,
                  u.stream.msg ? u.stream.msg : "host memory does not suffice");
        return NULL;
    }
    inflate_members(&u, err);
    inflateEnd(&u.stream);
    if (failed(err)) {
        free(u.out);
        return NULL;
    }
    *length = u.length;
    return u.out;
}
