// Status codes and error text.
//
// Every fallible call takes a brim_error as its last argument and does nothing if that already holds an error: the
// first error sticks. A script can therefore make all its calls in a row and look once, at the end:
//
//   brim_error err = {0};
//   brim_trainer *t = brim_trainer_create(build, NULL, &options, &err);
//   while (...) brim_trainer_step(t, &result, &err);
//   brim_trainer_free(t);                 // freeing NULL is fine
//   return brim_error_report(&err);       // prints one line to stderr; 0 where all went well
#ifndef BRIM_ERROR_H
#define BRIM_ERROR_H

#include <brim/export.h>

#ifdef __cplusplus
extern "C" {
#endif

// X(enumerator, name as printed, when it is used)
#define BRIM_STATUS_LIST(X)                                                                        \
    X(OK, "ok", "nothing went wrong")                                                              \
    X(ARGUMENT, "argument", "an argument or option is out of range, unknown or contradicts another") \
    X(SHAPE, "shape", "operands of an op do not fit together")                                     \
    X(GRAPH, "graph", "the graph is malformed, or a derivative does not exist")                    \
    X(MEMORY, "memory", "host or device memory does not suffice")                                  \
    X(IO, "io", "a file is missing, unreadable, unwritable or a disk is full")                     \
    X(FORMAT, "format", "a file's contents are not what its format demands")                       \
    X(DEVICE, "device", "a driver is missing or one of its calls failed")                          \
    X(UNSUPPORTED, "unsupported", "the device or this build cannot do that")                       \
    X(NOT_FINITE, "not finite", "a loss or a gradient is infinite or NaN")                        \
    X(CANCELLED, "cancelled", "the caller asked to stop")

typedef enum brim_status {
#define X(id, name, meaning) BRIM_##id,
    BRIM_STATUS_LIST(X)
#undef X
} brim_status;

// The first error of a sequence of calls. Zero-initialise it. The text is one line without a newline: what is wrong,
// where (file, field, op, tensor, shapes), and what was expected.
typedef struct brim_error {
    brim_status status;
    char text[1000];
} brim_error;

// The status's short name, such as "shape".
BRIM_API const char *brim_status_name(brim_status status);

// Sets status and text unless an error is already set; returns err's status. Scripts may use it for their own checks.
BRIM_API brim_status brim_fail(brim_error *err, brim_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "CONTEXT: " before the text of the error that is set; for callers that know the file, op or tensor.
BRIM_API void brim_error_prefix(brim_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Prints "error: TEXT" to stderr if there is one. Returns a process exit code: 0, or 1 with an error.
BRIM_API int brim_error_report(const brim_error *err);

#ifdef __cplusplus
}
#endif
#endif
