#include "backends/kernel_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/alloc.h"
#include "core/checksum.h"
#include "core/files.h"
#include "core/lock.h"
#include "core/size.h"
#include "core/strbuf.h"

struct kernel_cache {
    int directory; // a descriptor; -1: keeps nothing
    char *path;
    // Of all entries, as far as is known: of them when they were last counted, and of those put
    // since. The first put counts.
    _Atomic uint64_t bytes;
    atomic_bool warned; // kernels are loaded by several threads: the first of them writes
    char warning[400];
};

// An entry is this, then the key, then the data.
typedef struct entry_header {
    char magic[8];
    uint64_t key_bytes, data_bytes, data_hash;
} entry_header;
static const char entry_magic[8] = "BRIMKC1";

static void warn(kernel_cache *cache, const char *what, const char *reason) {
    if (!atomic_exchange(&cache->warned, true))
        snprintf(cache->warning, sizeof cache->warning, "%s %.200s is not used: %s", what,
                 cache->path, reason);
}

const char *kernel_cache_warning(const kernel_cache *cache) {
    return cache->warning;
}

// Why what has this owner and mode may have been written by somebody else; NULL: it was not.
static const char *stranger(const struct stat *info) {
    if (info->st_uid != geteuid()) return "it belongs to another user";
    return info->st_mode & (S_IWGRP | S_IWOTH) ? "other users may write to it" : NULL;
}

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
    else
        *reason = stranger(&info);
    if (!*reason) return descriptor;
    close(descriptor);
    return -1;
}

kernel_cache *kernel_cache_open(const char *directory, brim_error *err) {
    kernel_cache *cache = brim_calloc(sizeof *cache, err);
    if (!cache) return NULL;
    cache->directory = -1;
    cache->bytes = KERNEL_CACHE_BYTES;
    cache->path = directory ? brim_strdup(directory, err) : user_directory(err);
    if (cache->path && cache->path[0]) {
        const char *reason = NULL;
        cache->directory = open_directory(cache->path, &reason);
        if (cache->directory < 0 && directory)
            brim_fail(err, BRIM_IO, "kernel cache %s cannot be used: %s", directory, reason);
        else if (cache->directory < 0)
            warn(cache, "kernel cache", reason);
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

// The bytes after the header: key and data. NULL unless the file is of our user, who alone may
// write to it, and its size what the header says.
static char *read_entry(kernel_cache *cache, int file, size_t key_bytes, entry_header *header) {
    struct stat info;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) return NULL;
    const char *reason = stranger(&info);
    if (reason) {
        warn(cache, "a kernel in", reason);
        return NULL;
    }
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

// Says that an entry is in use. A day's difference is enough, and costs no write at most starts.
static void touch(int file) {
    enum { DAY = 24 * 60 * 60 };
    struct stat info;
    if (fstat(file, &info) == 0 && llabs((long long)time(NULL) - info.st_mtime) > DAY)
        futimens(file, NULL);
}

static bool find_entry(kernel_cache *cache, const char *key, size_t key_bytes, void **data,
                       size_t *bytes) {
    char name[32];
    entry_name(key, key_bytes, name);
    int file = openat(cache->directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        if (errno == ELOOP) warn(cache, "a kernel in", "it is a symbolic link");
        return false;
    }
    entry_header header;
    char *entry = read_entry(cache, file, key_bytes, &header);
    if (entry) touch(file);
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

bool kernel_cache_get(kernel_cache *cache, const kernel_key *key, void **data, size_t *bytes) {
    if (cache->directory < 0) return false;
    size_t key_bytes;
    char *flat = flatten(key, &key_bytes);
    bool found = flat && find_entry(cache, flat, key_bytes, data, bytes);
    free(flat);
    return found;
}

// A file of a name that nobody else has, locked; -1 on failure.
static int create_temporary(const kernel_cache *cache, const char *name, char temporary[64]) {
    for (int i = 0; i < 100; i++) {
        snprintf(temporary, 64, "%s.%ld.%d", name, (long)getpid(), i);
        int file = openat(cache->directory, temporary,
                          O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file < 0 && errno != EEXIST) return -1;
        if (file < 0) continue;
        if (lock_new(file, cache->directory, temporary)) return file;
        close(file);
    }
    return -1;
}

void kernel_cache_put(kernel_cache *cache, const kernel_key *key, const void *data, size_t bytes) {
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
        if (!whole || renameat(cache->directory, temporary, cache->directory, name) != 0)
            unlinkat(cache->directory, temporary, 0);
        close(file);
        uint64_t added = sizeof header + key_bytes + bytes;
        if (atomic_fetch_add(&cache->bytes, added) + added > KERNEL_CACHE_BYTES)
            kernel_cache_trim(cache, KERNEL_CACHE_BYTES);
    }
    free(flat);
}

// ---- bounds -------------------------------------------------------------------------------------

typedef struct found {
    char name[32];
    uint64_t bytes;
    struct timespec used;
} found;

typedef struct found_list {
    found *entry;
    size_t entries, capacity;
    uint64_t bytes;
} found_list;

// "0123456789abcdef.kernel", or with what create_temporary adds.
static bool is_entry(const char *name, bool *temporary) {
    enum { DIGITS = 16 };
    static const char end[] = ".kernel";
    if (strspn(name, "0123456789abcdef") != DIGITS) return false;
    if (strncmp(name + DIGITS, end, sizeof end - 1) != 0) return false;
    const char *rest = name + DIGITS + sizeof end - 1;
    *temporary = *rest == '.';
    return !*rest || (*temporary && strspn(rest, "0123456789.") == strlen(rest));
}

static void remove_leftover(const kernel_cache *cache, const char *name) {
    int file = openat(cache->directory, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return;
    if (lock_leftover(file, cache->directory, name)) unlinkat(cache->directory, name, 0);
    close(file);
}

static void count_entry(const kernel_cache *cache, const char *name, found_list *list) {
    struct stat info;
    brim_error ignored = {0};
    if (fstatat(cache->directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (!S_ISREG(info.st_mode)) return;
    list->bytes += (uint64_t)info.st_size;
    if (!brim_grow((void **)&list->entry, &list->capacity, list->entries + 1, sizeof(found),
                   &ignored))
        return;
    found *f = &list->entry[list->entries++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->bytes = (uint64_t)info.st_size;
    f->used = info.st_mtim;
}

static void count_entries(const kernel_cache *cache, found_list *list) {
    int copy = openat(cache->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    if (!directory) {
        if (copy >= 0) close(copy);
        return;
    }
    bool temporary;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!is_entry(entry->d_name, &temporary)) continue;
        if (temporary)
            remove_leftover(cache, entry->d_name);
        else
            count_entry(cache, entry->d_name, list);
    }
    closedir(directory);
}

static int used_before(const void *a, const void *b) {
    const struct timespec *x = &((const found *)a)->used, *y = &((const found *)b)->used;
    if (x->tv_sec != y->tv_sec) return (x->tv_sec > y->tv_sec) - (x->tv_sec < y->tv_sec);
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

// Two processes may do this at once: both remove the same ones, and a kernel that is removed while
// somebody needs it is compiled again.
void kernel_cache_trim(kernel_cache *cache, uint64_t limit) {
    found_list list = {0};
    count_entries(cache, &list);
    if (list.bytes > limit) {
        qsort(list.entry, list.entries, sizeof *list.entry, used_before);
        for (size_t i = 0; i < list.entries && list.bytes > limit - limit / 8; i++) {
            unlinkat(cache->directory, list.entry[i].name, 0);
            list.bytes -= list.entry[i].bytes;
        }
    }
    atomic_store(&cache->bytes, list.bytes);
    free(list.entry);
}
