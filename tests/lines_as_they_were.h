// Files of lines in tests/fixtures that say what something was: a test makes the lines again, and
// whoever changes what they say for the better writes them anew, and reads what has changed:
//
//     BRIM_TEST_WRITE_FIXTURES=1 build/bin/run_tests SUITE; git diff tests/fixtures
#ifndef BRIM_TEST_LINES_AS_THEY_WERE_H
#define BRIM_TEST_LINES_AS_THEY_WERE_H

#include <stdio.h>

enum { LINE_BYTES = 600 };

typedef struct lines_as_they_were {
    const char *name;
    FILE *in, *out;
} lines_as_they_were;

// `name` is that of a file in tests/fixtures. Fails the test where it cannot be opened.
lines_as_they_were lines_open(const char *name);
// Fails the test where the next line is another one; or writes it.
void lines_next(lines_as_they_were *l, const char *line);
// Fails the test where the file has more.
void lines_close(lines_as_they_were *l);

#endif
