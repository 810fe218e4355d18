// What the fuzz targets share. Each is a file here with a function fuzz_one, and checks more than
// that nothing crashes: errors are one printable line, memory is bounded by the input's size, and
// nothing is written anywhere but into a folder of the target's own. What is wrong ends the process
// with a line that says so.
//
//   1. const char *path = fuzz_file(data, size);          the input as a file
//   2. fuzz_begin(size, factor); read path; fuzz_end();   live memory stays below factor x size,
//   and a little
//   3. fuzz_error(&err);                                  its text is well formed, where there is
//   one
#ifndef BRIM_FUZZ_H
#define BRIM_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <brim/error.h>

void fuzz_one(const uint8_t *data, size_t size);

// True while an input is at work, not libFuzzer.
bool fuzz_inside(void);

#define FUZZ_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) fuzz_fail(__FILE__, __LINE__, __VA_ARGS__);                              \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// A file without a name that holds these bytes until the next call; the path is always the same.
const char *fuzz_file(const void *data, size_t size);

// The folder that may be written to; a call of the library that would write elsewhere ends the
// process (folder.c). It is made at the first call, in memory where that is possible, and removed
// at the end.
const char *fuzz_folder(void);

// FOLDER/NAME; up to four are in use at a time.
const char *fuzz_path(const char *name);

// Writes, reads and empties that folder's files. The text that is read has a NUL behind it and is
// freed by the caller.
void fuzz_write(const char *name, const void *data, size_t size);
char *fuzz_read(const char *name, size_t *size);
void fuzz_clear(void);

// True, with err cleared, where a call failed; its text must be well formed.
bool fuzz_error(brim_error *err);

// Between the two, memory that is taken and not yet freed stays below factor * size +
// FUZZ_USUAL_BYTES.
enum { FUZZ_USUAL_BYTES = 256 << 10 };
void fuzz_begin(size_t size, size_t factor);
void fuzz_end(void);

// The next line of the input, as a text on the heap that ends at a NUL; "" at the end.
char *fuzz_line(const uint8_t **data, size_t *size);

#endif
