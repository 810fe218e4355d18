#ifndef _GNU_SOURCE
#define _GNU_SOURCE // renameat2
#endif
#include "core/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <brim/report.h>
#include "core/alloc.h"
#include "core/lock.h"
#include "core/strbuf.h"

static const int open_folder = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;

struct folder_writer {
    char *path, *temporary;
    int lock; // descriptor of the temporary folder
};

bool folder_sync(const char *path, brim_error *err) {
    if (failed(err)) return false;
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // EINVAL: a file system that cannot sync folders; there is nothing more to be had from it.
    if (descriptor < 0 || (sync_descriptor(descriptor) != 0 && errno != EINVAL)) {
        brim_fail(err, BRIM_IO, "folder %s cannot be synced: %s", path, strerror(errno));
    }
    if (descriptor >= 0) close(descriptor);
    return !failed(err);
}

static void sync_file(const char *path, brim_error *err) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || sync_descriptor(descriptor) != 0) {
        brim_fail(err, BRIM_IO, "%s cannot be synced: %s", path, strerror(errno));
    }
    if (descriptor >= 0) close(descriptor);
}

// NULL at the end, and with err set where the folder cannot be read to its end.
static struct dirent *next_entry(DIR *folder, const char *path, brim_error *err) {
    if (failed(err)) return NULL;
    errno = 0;
    struct dirent *entry = readdir(folder);
    if (!entry && errno)
        brim_fail(err, BRIM_IO, "folder %s cannot be read: %s", path, strerror(errno));
    return entry;
}

// Calls visit with the path and the kind of each entry of a folder, until one fails.
static bool each_entry(const char *path, void (*visit)(const char *path, mode_t, brim_error *),
                       brim_error *err) {
    if (failed(err)) return false;
    DIR *folder = opendir(path);
    if (!folder) {
        brim_fail(err, BRIM_IO, "folder %s cannot be read: %s", path, strerror(errno));
        return false;
    }
    for (struct dirent *entry; (entry = next_entry(folder, path, err));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *child = path_join(path, entry->d_name, err);
        struct stat status;
        if (child && lstat(child, &status) == 0)
            visit(child, status.st_mode, err);
        else if (child && errno != ENOENT) // it may have gone meanwhile
            brim_fail(err, BRIM_IO, "%s cannot be read: %s", child, strerror(errno));
        free(child);
    }
    closedir(folder);
    return !failed(err);
}

static void sync_entry(const char *path, mode_t mode, brim_error *err) {
    if (S_ISREG(mode)) sync_file(path, err);
    if (S_ISDIR(mode) && each_entry(path, sync_entry, err)) folder_sync(path, err);
}

static void remove_entry(const char *path, mode_t mode, brim_error *err) {
    if (S_ISDIR(mode) && !each_entry(path, remove_entry, err)) return;
    if (remove(path) == 0 || errno == ENOENT) return;
    brim_fail(err, BRIM_IO, "%s cannot be removed: %s", path, strerror(errno));
}

bool folder_remove(const char *path, brim_error *err) {
    if (failed(err)) return false;
    struct stat status;
    if (lstat(path, &status) == 0)
        remove_entry(path, status.st_mode, err);
    else if (errno != ENOENT)
        brim_fail(err, BRIM_IO, "%s cannot be removed: %s", path, strerror(errno));
    return !failed(err);
}

static bool make_one(const char *path, unsigned mode, brim_error *err) {
    struct stat status;
    if (mkdir(path, mode) == 0) return true;
    int reason = errno;
    if (reason == EEXIST && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) return true;
    brim_fail(err, BRIM_IO, "folder %s cannot be made: %s", path,
              reason == EEXIST ? "something else has that name" : strerror(reason));
    return false;
}

bool folder_make(const char *path, unsigned mode, brim_error *err) {
    char *partial = brim_strdup(path, err);
    if (!partial) return false;
    bool made = true;
    for (char *slash = partial; made && (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        made = make_one(partial, mode, err);
        *slash = '/';
    }
    if (made) made = make_one(partial, mode, err);
    free(partial);
    return made;
}

static void free_folder(folder_writer *f) {
    if (f->lock >= 0) close(f->lock);
    free(f->path);
    free(f->temporary);
    free(f);
}

static bool lock_temporary(folder_writer *f) {
    f->lock = open(f->temporary, open_folder);
    if (f->lock >= 0 && lock_new(f->lock, AT_FDCWD, f->temporary)) return true;
    if (f->lock >= 0) close(f->lock);
    f->lock = -1;
    rmdir(f->temporary);
    return false;
}

static void make_temporary(folder_writer *f, brim_error *err) {
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        free(f->temporary);
        f->temporary = path_temporary(f->path, "tmp", err);
        if (failed(err)) return;
        bool made = mkdir(f->temporary, 0777) == 0;
        if (made && lock_temporary(f)) return;
        if (!made && errno != EEXIST) break;
    }
    brim_fail(err, BRIM_IO, "folder %s cannot be made: %s", f->temporary, strerror(errno));
}

folder_writer *folder_create(const char *path, brim_error *err) {
    folder_writer *f = brim_calloc(sizeof *f, err);
    if (!f) return NULL;
    f->lock = -1;
    f->path = brim_strdup(path, err);
    if (f->path) make_temporary(f, err);
    if (!failed(err)) return f;
    free_folder(f);
    return NULL;
}

const char *folder_path(const folder_writer *f) {
    return f ? f->temporary : "";
}

static bool exchange(const char *a, const char *b) {
#ifdef RENAME_EXCHANGE
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
#else
    (void)a, (void)b;
    return false;
#endif
}

// Where the file system cannot exchange two names: for a moment the old folder has a name of its
// own (PATH.brim-old-...).
static bool move_aside(folder_writer *f, brim_error *err) {
    char *aside = path_temporary(f->path, "old", err);
    if (!aside) return false;
    int lock = open(f->path, open_folder);
    if (lock >= 0) lock_try(lock);
    if (rename(f->path, aside) != 0) {
        brim_fail(err, BRIM_IO, "%s cannot be renamed to %s: %s", f->path, aside, strerror(errno));
    } else if (rename(f->temporary, f->path) != 0) {
        brim_fail(err, BRIM_IO, "%s cannot be renamed to %s: %s", f->temporary, f->path,
                  strerror(errno));
        rename(aside, f->path);
    } else {
        free(f->temporary);
        close(f->lock);
        f->temporary = aside;
        f->lock = lock;
        return true;
    }
    if (lock >= 0) close(lock);
    free(aside);
    return false;
}

// Gives the folder its name. Afterwards f->temporary names what is to be removed: nothing, the old
// folder, or, after a failure, the new one.
static bool take_name(folder_writer *f, bool replace, brim_error *err) {
    struct stat status;
    bool taken = lstat(f->path, &status) == 0;
    if (taken && !replace) {
        brim_fail(err, BRIM_IO, "folder %s exists already and is kept as it is", f->path);
        return false;
    }
    if (taken) return exchange(f->temporary, f->path) || move_aside(f, err);
    if (rename(f->temporary, f->path) == 0) return true;
    brim_fail(err, BRIM_IO, "%s cannot be renamed to %s: %s", f->temporary, f->path,
              strerror(errno));
    return false;
}

bool folder_commit(folder_writer *f, bool replace, brim_error *err) {
    if (!f) return false;
    bool ready =
        !failed(err) && each_entry(f->temporary, sync_entry, err) && folder_sync(f->temporary, err);
    if (ready && take_name(f, replace, err)) {
        char *parent = path_parent(f->path, err);
        if (parent) folder_sync(parent, err);
        free(parent);
    }
    folder_discard(f);
    return !failed(err);
}

void folder_discard(folder_writer *f) {
    if (!f) return;
    brim_error ignored = {0}; // the folder that stays behind is named as a temporary one
    folder_remove(f->temporary, &ignored);
    free_folder(f);
}

// Length of NAME in NAME.brim-tmp-0123abcd (see path_temporary); 0 for any other name.
static size_t name_length(const char *path, const char *suffix) {
    enum { DIGITS = 8 };
    size_t length = strlen(path), end = strlen(suffix) + DIGITS;
    if (length <= end || strncmp(path + length - end, suffix, strlen(suffix)) != 0) return 0;
    return strspn(path + length - DIGITS, "0123456789abcdef") == DIGITS ? length - end : 0;
}

// A folder that was moved aside gets its name back where no other has it by now.
static bool move_back(const char *path, size_t length) {
    brim_error err = {0};
    strbuf name = {.err = &err};
    strbuf_append(&name, path, length);
    struct stat status;
    bool moved = !failed(&err) && lstat(strbuf_text(&name), &status) != 0 && errno == ENOENT &&
                 rename(path, strbuf_text(&name)) == 0;
    strbuf_free(&name);
    return moved;
}

static void clean_entry(const char *path, mode_t mode, brim_error *err) {
    (void)err; // what cannot be removed harms nobody
    size_t aside = name_length(path, ".brim-old-");
    if (!aside && !name_length(path, ".brim-tmp-")) return;
    if (!S_ISDIR(mode) && !S_ISREG(mode)) return;
    // Some network file systems lock only what may be written.
    int lock = open(path, S_ISDIR(mode) ? open_folder : O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (lock < 0) return;
    if (lock_leftover(lock, AT_FDCWD, path) && !(aside && move_back(path, aside)))
        folder_remove(path, &(brim_error){0});
    close(lock);
}

void folder_clean(const char *path) {
    each_entry(path, clean_entry, &(brim_error){0});
}

bool brim_cache_dir(char *buffer, size_t size, brim_error *err) {
    if (failed(err)) return false;
    // The one place where the library reads the environment: it says where the user keeps such
    // files.
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (base && base[0] == '/')
        length = snprintf(buffer, size, "%s/brim", base);
    else if (home && home[0] == '/')
        length = snprintf(buffer, size, "%s/.cache/brim", home);
    if (length < 0) {
        brim_fail(err, BRIM_IO,
                  "there is no cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path");
        return false;
    }
    if ((size_t)length >= size) {
        brim_fail(err, BRIM_IO, "the cache folder's path of %d bytes is too long", length);
        return false;
    }
    return folder_make(buffer, 0700, err);
}

bool brim_folder_make(const char *path, brim_error *err) {
    return !failed(err) && folder_make(path, 0777, err);
}
