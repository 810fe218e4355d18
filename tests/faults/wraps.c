// What the linker puts in the place of the system's calls (--wrap). Each fails as the system's own
// can, with an errno of those that its manual page names.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "tests/faults/faults.h"

// The wrap and the call itself.
#define WRAP(type, name, ...)                                                                      \
    type __real_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__)

#define CALLER __builtin_return_address(0)
#define STRIKES(kind, name) faults_strike(FAULT_##kind, #name, CALLER)
#define TAKEN(kind, name, thing) taken(FAULT_##kind, #name, CALLER, thing)
#define OPENED(name, descriptor) opened(#name, CALLER, descriptor)
#define REASON(otherwise) (faults_manner() == FAULT_INTERRUPT ? EINTR : (otherwise))
#define FAIL(reason, result)                                                                       \
    do {                                                                                           \
        errno = (reason);                                                                          \
        return result;                                                                             \
    } while (0)

static void *taken(fault_kind kind, const char *call, const void *caller, void *thing) {
    if (thing) faults_take(kind, call, caller, (uintptr_t)thing);
    return thing;
}

// Apart from NULL, and from the addresses of FILE and DIR.
static uintptr_t thing_of(int descriptor) {
    return (uintptr_t)descriptor + 1;
}

static int opened(const char *call, const void *caller, int descriptor) {
    if (descriptor >= 0) faults_take(FAULT_FILE, call, caller, thing_of(descriptor));
    return descriptor;
}

// ---- memory -------------------------------------------------------------------------------------

WRAP(void *, malloc, size_t bytes) {
    if (STRIKES(MEMORY, malloc)) FAIL(ENOMEM, NULL);
    return TAKEN(MEMORY, malloc, __real_malloc(bytes));
}

WRAP(void *, calloc, size_t count, size_t bytes) {
    if (STRIKES(MEMORY, calloc)) FAIL(ENOMEM, NULL);
    return TAKEN(MEMORY, calloc, __real_calloc(count, bytes));
}

// Another thread may be given the old block as soon as it is free.
WRAP(void *, realloc, void *block, size_t bytes) {
    if (STRIKES(MEMORY, realloc)) FAIL(ENOMEM, NULL);
    if (block) faults_give(FAULT_MEMORY, (uintptr_t)block);
    void *moved = __real_realloc(block, bytes);
    if (!moved && block) TAKEN(MEMORY, realloc, block);
    return TAKEN(MEMORY, realloc, moved);
}

void __real_free(void *block);
void __wrap_free(void *block);
void __wrap_free(void *block) {
    if (block) faults_give(FAULT_MEMORY, (uintptr_t)block);
    __real_free(block);
}

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...) {
    if (STRIKES(MEMORY, asprintf)) FAIL(ENOMEM, -1);
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(text, format, arguments);
    va_end(arguments);
    if (length >= 0) TAKEN(MEMORY, asprintf, *text);
    return length;
}

WRAP(void *, mmap, void *at, size_t bytes, int rights, int flags, int descriptor, off_t offset) {
    if (STRIKES(MAP, mmap)) FAIL(ENOMEM, MAP_FAILED);
    void *memory = __real_mmap(at, bytes, rights, flags, descriptor, offset);
    return memory == MAP_FAILED ? memory : TAKEN(MAP, mmap, memory);
}

WRAP(int, munmap, void *memory, size_t bytes) {
    faults_give(FAULT_MAP, (uintptr_t)memory);
    return __real_munmap(memory, bytes);
}

// ---- threads ------------------------------------------------------------------------------------

WRAP(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
     void *argument) {
    if (STRIKES(THREAD, pthread_create)) return EAGAIN;
    int status = __real_pthread_create(thread, attributes, run, argument);
    if (status == 0) TAKEN(THREAD, pthread_create, (void *)*thread);
    return status;
}

WRAP(int, pthread_join, pthread_t thread, void **result) {
    faults_give(FAULT_THREAD, (uintptr_t)thread);
    return __real_pthread_join(thread, result);
}

// ---- descriptors --------------------------------------------------------------------------------

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    if (STRIKES(FILE, open)) FAIL(REASON(EMFILE), -1);
    return OPENED(open, __real_open(path, flags, mode));
}

int __real_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    if (STRIKES(FILE, openat)) FAIL(EMFILE, -1);
    return OPENED(openat, __real_openat(at, path, flags, mode));
}

WRAP(int, mkstemp, char *path) {
    if (STRIKES(FILE, mkstemp)) FAIL(EACCES, -1);
    return OPENED(mkstemp, __real_mkstemp(path));
}

WRAP(int, mkostemp, char *path, int flags) {
    if (STRIKES(FILE, mkostemp)) FAIL(EACCES, -1);
    return OPENED(mkostemp, __real_mkostemp(path, flags));
}

int __real_fcntl(int descriptor, int what, ...);
int __wrap_fcntl(int descriptor, int what, ...);
int __wrap_fcntl(int descriptor, int what, ...) {
    va_list arguments;
    va_start(arguments, what);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (STRIKES(FILE, fcntl)) FAIL(EMFILE, -1);
    int result = __real_fcntl(descriptor, what, argument);
    return what == F_DUPFD_CLOEXEC || what == F_DUPFD ? OPENED(fcntl, result) : result;
}

// Closed in any case, as on Linux.
WRAP(int, close, int descriptor) {
    faults_give(FAULT_FILE, thing_of(descriptor));
    int result = __real_close(descriptor);
    if (STRIKES(FILE, close)) FAIL(EIO, -1);
    return result;
}

WRAP(FILE *, fopen, const char *path, const char *mode) {
    if (STRIKES(FILE, fopen)) FAIL(EMFILE, NULL);
    return TAKEN(FILE, fopen, __real_fopen(path, mode));
}

WRAP(int, fclose, FILE *file) {
    faults_give(FAULT_FILE, (uintptr_t)file);
    int result = __real_fclose(file);
    if (STRIKES(FILE, fclose)) FAIL(EIO, EOF);
    return result;
}

WRAP(DIR *, opendir, const char *path) {
    if (STRIKES(FILE, opendir)) FAIL(EMFILE, NULL);
    return TAKEN(FILE, opendir, __real_opendir(path));
}

WRAP(DIR *, fdopendir, int descriptor) {
    if (STRIKES(FILE, fdopendir)) FAIL(ENOMEM, NULL);
    DIR *folder = TAKEN(FILE, fdopendir, __real_fdopendir(descriptor));
    if (folder) faults_give(FAULT_FILE, thing_of(descriptor)); // it is the folder's
    return folder;
}

WRAP(int, closedir, DIR *folder) {
    faults_give(FAULT_FILE, (uintptr_t)folder);
    return __real_closedir(folder);
}

// ---- reading and writing ------------------------------------------------------------------------

// Those that may do less than they were asked to.
#define TRANSFER_CALLS(X)                                                                          \
    X(read, (int f, void *data, size_t bytes), (f, data, bytes), EIO)                              \
    X(pread, (int f, void *data, size_t bytes, off_t at), (f, data, bytes, at), EIO)               \
    X(write, (int f, const void *data, size_t bytes), (f, data, bytes), ENOSPC)                    \
    X(pwrite, (int f, const void *data, size_t bytes, off_t at), (f, data, bytes, at), ENOSPC)

#define X(name, parameters, arguments, reason)                                                     \
    ssize_t __real_##name parameters;                                                              \
    ssize_t __wrap_##name parameters;                                                              \
    ssize_t __wrap_##name parameters {                                                             \
        bool strikes = STRIKES(FILE, name);                                                        \
        fault_manner manner = faults_manner();                                                     \
        if (strikes && manner == FAULT_PART && bytes > 1) bytes /= 2;                              \
        if (strikes && manner != FAULT_PART) FAIL(REASON(reason), -1);                             \
        return __real_##name arguments;                                                            \
    }
TRANSFER_CALLS(X)
#undef X

// X(type, name, (parameters), (arguments), reason, result)
#define FILE_CALLS(X)                                                                              \
    X(struct dirent *, readdir, (DIR * folder), (folder), EIO, NULL)                               \
    X(int, fsync, (int f), (f), EIO, -1)                                                           \
    X(int, fdatasync, (int f), (f), EIO, -1)                                                       \
    X(int, ftruncate, (int f, off_t bytes), (f, bytes), EIO, -1)                                   \
    X(int, rename, (const char *from, const char *to), (from, to), EACCES, -1)                     \
    X(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), EACCES,   \
      -1)                                                                                          \
    X(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),            \
      (a, from, b, to, flags), EINVAL, -1)                                                         \
    X(int, unlink, (const char *path), (path), EACCES, -1)                                         \
    X(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), EACCES, -1)         \
    X(int, remove, (const char *path), (path), EACCES, -1)                                         \
    X(int, rmdir, (const char *path), (path), EACCES, -1)                                          \
    X(int, mkdir, (const char *path, mode_t mode), (path, mode), EACCES, -1)                       \
    X(int, flock, (int f, int how), (f, how), ENOLCK, -1)                                          \
    X(int, stat, (const char *path, struct stat *s), (path, s), EACCES, -1)                        \
    X(int, lstat, (const char *path, struct stat *s), (path, s), EACCES, -1)                       \
    X(int, fstat, (int f, struct stat *s), (f, s), EIO, -1)                                        \
    X(int, fstatat, (int at, const char *path, struct stat *s, int flags), (at, path, s, flags),   \
      EACCES, -1)                                                                                  \
    X(int, fstatvfs, (int f, struct statvfs *s), (f, s), EIO, -1)                                  \
    X(off_t, lseek, (int f, off_t by, int from), (f, by, from), ESPIPE, -1)

#define X(type, name, parameters, arguments, reason, result)                                       \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        if (STRIKES(FILE, name)) FAIL(REASON(reason), result);                                     \
        return __real_##name arguments;                                                            \
    }
FILE_CALLS(X)
#undef X

WRAP(int, posix_fallocate, int f, off_t at, off_t bytes) {
    return STRIKES(FILE, posix_fallocate) ? REASON(ENOSPC) : __real_posix_fallocate(f, at, bytes);
}

// ---- libraries ----------------------------------------------------------------------------------

// A name that is none, so that dlerror tells.
WRAP(void *, dlopen, const char *name, int flags) {
    if (STRIKES(LIBRARY, dlopen)) return __real_dlopen("library that was made to fail", flags);
    return __real_dlopen(name, flags);
}
