// Checks op cases on a device against the oracle.
//
// All cases of an op in one dtype make one program. In a first run every value of the graph is
// handed back, and each node's outputs are compared with what the oracle makes of the inputs that
// the device itself had: an error is never another op's. In a second run, with fusion and with
// storages that are used again, the results and gradients must have the same bits.
#ifndef BRIM_TESTS_OP_CHECK_H
#define BRIM_TESTS_OP_CHECK_H

#include "tests/harness.h"

typedef struct op_check_report {
    int cases, failures;
    int64_t elements;       // compared
    double worst[OP_COUNT]; // by op of the node: the largest error, as a part of what is allowed
    char text[4000];        // a line for each failure, as many as fit
} op_check_report;

// Adds to the report. An error (of compiling, lowering, ...) is a failure of the cases it concerns.
void op_check(harness *h, op_id op, brim_dtype dtype, op_check_report *report);
// The same for cases of the caller's choice, of any op: at most OP_CHECK_CASES.
enum { OP_CHECK_CASES = 64 };
void op_check_cases(harness *h, const op_case *const *cases, int count, brim_dtype dtype,
                    op_check_report *report);
// The same for one case, in a program of its own.
void op_check_case(harness *h, const op_case *c, brim_dtype dtype, op_check_report *report);

#endif
