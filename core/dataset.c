#include <brim/data.h>

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/gunzip.h"
#include "core/mapfile.h"
#include "core/size.h"

typedef struct segment {
    char *path;
    mapfile file;                // closed once gzip is unpacked
    unsigned char *unpacked;     // NULL for a plain file
    const unsigned char *tokens; // into one of the two, 1 or 2 bytes each
    int64_t begin, count;        // in tokens of the whole stream
    brim_dataset_kind kind;
} segment;

struct brim_dataset {
    segment *segments;
    size_t count;
    int64_t tokens;
};

enum {
    TOKENS_MAGIC = 20240520,
    TOKENS_VERSION = 1,
    TOKENS_HEADER = 256 * 4,
    TOKEN_BYTES = 2,
};

static int32_t read_le32(const unsigned char *bytes) {
    uint32_t value = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                     (uint32_t)bytes[3] << 24;
    return (int32_t)value;
}

static bool has_tokens_magic(const unsigned char *data, size_t size) {
    return size >= 4 && read_le32(data) == TOKENS_MAGIC;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static const char *kind_name(brim_dataset_kind kind) {
    return kind == BRIM_DATA_TEXT ? "text" : "a token file";
}

static void open_tokens(segment *s, brim_error *err) {
    const unsigned char *data = s->file.data;
    if (s->file.size < TOKENS_HEADER) {
        brim_fail(err, BRIM_FORMAT,
                  "%s: the file has %zu bytes, expected a header of %d bytes and tokens", s->path,
                  s->file.size, TOKENS_HEADER);
        return;
    }
    int32_t magic = read_le32(data), version = read_le32(data + 4), count = read_le32(data + 8);
    if (magic != TOKENS_MAGIC) {
        brim_fail(err, BRIM_FORMAT, "%s: header field 0 (magic) is %d, expected %d", s->path, magic,
                  TOKENS_MAGIC);
    } else if (version != TOKENS_VERSION) {
        brim_fail(err, BRIM_FORMAT, "%s: header field 1 (version) is %d, expected %d", s->path,
                  version, TOKENS_VERSION);
    } else if (count <= 0) {
        brim_fail(err, BRIM_FORMAT, "%s: header field 2 (tokens) is %d, expected at least 1",
                  s->path, count);
    } else if (s->file.size != TOKENS_HEADER + (size_t)count * TOKEN_BYTES) {
        brim_fail(err, BRIM_FORMAT,
                  "%s: header field 2 (tokens) is %d, for which the file would have %zu bytes; it "
                  "has %zu",
                  s->path, count, TOKENS_HEADER + (size_t)count * TOKEN_BYTES, s->file.size);
    } else {
        s->kind = BRIM_DATA_TOKENS;
        s->tokens = data + TOKENS_HEADER;
        s->count = count;
    }
}

static void unpack_text(segment *s, brim_error *err) {
    size_t length = 0;
    s->unpacked = gunzip(s->file.data, s->file.size, s->path, &length, err);
    mapfile_close(&s->file);
    s->tokens = s->unpacked;
    s->count = (int64_t)length;
    if (!failed(err) && has_tokens_magic(s->tokens, length)) {
        brim_fail(err, BRIM_FORMAT, "%s is a token file in gzip, expected it unpacked", s->path);
    }
}

// Training on compressed bytes or on UTF-16 would go on without a sign that anything is wrong.
static void refuse_other_formats(const segment *s, brim_error *err) {
    static const struct {
        const char *magic;
        size_t length;
        const char *name;
    } others[] = {
        {"\x28\xb5\x2f\xfd", 4, "compressed by zstd"},
        {"\xfd"
         "7zXZ",
         5, "compressed by xz"},
        {"BZh", 3, "compressed by bzip2"},
        {"PK\x03\x04", 4, "a zip archive"},
        {"\x04\x22\x4d\x18", 4, "compressed by lz4"},
        {"\xff\xfe", 2, "in UTF-16"},
        {"\xfe\xff", 2, "in UTF-16"},
        {"PAR1", 4, "in Parquet"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if ((size_t)s->count < others[i].length) continue;
        if (memcmp(s->tokens, others[i].magic, others[i].length) != 0) continue;
        brim_fail(err, BRIM_FORMAT, "%s is %s, expected UTF-8 text, plain or in gzip", s->path,
                  others[i].name);
        return;
    }
}

static void open_text(segment *s, brim_error *err) {
    s->kind = BRIM_DATA_TEXT;
    if (gunzip_detect(s->file.data, s->file.size)) {
        unpack_text(s, err);
    } else {
        s->tokens = s->file.data;
        s->count = (int64_t)s->file.size;
    }
    if (failed(err)) return;
    if (s->count == 0) brim_fail(err, BRIM_FORMAT, "%s is empty, expected text", s->path);
    refuse_other_formats(s, err);
}

static void open_segment(segment *s, const char *path, brim_error *err) {
    s->path = brim_strdup(path, err);
    if (!mapfile_open(&s->file, path, err)) return;
    bool tokens = ends_with(path, ".bin") || has_tokens_magic(s->file.data, s->file.size);
    if (tokens)
        open_tokens(s, err);
    else
        open_text(s, err);
}

static void append_segment(brim_dataset *data, const char *path, brim_error *err) {
    segment *s = &data->segments[data->count++];
    open_segment(s, path, err);
    if (failed(err)) return;
    const segment *first = &data->segments[0];
    if (s->kind != first->kind) {
        brim_fail(err, BRIM_ARGUMENT, "%s is %s but %s is %s: all data files must be of one kind",
                  s->path, kind_name(s->kind), first->path, kind_name(first->kind));
        return;
    }
    s->begin = data->tokens;
    if (!i64_add(data->tokens, s->count, &data->tokens)) {
        brim_fail(err, BRIM_FORMAT, "%s: the data files hold more than 2^63 tokens", s->path);
    }
}

brim_dataset *brim_dataset_open(const char *const *paths, size_t count, brim_error *err) {
    if (failed(err)) return NULL;
    if (count == 0) {
        brim_fail(err, BRIM_ARGUMENT, "no data file is given, expected at least one");
        return NULL;
    }
    brim_dataset *data = brim_calloc(sizeof *data, err);
    if (data) data->segments = brim_calloc_array(count, sizeof *data->segments, err);
    for (size_t i = 0; i < count && !failed(err); i++) append_segment(data, paths[i], err);
    if (!failed(err)) return data;
    brim_dataset_close(data);
    return NULL;
}

void brim_dataset_close(brim_dataset *data) {
    if (!data) return;
    for (size_t i = 0; i < data->count; i++) {
        mapfile_close(&data->segments[i].file);
        free(data->segments[i].unpacked);
        free(data->segments[i].path);
    }
    free(data->segments);
    free(data);
}

brim_dataset_kind brim_dataset_kind_of(const brim_dataset *data) {
    return data->segments[0].kind;
}

int64_t brim_dataset_count(const brim_dataset *data) {
    return data->tokens;
}

int32_t brim_dataset_token_limit(const brim_dataset *data) {
    return brim_dataset_kind_of(data) == BRIM_DATA_TEXT ? 1 << 8 : 1 << 16;
}

// The segment that holds position, which is inside the stream. No segment is empty.
static const segment *find_segment(const brim_dataset *data, int64_t position) {
    size_t low = 0, high = data->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (data->segments[middle].begin <= position)
            low = middle;
        else
            high = middle;
    }
    return &data->segments[low];
}

static void copy_tokens(const segment *s, int64_t offset, int32_t *tokens, int64_t count) {
    if (s->kind == BRIM_DATA_TEXT) {
        const unsigned char *from = s->tokens + offset;
        for (int64_t i = 0; i < count; i++) tokens[i] = from[i];
    } else {
        const unsigned char *from = s->tokens + offset * TOKEN_BYTES;
        for (int64_t i = 0; i < count; i++) tokens[i] = from[2 * i] | from[2 * i + 1] << 8;
    }
}

static void copy_across_segments(const brim_dataset *data, int64_t position, int32_t *tokens,
                                 int64_t count) {
    for (const segment *s = find_segment(data, position); count > 0; s++) {
        int64_t offset = position - s->begin;
        int64_t here = s->count - offset < count ? s->count - offset : count;
        copy_tokens(s, offset, tokens, here);
        tokens += here;
        position += here;
        count -= here;
    }
}

bool brim_dataset_read(const brim_dataset *data, int64_t position, int32_t *tokens, int64_t count,
                       brim_error *err) {
    if (failed(err)) return false;
    if (position < 0 || count < 0 || count > data->tokens || position > data->tokens - count) {
        brim_fail(err, BRIM_ARGUMENT,
                  "%lld tokens from position %lld on are not inside the %lld of the data",
                  (long long)count, (long long)position, (long long)data->tokens);
        return false;
    }
    copy_across_segments(data, position, tokens, count);
    return true;
}

int32_t brim_dataset_max_token(const brim_dataset *data,
                               void (*progress)(void *user, int64_t done, int64_t total),
                               void *user) {
    enum { PART = 1 << 14, PARTS_PER_CALL = 256 };
    int32_t tokens[PART], largest = 0;
    int64_t part = 0;
    for (int64_t done = 0; done < data->tokens; part++) {
        int64_t count = data->tokens - done < PART ? data->tokens - done : PART;
        copy_across_segments(data, done, tokens, count);
        for (int64_t i = 0; i < count; i++) {
            if (tokens[i] > largest) largest = tokens[i];
        }
        done += count;
        if (progress && (part % PARTS_PER_CALL == 0 || done == data->tokens)) {
            progress(user, done, data->tokens);
        }
    }
    return largest;
}

const char *brim_dataset_locate(const brim_dataset *data, int64_t position, int64_t *within) {
    const segment *s = find_segment(data, position);
    *within = position - s->begin;
    return s->path;
}
