// Where a program's time goes: the seconds of its records, gathered by what they do, each beside
// the time that the machine's ceilings would allow.
#ifndef BRIM_BENCHMARKS_BREAKDOWN_H
#define BRIM_BENCHMARKS_BREAKDOWN_H

#include "benchmarks/report.h"
#include "optim/compiled.h"

// The floor of a matrix product is its operations at product_rate, that of attention at half of it,
// and that of all else its bytes (read and written once) at copy_rate.
typedef struct ceiling_rates {
    double copy, product; // bytes and operations a second
} ceiling_rates;

typedef struct breakdown_row {
    char what[80];
    double seconds, bytes, flops, floor;
    int32_t launches;
} breakdown_row;

typedef struct breakdown {
    breakdown_row *row; // the longest first
    int32_t rows;
    double seconds, floor; // of all
} breakdown;

// record[i] is how long record i took in the whole step, runs[i] how often it ran.
brim_status breakdown_make(const compiled *c, const double *record, const int32_t *runs,
                           ceiling_rates ceilings, breakdown *out, brim_error *err);
void breakdown_free(breakdown *b);
void breakdown_print(const breakdown *b);
void breakdown_report(const breakdown *b, report *r);

#endif
