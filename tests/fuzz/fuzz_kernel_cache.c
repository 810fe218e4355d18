// The kernel cache, the one place where bytes from disk become code. The first line is the name of
// a file in its folder; the rest is the entry, whose key and checksum are made right where the
// first byte asks for it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backends/kernel_cache.h"
#include "core/checksum.h"
#include "tests/fuzz/fuzz.h"

enum { MAGIC = 8, HEADER = 32 }; // then the key, then the data
static const kernel_key key = {.part = {"cuda", "source", "options"}, .parts = 3};
static const char flat_key[] = "cuda\0source\0options";

// ---- entries ------------------------------------------------------------------------------------

static void put_u64(uint8_t *out, uint64_t value) {
    memcpy(out, &value, sizeof value);
}

// Lengths and checksum that fit what is there; the mutations are left in the rest.
static void make_right(uint8_t *bytes, size_t size) {
    if (size <= HEADER + sizeof flat_key) return;
    size_t data = size - HEADER - sizeof flat_key;
    memcpy(bytes, "BRIMKC1", MAGIC);
    put_u64(bytes + 8, sizeof flat_key);
    put_u64(bytes + 16, data);
    checksum sum = checksum_start();
    checksum_add(&sum, bytes + size - data, data);
    put_u64(bytes + 24, checksum_value(&sum));
    memcpy(bytes + HEADER, flat_key, sizeof flat_key);
}

// An entry that is read is, byte for byte, the one that would be written.
static void check_entry(kernel_cache *cache, const char *name, const uint8_t *bytes, size_t size) {
    void *data = NULL;
    size_t length = 0;
    fuzz_write(name, bytes, size);
    fuzz_begin(size, 4);
    bool found = kernel_cache_get(cache, &key, &data, &length);
    fuzz_end();
    if (!found) return;
    FUZZ_CHECK(length > 0 && length < size, "%zu bytes of an entry of %zu", length, size);
    kernel_cache_put(cache, &key, data, length);
    size_t written;
    char *again = fuzz_read(name, &written);
    FUZZ_CHECK(written == size && memcmp(again, bytes, size) == 0, "a damaged entry was taken");
    free(again);
    free(data);
}

// What the folder of an empty cache holds after a put.
static void find_entry(kernel_cache *cache, char name[64]) {
    kernel_cache_put(cache, &key, "data", 4);
    checksum sum = checksum_start();
    checksum_add(&sum, flat_key, sizeof flat_key);
    snprintf(name, 64, "cache/%016llx.kernel", (unsigned long long)checksum_value(&sum));
    FUZZ_CHECK(access(fuzz_path(name), F_OK) == 0, "the entry has another name");
}

// ---- names --------------------------------------------------------------------------------------

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// 16 digits and ".kernel", with what temporary ones add.
static bool is_cache_name(const char *name) {
    int digits = 0;
    while (is_hex(name[digits])) digits++;
    if (digits != 16 || strncmp(name + digits, ".kernel", 7) != 0) return false;
    const char *rest = name + digits + 7;
    return *rest == '\0' || (*rest == '.' && rest[strspn(rest, ".0123456789")] == '\0');
}

// Making room removes entries and nothing else.
static void check_names(kernel_cache *cache, const char *name) {
    if (!*name || strchr(name, '/') || *name == '.' || strlen(name) > 200) return;
    char path[256];
    snprintf(path, sizeof path, "cache/%s", name);
    fuzz_write(path, "", 1);
    kernel_cache_trim(cache, 0);
    bool there = access(fuzz_path(path), F_OK) == 0;
    FUZZ_CHECK(there || is_cache_name(name), "%s is no entry and was removed", name);
    unlink(fuzz_path(path));
}

void fuzz_one(const uint8_t *data, size_t size) {
    static char name[64];
    brim_error err = {0};
    if (size < 1) return;
    kernel_cache *cache = kernel_cache_open(fuzz_path("cache"), &err);
    FUZZ_CHECK(cache, "%s", err.text);
    if (!name[0]) find_entry(cache, name);
    bool right = data[0] & 1;
    data++, size--;
    char *other = fuzz_line(&data, &size);
    uint8_t *bytes = malloc(size + 1);
    FUZZ_CHECK(bytes, "no memory for the entry");
    if (size) memcpy(bytes, data, size);
    if (right) make_right(bytes, size);
    check_entry(cache, name, bytes, size);
    check_names(cache, other);
    free(bytes);
    free(other);
    kernel_cache_close(cache);
}
