#include "backends/kernel_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/alloc.h"
#include "core/checksum.h"
#include "core/files.h"
#include "core/size.h"
#include "core/strbuf.h"

struct kernel_cache {
    int directory; // a descriptor; -1: keeps nothing
    char *path;
};

// An entry is this, then the key, then the data.
typedef struct entry_header {
    char magic[8];
    uint64_t key_bytes, data_bytes, data_hash;
} entry_header;
static const char entry_magic[8] = "BRIMKC1";

// ---- directory ----------------------------------------------------------------------------------

// A folder of its own in the user's cache folder; NULL where there is none.
static char *user_directory(brim_error *err) {
    char parent[4096];
    brim_error unusable = {0};
    if (!brim_cache_dir(parent, sizeof parent, &unusable)) return NULL;
    return path_join(parent, "kernels", err);
}

// A descriptor of the directory, made if need be; -1 with the reason.
static int open_directory(const char *path, const char **reason) {
    brim_error shown_by_open = {0};
    folder_make(path, 0700, &shown_by_open);
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0) {
        *reason = errno == ELOOP || errno == ENOTDIR ? "it is not a directory (or a symbolic link)"
                                                     : strerror(errno);
        return -1;
    }
    struct stat info;
    *reason = NULL;
    if (fstat(descriptor, &info) != 0)
        *reason = strerror(errno);
    else if (info.st_uid != geteuid())
        *reason = "it belongs to another user";
    else if (info.st_mode & (S_IWGRP | S_IWOTH))
        *reason = "other users may write to it";
    if (!*reason) return descriptor;
    close(descriptor);
    return -1;
}

kernel_cache *kernel_cache_open(const char *directory, brim_error *err) {
    kernel_cache *cache = brim_calloc_array(1, sizeof *cache, err);
    if (!cache) return NULL;
    cache->directory = -1;
    cache->path = directory ? brim_strdup(directory, err) : user_directory(err);
    if (cache->path && cache->path[0]) {
        const char *reason = NULL;
        cache->directory = open_directory(cache->path, &reason);
        if (cache->directory < 0 && directory)
            brim_fail(err, BRIM_IO, "kernel cache %s cannot be used: %s", directory, reason);
    }
    if (!failed(err)) return cache;
    kernel_cache_close(cache);
    return NULL;
}

void kernel_cache_close(kernel_cache *cache) {
    if (!cache) return;
    if (cache->directory >= 0) close(cache->directory);
    free(cache->path);
    free(cache);
}

const char *kernel_cache_directory(const kernel_cache *cache) {
    return cache->directory >= 0 ? cache->path : "";
}

// ---- entries ------------------------------------------------------------------------------------

// Each part with its NUL, one after another.
static char *flatten(const kernel_key *key, size_t *bytes) {
    brim_error ignored = {0};
    strbuf text = {.err = &ignored};
    for (int i = 0; i < key->parts; i++)
        strbuf_append(&text, key->part[i], strlen(key->part[i]) + 1);
    *bytes = text.length;
    return strbuf_take(&text);
}

static uint64_t hash(const void *data, size_t bytes) {
    checksum sum = checksum_start();
    checksum_add(&sum, data, bytes);
    return checksum_value(&sum);
}

// The hash only names the file: the entry holds the whole key.
static void entry_name(const char *key, size_t bytes, char name[32]) {
    snprintf(name, 32, "%016" PRIx64 ".kernel", hash(key, bytes));
}

static bool read_all(int file, void *data, size_t bytes) {
    for (char *at = data; bytes > 0;) {
        ssize_t got = read(file, at, bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got, bytes -= (size_t)got;
    }
    return true;
}

static bool write_all(int file, const void *data, size_t bytes) {
    for (const char *at = data; bytes > 0;) {
        ssize_t put = write(file, at, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        at += put, bytes -= (size_t)put;
    }
    return true;
}

// The bytes after the header: key and data. NULL unless the file is of our user and its size what
// the header says.
static char *read_entry(int file, size_t key_bytes, entry_header *header) {
    struct stat info;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid()) return NULL;
    if (!read_all(file, header, sizeof *header)) return NULL;
    if (memcmp(header->magic, entry_magic, sizeof entry_magic) != 0) return NULL;
    size_t body;
    if (header->key_bytes != key_bytes || header->data_bytes == 0) return NULL;
    if (!size_add(key_bytes, header->data_bytes, &body)) return NULL;
    if ((uint64_t)info.st_size - sizeof *header != body) return NULL;
    char *bytes = malloc(body);
    if (bytes && read_all(file, bytes, body)) return bytes;
    free(bytes);
    return NULL;
}

static bool find_entry(const kernel_cache *cache, const char *key, size_t key_bytes, void **data,
                       size_t *bytes) {
    char name[32];
    entry_name(key, key_bytes, name);
    int file = openat(cache->directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return false;
    entry_header header;
    char *entry = read_entry(file, key_bytes, &header);
    close(file);
    if (!entry) return false;
    bool good = memcmp(entry, key, key_bytes) == 0 &&
                hash(entry + key_bytes, header.data_bytes) == header.data_hash;
    if (!good) {
        free(entry);
        return false;
    }
    memmove(entry, entry + key_bytes, header.data_bytes);
    *data = entry;
    *bytes = header.data_bytes;
    return true;
}

bool kernel_cache_get(const kernel_cache *cache, const kernel_key *key, void **data,
                      size_t *bytes) {
    if (cache->directory < 0) return false;
    size_t key_bytes;
    char *flat = flatten(key, &key_bytes);
    bool found = flat && find_entry(cache, flat, key_bytes, data, bytes);
    free(flat);
    return found;
}

// A file of a name that nobody else has; -1 on failure.
static int create_temporary(const kernel_cache *cache, const char *name, char temporary[64]) {
    for (int i = 0; i < 100; i++) {
        snprintf(temporary, 64, "%s.%ld.%d", name, (long)getpid(), i);
        int file = openat(cache->directory, temporary,
                          O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file >= 0 || errno != EEXIST) return file;
    }
    return -1;
}

void kernel_cache_put(const kernel_cache *cache, const kernel_key *key, const void *data,
                      size_t bytes) {
    if (cache->directory < 0 || bytes == 0) return;
    size_t key_bytes;
    char *flat = flatten(key, &key_bytes);
    if (!flat) return;
    char name[32], temporary[64];
    entry_name(flat, key_bytes, name);
    int file = create_temporary(cache, name, temporary);
    if (file >= 0) {
        entry_header header = {
            .key_bytes = key_bytes, .data_bytes = bytes, .data_hash = hash(data, bytes)};
        memcpy(header.magic, entry_magic, sizeof entry_magic);
        bool whole = write_all(file, &header, sizeof header) && write_all(file, flat, key_bytes) &&
                     write_all(file, data, bytes);
        whole = close(file) == 0 && whole;
        if (!whole || renameat(cache->directory, temporary, cache->directory, name) != 0)
            unlinkat(cache->directory, temporary, 0);
    }
    free(flat);
}
