// Options of programs as tables: what argp lists in --help, and how values are read and checked.
//
//   1. static const option_row rows[] = {
//          {"steps", "N", OPTION_INTEGER, offsetof(options, steps), 1, 1e12, "steps to train"},
//          {"resume", NULL, OPTION_SWITCH, offsetof(options, resume), 0, 0, "go on from OUT"}};
//   2. command_line_list(rows, count, list);                       rows as argp wants them
//   3. command_line_take(rows, count, key, text, &options, &err);  in argp's parser
#ifndef EXAMPLES_COMMAND_LINE_H
#define EXAMPLES_COMMAND_LINE_H

#include <argp.h>
#include <brim/brim.h>

// So many bytes, or so much of what a step takes where nothing is streamed; both 0: not given.
typedef struct memory_budget {
    int64_t bytes;
    double share;
} memory_budget;

// A folder, and how much of it may be used; bytes 0: none.
typedef struct disk_share {
    char folder[4096];
    int64_t bytes;
} disk_share;

// X(kind, the field's type): how a value is read
#define OPTION_KINDS(X)                                                                            \
    X(INTEGER, int64_t)                                                                            \
    X(REAL, double)                                                                                \
    X(TEXT, const char *)                                                                          \
    X(BYTES, int64_t) /* "8G", "512M" */                                                           \
    X(BUDGET, memory_budget) /* as BYTES, or "25%" */                                              \
    X(DISK, disk_share) /* "DIR:SIZE" */                                                           \
    X(CHOICE, int)    /* the place in `choices` */                                                 \
    X(SWITCH, bool)   /* takes no value */

typedef enum option_kind {
#define X(kind, type) OPTION_##kind,
    OPTION_KINDS(X)
#undef X
} option_kind;

typedef struct option_row {
    const char *name, *argument;
    option_kind kind;
    size_t offset;    // of the field in the program's options
    double low, high; // of integers, reals and bytes
    const char *help;
    const char *const *choices; // NULL-terminated
} option_row;

// Fills list[0 .. count-1].
void command_line_list(const option_row *rows, int count, struct argp_option *list);

// False if key is no row's. A value that cannot be read is an error that names the option and what
// was expected.
bool command_line_take(const option_row *rows, int count, int key, const char *text, void *options,
                       brim_error *err);

#endif
