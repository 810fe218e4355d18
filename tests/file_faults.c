// A library to preload into our programs: counts the calls that make or change files below one
// folder, and at one of them kills the process or makes the call fail. tests/interrupted.sh uses it.
//
//   FILE_FAULTS="FOLDER N WHAT" LD_PRELOAD=./file_faults.so train_gpt ...
//
// WHAT is "kill", the number of an errno value (28: no space left) for that call alone, or such a
// number with "+" for that call and all after it. N of 0: only counts. The number of calls is
// written to FOLDER.calls when the process ends by itself.
//
// A kill is a power cut: of what was appended to a file and has not been synced since, half is lost.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_UNSYNCED = 64 };

static struct {
    pthread_mutex_t mutex;
    char folder[PATH_MAX];
    long at, calls;
    int error; // 0: kill
    bool onwards;
    struct {
        int descriptor; // a copy, so that it stays when the program closes its own
        dev_t device;
        ino_t inode;
        off_t synced; // bytes that are on the disk for sure
    } unsynced[MOST_UNSYNCED];
    int unsynced_count;
} faults = {.mutex = PTHREAD_MUTEX_INITIALIZER};

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void read_settings(void) {
    const char *text = getenv("FILE_FAULTS");
    char what[16] = "";
    if (!text || sscanf(text, "%4000s %ld %15s", faults.folder, &faults.at, what) != 3) {
        fprintf(stderr, "file_faults: FILE_FAULTS is not \"FOLDER N WHAT\"\n");
        _exit(99);
    }
    faults.error = atoi(what);
    faults.onwards = strchr(what, '+') != NULL;
}

__attribute__((destructor)) static void write_calls(void) {
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.calls", faults.folder);
    FILE *file = fopen(path, "w");
    if (file) fprintf(file, "%ld\n", faults.calls), fclose(file);
}

static bool below(const char *path) {
    char full[PATH_MAX];
    if (path[0] != '/') {
        char here[PATH_MAX / 2];
        if (!getcwd(here, sizeof here)) return false;
        snprintf(full, sizeof full, "%s/%s", here, path);
        path = full;
    }
    size_t length = strlen(faults.folder);
    return strncmp(path, faults.folder, length) == 0 && (path[length] == '/' || !path[length]);
}

static bool descriptor_below(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = '\0';
    return below(path);
}

static void power_cut(void) {
    for (int i = 0; i < faults.unsynced_count; i++) {
        int descriptor = faults.unsynced[i].descriptor;
        off_t synced = faults.unsynced[i].synced;
        struct stat info;
        if (fstat(descriptor, &info) == 0 && info.st_size > synced)
            (void)!REAL(ftruncate)(descriptor, synced + (info.st_size - synced) / 2);
    }
    kill(getpid(), SIGKILL);
}

// True where this call is to fail, with errno set.
static bool fails(bool concerned) {
    if (!concerned) return false;
    pthread_mutex_lock(&faults.mutex);
    long call = ++faults.calls;
    bool now = faults.at && (call == faults.at || (faults.onwards && call > faults.at));
    if (now && !faults.error) power_cut();
    pthread_mutex_unlock(&faults.mutex);
    if (now) errno = faults.error;
    return now;
}

static int find_unsynced(const struct stat *info) {
    for (int i = 0; i < faults.unsynced_count; i++)
        if (faults.unsynced[i].device == info->st_dev && faults.unsynced[i].inode == info->st_ino)
            return i;
    return -1;
}

static void mark_unsynced(int descriptor, bool unsynced) {
    struct stat info;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) return;
    pthread_mutex_lock(&faults.mutex);
    int i = find_unsynced(&info);
    if (unsynced && i < 0 && faults.unsynced_count < MOST_UNSYNCED) {
        i = faults.unsynced_count++;
        faults.unsynced[i].descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 500);
        faults.unsynced[i].device = info.st_dev;
        faults.unsynced[i].inode = info.st_ino;
        faults.unsynced[i].synced = info.st_size;
    } else if (!unsynced && i >= 0) {
        close(faults.unsynced[i].descriptor);
        faults.unsynced[i] = faults.unsynced[--faults.unsynced_count];
    }
    pthread_mutex_unlock(&faults.mutex);
}

// ---- calls --------------------------------------------------------------------------------------

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    bool changes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    if (fails(changes && below(path))) return -1;
    return REAL(open)(path, flags, mode);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    bool concerned = descriptor_below(descriptor);
    if (fails(concerned)) return -1;
    if (concerned) mark_unsynced(descriptor, true);
    return REAL(write)(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    bool concerned = descriptor_below(descriptor);
    if (fails(concerned)) return -1;
    if (concerned) mark_unsynced(descriptor, true);
    return REAL(pwrite)(descriptor, data, size, offset);
}

int fsync(int descriptor) {
    bool concerned = descriptor_below(descriptor);
    if (fails(concerned)) return -1;
    int result = REAL(fsync)(descriptor);
    if (concerned && result == 0) mark_unsynced(descriptor, false);
    return result;
}

int ftruncate(int descriptor, off_t size) {
    return fails(descriptor_below(descriptor)) ? -1 : REAL(ftruncate)(descriptor, size);
}

int mkdir(const char *path, mode_t mode) {
    return fails(below(path)) ? -1 : REAL(mkdir)(path, mode);
}

int rmdir(const char *path) {
    return fails(below(path)) ? -1 : REAL(rmdir)(path);
}

int unlink(const char *path) {
    return fails(below(path)) ? -1 : REAL(unlink)(path);
}

int remove(const char *path) {
    return fails(below(path)) ? -1 : REAL(remove)(path);
}

int rename(const char *from, const char *to) {
    return fails(below(from)) ? -1 : REAL(rename)(from, to);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    return fails(below(from)) ? -1 : REAL(renameat2)(from_at, from, to_at, to, flags);
}
