// What a call says on stderr.
//
//   listener l = listen_to_stderr();  ...  heard(l, text, sizeof text);
#ifndef BRIM_TESTS_LISTENER_H
#define BRIM_TESTS_LISTENER_H

#include <check.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct listener {
    int file, stderr_before;
} listener;

static inline listener listen_to_stderr(void) {
    fflush(stderr);
    listener l = {memfd_create("stderr", 0), dup(2)};
    ck_assert(l.file >= 0 && l.stderr_before >= 0);
    dup2(l.file, 2);
    return l;
}

static inline void heard(listener l, char *text, size_t size) {
    fflush(stderr);
    dup2(l.stderr_before, 2);
    ssize_t count = pread(l.file, text, size - 1, 0);
    text[count > 0 ? count : 0] = '\0';
    close(l.file), close(l.stderr_before);
}

#endif
