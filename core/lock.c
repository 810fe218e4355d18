#include "core/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <brim/report.h>
#include "core/alloc.h"
#include "core/files.h"

struct brim_lock {
    char *folder, *path; // path: of the file in it
    int descriptor;
    bool made; // the folder, by this lock
};

lock_result lock_try(int descriptor) {
    while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return LOCK_HELD;
        if (errno != EINTR) return LOCK_UNAVAILABLE;
    }
    return LOCK_TAKEN;
}

bool lock_names(int descriptor, int at, const char *path) {
    struct stat open_one, named;
    return fstat(descriptor, &open_one) == 0 &&
           fstatat(at, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && open_one.st_dev == named.st_dev &&
           open_one.st_ino == named.st_ino;
}

bool lock_new(int descriptor, int at, const char *path) {
    return lock_try(descriptor) != LOCK_HELD && lock_names(descriptor, at, path);
}

bool lock_leftover(int descriptor, int at, const char *path) {
    return lock_try(descriptor) == LOCK_TAKEN && lock_names(descriptor, at, path);
}

static void report_held(const brim_lock *lock, brim_error *err) {
    char text[24] = "";
    ssize_t length = pread(lock->descriptor, text, sizeof text - 1, 0);
    long pid = length > 0 ? strtol(text, NULL, 10) : 0;
    char who[40] = ""; // nothing yet in the moment between its lock and its number
    if (pid > 0) snprintf(who, sizeof who, ", process %ld", pid);
    brim_fail(err, BRIM_IO,
              "folder %s is in use by another run%s; expected a folder that no other run writes to",
              lock->folder, who);
}

// For whoever is refused. Nothing depends on it, so a full disk is no reason to stop.
static void write_pid(int descriptor) {
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(descriptor, 0) == 0 && pwrite(descriptor, text, (size_t)length, 0) != length)
        (void)!ftruncate(descriptor, 0);
}

// A process that was killed keeps its locks until its memory is taken apart, which takes a moment;
// so who is refused has tried for a second.
static void take(brim_lock *lock, brim_error *err) {
    enum { TRIES = 20, PAUSE_NS = 50000000 };
    for (int i = 1;; i++) {
        lock->descriptor = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (lock->descriptor < 0) {
            brim_fail(err, BRIM_IO, "folder %s cannot be written to: %s: %s", lock->folder,
                      lock->path, strerror(errno));
            return;
        }
        // A run that ends removes the file, perhaps just after it was opened here.
        if (lock_new(lock->descriptor, AT_FDCWD, lock->path)) {
            write_pid(lock->descriptor);
            return;
        }
        if (i == TRIES) report_held(lock, err);
        close(lock->descriptor);
        lock->descriptor = -1;
        if (i == TRIES) return;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}

brim_lock *brim_folder_lock(const char *path, brim_error *err) {
    brim_lock *lock = brim_calloc(sizeof *lock, err);
    if (!lock) return NULL;
    struct stat status;
    lock->descriptor = -1;
    lock->made = stat(path, &status) != 0;
    lock->folder = brim_strdup(path, err);
    lock->path = failed(err) ? NULL : path_join(path, "lock", err);
    if (lock->path && folder_make(path, 0777, err)) take(lock, err);
    if (!failed(err)) folder_clean(path);
    if (!failed(err)) return lock;
    brim_folder_unlock(lock);
    return NULL;
}

void brim_folder_unlock(brim_lock *lock) {
    if (!lock) return;
    if (lock->descriptor >= 0) {
        unlink(lock->path);
        close(lock->descriptor);
        if (lock->made) rmdir(lock->folder); // fails, as it should, where anything is in it
    }
    free(lock->path);
    free(lock->folder);
    free(lock);
}
