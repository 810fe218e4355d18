// Writes a copy of a safetensors file with all tensors in another type, for tests of what train_gpt reads.
// usage: recode_model IN OUT f32|f16|bf16
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/dtype.h"
#include "core/safetensors.h"

static void copy_tensor(safetensors_writer *w, const safetensors_tensor *from, brim_dtype dtype, brim_error *err) {
    float *values = malloc(from->count * sizeof *values + 1);
    void *stored = malloc(from->count * brim_dtype_bytes(dtype) + 1);
    if (values && stored) {
        dtype_to_f32(from->dtype, from->data, values, from->count);
        dtype_from_f32(dtype, values, stored, from->count);
        safetensors_write(w, from->name, stored, from->count * brim_dtype_bytes(dtype), err);
    } else {
        brim_fail(err, BRIM_MEMORY, "no memory for %s", from->name);
    }
    free(values);
    free(stored);
}

static void recode(const safetensors *in, file_writer *out, brim_dtype dtype, brim_error *err) {
    size_t count = safetensors_count(in);
    safetensors_entry *entries = calloc(count, sizeof *entries);
    if (!entries) {
        brim_fail(err, BRIM_MEMORY, "no memory for %zu tensors", count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const safetensors_tensor *t = safetensors_at(in, i);
        entries[i] = (safetensors_entry){.name = t->name, .dtype = dtype, .dims = t->dims};
        memcpy(entries[i].shape, t->shape, sizeof entries[i].shape);
    }
    safetensors_writer *w = safetensors_begin(out, entries, count, NULL, 0, err);
    for (size_t i = 0; w && i < count; i++) copy_tensor(w, safetensors_at(in, i), dtype, err);
    if (w) safetensors_end(w, err);
    free(entries);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    brim_dtype dtype;
    if (argc != 4 || !dtype_from_name(argv[3], &dtype)) {
        fprintf(stderr, "usage: recode_model IN OUT f32|f16|bf16\n");
        return 2;
    }
    safetensors *in = safetensors_open(argv[1], &err);
    file_writer *out = file_create(argv[2], &err);
    if (in && out) recode(in, out, dtype, &err);
    if (out) file_commit(out, &err);
    safetensors_close(in);
    return brim_error_report(&err);
}
