#include "core/statefile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/arena.h"
#include "core/checksum.h"
#include "core/number.h"
#include "core/units.h"

#define CHECKSUM_KEY "brim.checksum"
#define CHECKSUM_ZEROS "0000000000000000"

enum { CHECKSUM_DIGITS = sizeof CHECKSUM_ZEROS - 1 };

static const char i64_kind[] = "i64 ", f64_kind[] = "f64 ", text_kind[] = "text ";

struct state_writer {
    file_writer *out;
    arena memory; // names and values
    safetensors_pair *pairs;
    size_t pair_count, pair_capacity;
    safetensors_entry *entries;
    size_t entry_count, entry_capacity;
    safetensors_writer *tensors; // NULL until the first bytes are written
    checksum sum;
};

// The digits of the checksum in a header; NULL where there are none. The quotes cannot be part of a
// name: inside a text each has a backslash before it.
static const char *find_digits(const char *header, size_t size) {
    static const char mark[] = "\"" CHECKSUM_KEY "\":\"";
    const size_t length = sizeof mark - 1;
    for (size_t i = 0; i + length + CHECKSUM_DIGITS <= size; i++) {
        if (memcmp(header + i, mark, length) == 0) return header + i + length;
    }
    return NULL;
}

static checksum checksum_header(const char *header, size_t size, const char *digits) {
    const char *rest = digits + CHECKSUM_DIGITS;
    checksum sum = checksum_start();
    checksum_add(&sum, header, (size_t)(digits - header));
    checksum_add(&sum, CHECKSUM_ZEROS, CHECKSUM_DIGITS);
    checksum_add(&sum, rest, (size_t)(header + size - rest));
    return sum;
}

// --- writing ---

static void put(state_writer *w, const char *name, const char *value, brim_error *err) {
    if (failed(err) || !w) return;
    for (size_t i = 0; i < w->pair_count; i++) {
        if (strcmp(w->pairs[i].key, name) != 0) continue;
        brim_fail(err, BRIM_ARGUMENT, "%s: %s was put twice", file_path(w->out), name);
        return;
    }
    if (w->tensors) {
        brim_fail(err, BRIM_ARGUMENT, "%s: %s was put after the first tensor was written",
                  file_path(w->out), name);
        return;
    }
    if (!brim_grow((void **)&w->pairs, &w->pair_capacity, w->pair_count + 1, sizeof *w->pairs,
                   err)) {
        return;
    }
    safetensors_pair *pair = &w->pairs[w->pair_count++];
    pair->key = arena_strdup(&w->memory, name, err);
    pair->value = arena_strdup(&w->memory, value, err);
}

state_writer *state_create(const char *path, brim_error *err) {
    state_writer *w = brim_calloc(sizeof *w, err);
    if (!w) return NULL;
    w->out = file_create(path, err);
    put(w, CHECKSUM_KEY, CHECKSUM_ZEROS, err);
    if (!failed(err)) return w;
    state_discard(w);
    return NULL;
}

void state_put_i64(state_writer *w, const char *name, int64_t value, brim_error *err) {
    char text[64];
    snprintf(text, sizeof text, "%s%" PRId64, i64_kind, value);
    put(w, name, text, err);
}

void state_put_f64(state_writer *w, const char *name, double value, brim_error *err) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    char number[NUMBER_TEXT], text[64 + NUMBER_TEXT];
    number_print(value, number);
    snprintf(text, sizeof text, "%s0x%016" PRIx64 " %s", f64_kind, bits, number);
    put(w, name, text, err);
}

void state_put_text(state_writer *w, const char *name, const char *value, brim_error *err) {
    if (failed(err) || !w) return;
    const char *text = arena_printf(&w->memory, err, "%s%s", text_kind, value);
    if (text) put(w, name, text, err);
}

void state_declare(state_writer *w, const char *name, brim_dtype dtype, int dims,
                   const int64_t *shape, brim_error *err) {
    if (failed(err) || !w) return;
    if (w->tensors || dims < 0 || dims > BRIM_MAX_DIMS) {
        brim_fail(err, BRIM_ARGUMENT, "%s: tensor %s of %d dimensions was declared %s",
                  file_path(w->out), name, dims,
                  w->tensors ? "after the first was written" : "and cannot be written");
        return;
    }
    if (!brim_grow((void **)&w->entries, &w->entry_capacity, w->entry_count + 1, sizeof *w->entries,
                   err)) {
        return;
    }
    safetensors_entry *entry = &w->entries[w->entry_count++];
    *entry = (safetensors_entry){arena_strdup(&w->memory, name, err), dtype, dims, {0}};
    for (int i = 0; i < dims; i++) entry->shape[i] = shape[i];
}

static void begin_tensors(state_writer *w, brim_error *err) {
    if (failed(err) || w->tensors) return;
    w->tensors =
        safetensors_begin(w->out, w->entries, w->entry_count, w->pairs, w->pair_count, err);
    if (!w->tensors) return;
    size_t size;
    const char *header = safetensors_written_header(w->tensors, &size);
    w->sum = checksum_header(header, size, find_digits(header, size));
}

void state_write(state_writer *w, const char *name, const void *data, size_t bytes,
                 brim_error *err) {
    if (failed(err) || !w) return;
    begin_tensors(w, err);
    if (safetensors_write(w->tensors, name, data, bytes, err)) {
        checksum_add(&w->sum, data, bytes);
    }
}

static void free_state_writer(state_writer *w) {
    arena_free(&w->memory);
    free(w->pairs);
    free(w->entries);
    free(w);
}

static void fill_in_checksum(state_writer *w, brim_error *err) {
    enum { LENGTH_BYTES = 8 }; // before the header
    size_t size;
    const char *header = safetensors_written_header(w->tensors, &size);
    uint64_t place = LENGTH_BYTES + (uint64_t)(find_digits(header, size) - header);
    char digits[CHECKSUM_DIGITS + 1];
    snprintf(digits, sizeof digits, "%016" PRIx64, checksum_value(&w->sum));
    file_rewrite(w->out, place, digits, CHECKSUM_DIGITS, err);
}

bool state_commit(state_writer *w, brim_error *err) {
    if (!w) return false;
    begin_tensors(w, err);
    if (!failed(err)) fill_in_checksum(w, err);
    safetensors_end(w->tensors, err);
    bool committed = file_commit(w->out, err);
    free_state_writer(w);
    return committed;
}

void state_discard(state_writer *w) {
    if (!w) return;
    brim_error ignored = {0}; // bytes are missing, as they may
    safetensors_end(w->tensors, &ignored);
    file_discard(w->out);
    free_state_writer(w);
}

// --- reading ---

struct state_reader {
    safetensors *file;
};

static bool verify(const safetensors *file, brim_error *err) {
    size_t header_size, data_size;
    const char *header = safetensors_header(file, &header_size);
    const void *data = safetensors_data(file, &data_size);
    const char *digits = find_digits(header, header_size);
    if (!digits) {
        brim_fail(err, BRIM_FORMAT, "%s is no file of training state: it has no checksum",
                  safetensors_path(file));
        return false;
    }
    char expected[CHECKSUM_DIGITS + 1];
    checksum sum = checksum_header(header, header_size, digits);
    checksum_add(&sum, data, data_size);
    snprintf(expected, sizeof expected, "%016" PRIx64, checksum_value(&sum));
    if (memcmp(digits, expected, CHECKSUM_DIGITS) == 0) return true;
    brim_fail(err, BRIM_FORMAT, "%s is damaged: its checksum is %s, but it says %.16s",
              safetensors_path(file), expected, digits);
    return false;
}

state_reader *state_open(const char *path, brim_error *err) {
    state_reader *r = brim_calloc(sizeof *r, err);
    if (!r) return NULL;
    r->file = safetensors_open(path, err);
    if (r->file && verify(r->file, err)) return r;
    state_close(r);
    return NULL;
}

void state_close(state_reader *r) {
    if (!r) return;
    safetensors_close(r->file);
    free(r);
}

// What follows the kind in a value; NULL where it is missing or of another kind.
static const char *find_value(const state_reader *r, const char *name, const char *kind,
                              brim_error *err) {
    if (failed(err)) return NULL;
    const char *value = safetensors_metadata(r->file, name);
    size_t length = strlen(kind);
    if (value && strncmp(value, kind, length) == 0) return value + length;
    if (!value) {
        brim_fail(err, BRIM_FORMAT, "%s: the value %s is missing", safetensors_path(r->file), name);
    } else {
        brim_fail(err, BRIM_FORMAT, "%s: the value %s is \"%s\", expected one of kind %.*s",
                  safetensors_path(r->file), name, value, (int)length - 1, kind);
    }
    return NULL;
}

int64_t state_i64(const state_reader *r, const char *name, brim_error *err) {
    const char *text = find_value(r, name, i64_kind, err);
    int64_t value = 0;
    if (text && !parse_i64(text, name, INT64_MIN, INT64_MAX, &value, err)) {
        brim_error_prefix(err, "%s", safetensors_path(r->file));
    }
    return value;
}

double state_f64(const state_reader *r, const char *name, brim_error *err) {
    const char *text = find_value(r, name, f64_kind, err);
    double value = 0;
    if (!text) return value;
    uint64_t bits;
    int length = 0;
    if (sscanf(text, "0x%16" SCNx64 "%n", &bits, &length) != 1 || length != 18) {
        brim_fail(err, BRIM_FORMAT, "%s: the value %s is \"%s\", expected 0x and 16 digits",
                  safetensors_path(r->file), name, text);
        return value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

const char *state_text(const state_reader *r, const char *name, brim_error *err) {
    const char *text = find_value(r, name, text_kind, err);
    return text ? text : "";
}

const void *state_tensor(const state_reader *r, const char *name, brim_dtype dtype, int dims,
                         const int64_t *shape, brim_error *err) {
    const safetensors_tensor *tensor = safetensors_expect(r->file, name, dims, shape, err);
    if (!tensor) return NULL;
    if (tensor->dtype == dtype) return tensor->data;
    brim_fail(err, BRIM_FORMAT, "%s: tensor %s has type %s, expected %s", safetensors_path(r->file),
              name, brim_dtype_name(tensor->dtype), brim_dtype_name(dtype));
    return NULL;
}

const char *state_name_at(const state_reader *r, size_t index) {
    const size_t own = 2; // "format" and the checksum come first
    return safetensors_metadata_key(r->file, index + own);
}

const safetensors *state_tensors(const state_reader *r) {
    return r->file;
}
