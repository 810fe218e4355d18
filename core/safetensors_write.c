#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/size.h"

struct safetensors_writer {
    file_writer *out;
    const safetensors_entry *entries;
    size_t count;
    size_t current; // the entry that is being written
    size_t written; // of its bytes
    strbuf header;
};

static bool entry_bytes(const safetensors_entry *entry, size_t *bytes) {
    int64_t total = (int64_t)brim_dtype_bytes(entry->dtype);
    if (entry->dims < 0 || entry->dims > BRIM_MAX_DIMS) return false;
    for (int i = 0; i < entry->dims; i++) {
        if (entry->shape[i] < 0 || !i64_mul(total, entry->shape[i], &total)) return false;
    }
    *bytes = (size_t)total;
    return total < (int64_t)1 << 53; // beyond, JSON readers lose bits of the offsets
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void check_names(const safetensors_entry *entries, size_t count, brim_error *err) {
    const char **names = brim_calloc_array(count, sizeof *names, err);
    if (!names) return;
    for (size_t i = 0; i < count; i++) {
        names[i] = entries[i].name;
        if (strcmp(names[i], "__metadata__") == 0) {
            brim_fail(err, BRIM_ARGUMENT, "a tensor has the name __metadata__, which is reserved");
        }
    }
    if (count) qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(names[i - 1], names[i]) != 0) continue;
        brim_fail(err, BRIM_ARGUMENT, "two tensors have the name %s", names[i]);
    }
    free(names);
}

static void put_entry(strbuf *header, const safetensors_entry *entry, size_t *offset,
                      brim_error *err) {
    size_t bytes, end = 0;
    if (!entry_bytes(entry, &bytes) || !size_add(*offset, bytes, &end) || end >= 1ull << 53) {
        brim_fail(err, BRIM_ARGUMENT, "tensor %s has a shape that cannot be written", entry->name);
        return;
    }
    strbuf_putc(header, ',');
    json_put_string(header, entry->name);
    strbuf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", dtype_safetensors_name(entry->dtype));
    for (int i = 0; i < entry->dims; i++) {
        strbuf_printf(header, "%s%lld", i ? "," : "", (long long)entry->shape[i]);
    }
    strbuf_printf(header, "],\"data_offsets\":[%zu,%zu]}", *offset, end);
    *offset = end;
}

static void build_header(safetensors_writer *w, const safetensors_pair *pairs, size_t pair_count,
                         brim_error *err) {
    enum { ALIGNMENT = 8 };
    strbuf *header = &w->header;
    strbuf_puts(header, "{\"__metadata__\":{\"format\":\"pt\"");
    for (size_t i = 0; i < pair_count; i++) {
        strbuf_putc(header, ',');
        json_put_string(header, pairs[i].key);
        strbuf_putc(header, ':');
        json_put_string(header, pairs[i].value);
    }
    strbuf_putc(header, '}');
    size_t offset = 0;
    for (size_t i = 0; i < w->count && !failed(err); i++) {
        put_entry(header, &w->entries[i], &offset, err);
    }
    strbuf_putc(header, '}');
    while (!failed(err) && header->length % ALIGNMENT) strbuf_putc(header, ' ');
}

static void write_header(safetensors_writer *w, brim_error *err) {
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)w->header.length >> 8 * i);
    file_write(w->out, length, sizeof length, err);
    file_write(w->out, w->header.text, w->header.length, err);
}

safetensors_writer *safetensors_begin(file_writer *out, const safetensors_entry *entries,
                                      size_t count, const safetensors_pair *pairs,
                                      size_t pair_count, brim_error *err) {
    safetensors_writer *w = brim_calloc(sizeof *w, err);
    if (!w) return NULL;
    *w = (safetensors_writer){out, entries, count, .header = {.err = err}};
    check_names(entries, count, err);
    build_header(w, pairs, pair_count, err);
    if (!failed(err)) write_header(w, err);
    if (!failed(err)) return w;
    strbuf_free(&w->header);
    free(w);
    return NULL;
}

static size_t bytes_of(const safetensors_entry *entry) {
    size_t bytes = 0;
    entry_bytes(entry, &bytes); // was checked by put_entry
    return bytes;
}

// Goes past entries that are complete: those of no bytes are from the start.
static void skip_complete(safetensors_writer *w) {
    while (w->current < w->count && w->written == bytes_of(&w->entries[w->current])) {
        w->current++;
        w->written = 0;
    }
}

bool safetensors_write(safetensors_writer *w, const char *name, const void *data, size_t bytes,
                       brim_error *err) {
    if (failed(err) || !w) return false;
    if (bytes == 0) return true;
    skip_complete(w);
    const safetensors_entry *entry = w->current < w->count ? &w->entries[w->current] : NULL;
    if (!entry || strcmp(entry->name, name) != 0) {
        brim_fail(err, BRIM_ARGUMENT, "%s: tensor %s was written where %s was due",
                  file_path(w->out), name, entry ? entry->name : "none");
        return false;
    }
    if (bytes > bytes_of(entry) - w->written) {
        brim_fail(err, BRIM_ARGUMENT, "%s: tensor %s has %zu bytes, and more were written",
                  file_path(w->out), name, bytes_of(entry));
        return false;
    }
    w->written += bytes;
    return file_write(w->out, data, bytes, err);
}

const char *safetensors_written_header(const safetensors_writer *w, size_t *size) {
    *size = w->header.length;
    return w->header.text;
}

bool safetensors_end(safetensors_writer *w, brim_error *err) {
    if (!w) return false;
    skip_complete(w);
    if (w->current < w->count) {
        const safetensors_entry *entry = &w->entries[w->current];
        brim_fail(err, BRIM_ARGUMENT, "%s: tensor %s ends after %zu of its %zu bytes",
                  file_path(w->out), entry->name, w->written, bytes_of(entry));
    }
    strbuf_free(&w->header);
    free(w);
    return !failed(err);
}
