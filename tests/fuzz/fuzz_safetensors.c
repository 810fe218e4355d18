// A file of weights: the input is the file. What can be read whole is written again and reads back
// as the same.
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "core/safetensors.h"
#include "core/utf8.h"
#include "tests/fuzz/fuzz.h"

static void check_shape(const safetensors *file, const safetensors_tensor *t) {
    brim_error err = {0};
    const safetensors_tensor *found = safetensors_expect(file, t->name, t->dims, t->shape, &err);
    FUZZ_CHECK(t->readable ? found == t : !found, "tensor %s is not what it is", t->name);
    fuzz_error(&err);
    int64_t other[BRIM_MAX_DIMS + 1];
    memcpy(other, t->shape, sizeof t->shape);
    other[t->dims] = 1;
    found = safetensors_expect(file, t->name, t->dims + 1, other, &err);
    FUZZ_CHECK(!found && fuzz_error(&err), "tensor %s has two shapes", t->name);
}

static void check_tensor(const safetensors *file, const safetensors_tensor *t) {
    FUZZ_CHECK(safetensors_find(file, t->name) == t, "tensor %s is not found", t->name);
    check_shape(file, t);
    size_t size, sum = 0;
    const unsigned char *all = safetensors_data(file, &size), *data = t->data;
    FUZZ_CHECK(data >= all && t->bytes <= size - (size_t)(data - all), "%s lies outside", t->name);
    for (size_t i = 0; i < t->bytes; i++) sum += data[i];
    FUZZ_CHECK(sum <= 255 * t->bytes, "the bytes of %s", t->name);
    if (!t->readable) return;
    FUZZ_CHECK(t->count * brim_dtype_bytes(t->dtype) == t->bytes, "%s has other bytes", t->name);
    float *values = malloc(t->count * sizeof *values + 1);
    FUZZ_CHECK(values, "no memory for %s", t->name);
    dtype_to_f32(t->dtype, t->data, values, t->count);
    free(values);
}

// ---- written again ------------------------------------------------------------------------------

typedef struct contents {
    safetensors_entry *entries;
    safetensors_pair *pairs;
    size_t count, pair_count;
} contents;

// What the writer can write: "format" is its own, and types are Brim's.
static contents list_contents(const safetensors *file) {
    brim_error err = {0};
    contents c = {.count = safetensors_count(file)};
    size_t keys = 0;
    while (safetensors_metadata_key(file, keys)) keys++;
    c.entries = brim_calloc_array(c.count, sizeof *c.entries, &err);
    c.pairs = brim_calloc_array(keys, sizeof *c.pairs, &err);
    for (size_t i = 0; i < c.count; i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        c.entries[i] = (safetensors_entry){t->name, t->dtype, t->dims, {0}};
        memcpy(c.entries[i].shape, t->shape, sizeof t->shape);
    }
    for (size_t i = 0; i < keys; i++) {
        const char *key = safetensors_metadata_key(file, i);
        if (strcmp(key, "format") == 0) continue;
        c.pairs[c.pair_count++] = (safetensors_pair){key, safetensors_metadata(file, key)};
    }
    return c;
}

static bool all_readable(const safetensors *file) {
    for (size_t i = 0; i < safetensors_count(file); i++) {
        if (!safetensors_at(file, i)->readable) return false;
    }
    return true;
}

static void write_again(const safetensors *file, const contents *c, const char *path) {
    brim_error err = {0};
    file_writer *out = file_create(path, &err);
    safetensors_writer *w =
        safetensors_begin(out, c->entries, c->count, c->pairs, c->pair_count, &err);
    for (size_t i = 0; i < c->count; i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        safetensors_write(w, t->name, t->data, t->bytes, &err);
    }
    if (w) safetensors_end(w, &err);
    file_commit(out, &err);
    FUZZ_CHECK(err.status == BRIM_OK, "what was read cannot be written: %s", err.text);
}

static void compare(const safetensors *file, const contents *c, const char *path) {
    brim_error err = {0};
    safetensors *again = safetensors_open(path, &err);
    FUZZ_CHECK(again, "what was written cannot be read: %s", err.text);
    FUZZ_CHECK(safetensors_count(again) == c->count, "tensors were lost");
    for (size_t i = 0; i < c->count; i++) {
        const safetensors_tensor *a = safetensors_at(file, i);
        const safetensors_tensor *b = safetensors_expect(again, a->name, a->dims, a->shape, &err);
        FUZZ_CHECK(b && a->dtype == b->dtype && a->bytes == b->bytes, "%s differs", a->name);
        FUZZ_CHECK(memcmp(a->data, b->data, a->bytes) == 0, "%s has other bytes", a->name);
    }
    for (size_t i = 0; i < c->pair_count; i++) {
        const char *value = safetensors_metadata(again, c->pairs[i].key);
        FUZZ_CHECK(value && strcmp(value, c->pairs[i].value) == 0, "%s differs", c->pairs[i].key);
    }
    safetensors_close(again);
}

void fuzz_one(const uint8_t *data, size_t size) {
    enum { PER_BYTE = 128 }; // cJSON takes 64 bytes and more for "0,"
    brim_error err = {0};
    const char *path = fuzz_file(data, size);
    fuzz_begin(size, PER_BYTE);
    safetensors *file = safetensors_open(path, &err);
    fuzz_end();
    FUZZ_CHECK(!file == fuzz_error(&err), "a file or an error");
    if (!file) return;
    for (size_t i = 0; i < safetensors_count(file); i++)
        check_tensor(file, safetensors_at(file, i));
    if (all_readable(file)) {
        const char *copy = fuzz_path("copy.safetensors");
        contents c = list_contents(file);
        write_again(file, &c, copy);
        compare(file, &c, copy);
        free(c.entries);
        free(c.pairs);
    }
    safetensors_close(file);
}
