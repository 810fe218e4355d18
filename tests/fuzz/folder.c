// Stands between the library and the system (-Wl,--wrap): what is written lies in the folder of the
// target.

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "tests/fuzz/fuzz.h"

static void check_place(const char *call, const char *path) {
    if (!fuzz_inside()) return;
    const char *folder = fuzz_folder();
    size_t length = strlen(folder);
    bool inside = strncmp(path, folder, length) == 0 && (!path[length] || path[length] == '/');
    FUZZ_CHECK(inside && !strstr(path, "/../"), "%s(\"%s\") is outside the folder", call, path);
}

// Names of files in an open directory, which is the target's.
static void check_name(const char *call, const char *name) {
    if (!fuzz_inside()) return;
    FUZZ_CHECK(!strchr(name, '/') && strcmp(name, "..") != 0, "%s(\"%s\") is no plain name", call,
               name);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC)) check_place("open", path);
    return __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *name, int flags, ...);
int __wrap_openat(int folder, const char *name, int flags, ...);
int __wrap_openat(int folder, const char *name, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    check_name("openat", name);
    return __real_openat(folder, name, flags, mode);
}

int __real_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags) {
    check_name("unlinkat", name);
    return __real_unlinkat(folder, name, flags);
}

#define WRAP_REMOVAL(call)                                                                         \
    int __real_##call(const char *path);                                                           \
    int __wrap_##call(const char *path);                                                           \
    int __wrap_##call(const char *path) {                                                          \
        check_place(#call, path);                                                                  \
        return __real_##call(path);                                                                \
    }
WRAP_REMOVAL(unlink)
WRAP_REMOVAL(rmdir)
WRAP_REMOVAL(remove)

// Parents are tried, too; those that exist stay as they are.
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    struct stat status;
    if (stat(path, &status) != 0) check_place("mkdir", path);
    return __real_mkdir(path, mode);
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    check_place("rename", from);
    check_place("rename", to);
    return __real_rename(from, to);
}

int __real_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    check_place("renameat2", from);
    check_place("renameat2", to);
    return __real_renameat2(a, from, b, to, flags);
}
