// A journal's numbers read back.
#ifndef BRIM_CORE_JOURNAL_H
#define BRIM_CORE_JOURNAL_H

#include <brim/report.h>

// The lines that have both a "step" and a field of that name that is a number: steps[i], values[i].
typedef struct journal_column {
    const char *name;
    double *steps, *values;
    size_t count, capacity, step_capacity;
} journal_column;

// Fills columns, whose names are set and whose rest is zero. The arrays are freed by
// journal_column_free, on failure too.
bool journal_read(const char *path, journal_column *columns, size_t count, brim_error *err);
void journal_column_free(journal_column *column);

const char *journal_path(const brim_journal *journal);

#endif
