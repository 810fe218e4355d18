#include "tests/lines_as_they_were.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

lines_as_they_were lines_open(const char *name) {
    char path[500];
    snprintf(path, sizeof path, BRIM_SOURCE_DIR "/tests/fixtures/%s", name);
    bool writes = getenv("BRIM_TEST_WRITE_FIXTURES") != NULL;
    lines_as_they_were l = {name, writes ? NULL : fopen(path, "r"),
                            writes ? fopen(path, "w") : NULL};
    ck_assert_msg(l.in || l.out, "%s cannot be opened", path);
    return l;
}

void lines_next(lines_as_they_were *l, const char *line) {
    char was[LINE_BYTES + 1] = "";
    if (l->out) {
        fprintf(l->out, "%s\n", line);
        return;
    }
    if (fgets(was, sizeof was, l->in)) was[strcspn(was, "\n")] = '\0';
    ck_assert_msg(strcmp(line, was) == 0, "%s: it is\n%s\nand was\n%s", l->name, line, was);
}

void lines_close(lines_as_they_were *l) {
    if (l->in) ck_assert_msg(fgetc(l->in) == EOF, "%s has more lines", l->name);
    if (l->in) fclose(l->in);
    if (l->out) ck_assert_int_eq(fclose(l->out), 0);
}
