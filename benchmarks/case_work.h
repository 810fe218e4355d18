// What an op case has to do at least: bytes read and written once, and floating-point operations.
#ifndef BRIM_BENCHMARKS_CASE_WORK_H
#define BRIM_BENCHMARKS_CASE_WORK_H

#include "benchmarks/ceilings.h"
#include "graph/cost.h"

typedef struct case_work {
    double bytes;
    double flops;         // of matrix products, linear_cross_entropy and attention (the causal half); else 0
    host_product product; // where the case is one matrix product; else m is 0
} case_work;

// Of all nodes that make `result`: leaves are read, outputs of the last node are written.
case_work case_work_of(const brim_graph *g, value_id result);

#endif
