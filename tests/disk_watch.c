#include "tests/disk_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

// What is known of a file or folder; moments count calls.
typedef struct watched {
    dev_t device;
    ino_t inode;
    long written, synced; // 0: never
} watched;

enum { MOST_FILES = 500, TEXT_BYTES = 600 };

static struct {
    bool on;
    long moment;
    watched file[MOST_FILES];
    int files, renames, inherited, opened, number_0;
    char complaint[TEXT_BYTES];
    char last[TEXT_BYTES];
    char parent[TEXT_BYTES]; // to be synced, since a name was given in it; "": none
    size_t most;
    bool interrupt, names_only, at_end, no_lists;
} watch;

static watched *find(dev_t device, ino_t inode) {
    for (int i = 0; i < watch.files; i++)
        if (watch.file[i].device == device && watch.file[i].inode == inode) return &watch.file[i];
    static watched none;
    if (watch.files == MOST_FILES) return &none;
    watch.file[watch.files] = (watched){.device = device, .inode = inode};
    return &watch.file[watch.files++];
}

static void complain(const char *path, const char *what) {
    if (!watch.complaint[0])
        snprintf(watch.complaint, sizeof watch.complaint, "%.400s %s", path, what);
}

static void note_write(int descriptor) {
    struct stat s;
    if (!watch.on || fstat(descriptor, &s) != 0 || !S_ISREG(s.st_mode)) return;
    find(s.st_dev, s.st_ino)->written = ++watch.moment;
}

static void note_sync(int descriptor) {
    struct stat s, parent;
    if (!watch.on || fstat(descriptor, &s) != 0) return;
    find(s.st_dev, s.st_ino)->synced = ++watch.moment;
    if (watch.parent[0] && stat(watch.parent, &parent) == 0 && parent.st_ino == s.st_ino)
        watch.parent[0] = '\0';
}

// The moment at which the last of a folder's entries was synced, while a tree is walked, by depth.
enum { MOST_DEPTH = 8 };
static long entries_synced[MOST_DEPTH + 2];

static int check_entry(const char *path, const struct stat *s, int type, struct FTW *place) {
    const watched *w = find(s->st_dev, s->st_ino);
    int level = place->level < MOST_DEPTH ? place->level : MOST_DEPTH;
    bool folder = type == FTW_DP;
    if (!w->synced) complain(path, "has a name, and was never synced");
    if (w->written > w->synced)
        complain(path, "has a name, and was not synced after its last write");
    if (folder && w->synced < entries_synced[level + 1])
        complain(path, "has a name, and was not synced after its entries");
    if (folder) entries_synced[level + 1] = 0;
    if (w->synced > entries_synced[level]) entries_synced[level] = w->synced;
    return 0;
}

static void note_rename(const char *from, const char *to) {
    if (!watch.on) return;
    if (watch.parent[0]) complain(watch.parent, "was not synced after a name was given in it");
    memset(entries_synced, 0, sizeof entries_synced);
    nftw(from, check_entry, 8, FTW_DEPTH | FTW_PHYS);
    snprintf(watch.last, sizeof watch.last, "%s", to);
    snprintf(watch.parent, sizeof watch.parent, "%s", to);
    char *slash = strrchr(watch.parent, '/');
    if (slash && slash != watch.parent)
        *slash = '\0';
    else
        strcpy(watch.parent, slash ? "/" : ".");
    watch.renames++;
}

void disk_watch_begin(void) {
    memset(&watch, 0, sizeof watch);
    watch.on = true;
}

const char *disk_watch_end(int *renames) {
    if (watch.parent[0]) complain(watch.parent, "was not synced after a name was given in it");
    watch.on = false;
    *renames = watch.renames;
    return watch.complaint[0] ? watch.complaint : NULL;
}

const char *disk_watch_last(void) {
    return watch.last;
}

int disk_watch_inherited(void) {
    return watch.inherited;
}

void disk_lists_nothing(bool yes) {
    watch.no_lists = yes;
}

void disk_has_names_only(bool yes) {
    watch.names_only = yes;
}

void disk_number_0(int at) {
    watch.number_0 = at;
    watch.opened = 0;
}

int disk_opened(void) {
    return watch.opened;
}

void disk_is_at_its_end(bool yes) {
    watch.at_end = yes;
}

void disk_most_at_once(size_t bytes) {
    watch.most = bytes;
    watch.interrupt = true;
}

// ---- wrapped calls ------------------------------------------------------------------------------

static bool interrupted(size_t *size) {
    if (watch.at_end) *size = 0;
    if (!watch.most) return false;
    if (*size > watch.most) *size = watch.most;
    watch.interrupt = !watch.interrupt;
    if (watch.interrupt) return false;
    errno = EINTR;
    return true;
}

static int numbered(int descriptor, int flags) {
    watch.inherited += !(flags & O_CLOEXEC);
    if (descriptor <= 0 || ++watch.opened != watch.number_0) return descriptor;
    dup3(descriptor, 0, flags & O_CLOEXEC);
    close(descriptor);
    return 0;
}

int __real_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode) {
    if (!watch.names_only || (flags & O_TMPFILE) != O_TMPFILE)
        return numbered(__real_open(path, flags, mode), flags);
    errno = EOPNOTSUPP;
    return -1;
}

int __real_openat(int folder, const char *path, int flags, mode_t mode);
int __wrap_openat(int folder, const char *path, int flags, mode_t mode);
int __wrap_openat(int folder, const char *path, int flags, mode_t mode) {
    return numbered(__real_openat(folder, path, flags, mode), flags);
}

struct dirent *__real_readdir(DIR *folder);
struct dirent *__wrap_readdir(DIR *folder);
struct dirent *__wrap_readdir(DIR *folder) {
    if (!watch.no_lists) return __real_readdir(folder);
    errno = EIO;
    return NULL;
}

ssize_t __real_read(int descriptor, void *data, size_t size);
ssize_t __wrap_read(int descriptor, void *data, size_t size);
ssize_t __wrap_read(int descriptor, void *data, size_t size) {
    return interrupted(&size) ? -1 : __real_read(descriptor, data, size);
}

ssize_t __real_pread(int descriptor, void *data, size_t size, off_t offset);
ssize_t __wrap_pread(int descriptor, void *data, size_t size, off_t offset);
ssize_t __wrap_pread(int descriptor, void *data, size_t size, off_t offset) {
    return interrupted(&size) ? -1 : __real_pread(descriptor, data, size, offset);
}

ssize_t __real_write(int descriptor, const void *data, size_t size);
ssize_t __wrap_write(int descriptor, const void *data, size_t size);
ssize_t __wrap_write(int descriptor, const void *data, size_t size) {
    if (interrupted(&size)) return -1;
    note_write(descriptor);
    return __real_write(descriptor, data, size);
}

ssize_t __real_pwrite(int descriptor, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite(int descriptor, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    if (interrupted(&size)) return -1;
    note_write(descriptor);
    return __real_pwrite(descriptor, data, size, offset);
}

int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor);
int __wrap_fsync(int descriptor) {
    note_sync(descriptor);
    return __real_fsync(descriptor);
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    note_rename(from, to);
    return __real_rename(from, to);
}

int __real_renameat2(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned how);
int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned how);
int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned how) {
    note_rename(from, to);
    return __real_renameat2(from_folder, from, to_folder, to, how);
}
