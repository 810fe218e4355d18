// Cases of every op, for tests (against the oracle, on each device) and for benchmarks: one list,
// op_cases.def.
//
//   1. const op_case *c = &op_cases[i];                     what, for which dtypes and uses
//   2. op_case_graph made;  op_case_build(c, graph, dtype, &made);     leaves and result in a graph
//   3. double *x = ...;     op_case_fill(&made.leaf[k], seed, x);      numbers that the leaf's
//   dtype can hold
#ifndef BRIM_TESTS_OP_CASES_H
#define BRIM_TESTS_OP_CASES_H

#include "graph/graph.h"

enum { OP_CASE_TEST = 1, OP_CASE_BENCH = 2 };
enum { OP_CASE_LEAVES = 12 };

// What a leaf is filled with. Written in op_cases.def after its shape: "7x33:pos", "65:below=100".
// X(enumerator, word, smooth: differences may be taken around it, meaning)
#define OP_CASE_FILLS(X)                                                                           \
    X(NORMAL, normal, true, "normal numbers (where nothing is said)")                              \
    X(UNIT, unit, true, "uniform in (-1, 1)")                                                      \
    X(POSITIVE, pos, true, "uniform in (0.25, 2)")                                                 \
    X(AWAY, away, true, "normal, at least 0.1 away from every multiple of 1/2")                    \
    X(DISTINCT, distinct, true, "all different, within a leaf and between the leaves of a case")   \
    X(VALUE, value, true, "one number: value=0.5")                                                 \
    X(TIES, ties, false, "small integers, so that many are equal")                                 \
    X(WIDE, wide, false, "magnitudes from 2^-12 to 2^12")                                          \
    X(SPECIAL, special, false, "infinities, NaN, zeros of both signs, subnormals, the largest")    \
    X(BELOW, below, true, "integers from 0 to below N: below=100")                                 \
    X(TARGETS, targets, true, "the same, one in four of them -100")                                \
    X(OUTSIDE, outside, false, "the same, some of them negative or N and above")                   \
    X(SEGMENTS, segments, true, "integers that rise now and then along the last axis")

typedef enum op_case_fill_kind {
#define X(id, word, smooth, meaning) OP_CASE_FILL_##id,
    OP_CASE_FILLS(X)
#undef X
} op_case_fill_kind;

// A leaf: role from ":param", ":state", ":copy" or ":acc", else an input; dtype i32 for integers,
// f32 with ":f32" and for variables other than copies, i32 with ":i32", else that of the case.
typedef struct op_case_leaf {
    value_role role;
    brim_dtype dtype;
    shape shape;
    op_case_fill_kind fill;
    double argument;
    int number; // among the case's leaves
} op_case_leaf;

typedef struct op_case {
    op_id op;
    const char *name;
    uint32_t uses;   // OP_CASE_TEST, OP_CASE_BENCH
    uint32_t dtypes; // bit 1 << BRIM_F32 ...
    const char *leaves;
    brim_value (*build)(const brim_value *x);
} op_case;

typedef struct op_case_graph {
    int leaves;
    op_case_leaf leaf[OP_CASE_LEAVES];
    brim_value x[OP_CASE_LEAVES];
    brim_value result;
    bool smooth; // differences may be taken
} op_case_graph;

extern const op_case op_cases[];
extern const int op_case_count;

// Makes the leaves and the case's node or nodes; a graph may hold many cases. Errors stick to the
// graph.
bool op_case_build(const op_case *c, brim_graph *g, brim_dtype dtype, op_case_graph *out);

// Reproducible numbers, each one that the leaf's dtype holds.
void op_case_fill(const op_case_leaf *leaf, uint32_t seed, double *out);

// Adds sum(result * cotangent) as the loss, the cotangent being one more input, and
// differentiates with respect to each float leaf; gradient[i] is invalid where there is none.
// Returns false with an error stuck.
bool op_case_differentiate(op_case_graph *made, brim_value *cotangent, brim_value *loss,
                           brim_value *gradient);

// "matmul/nt bf16"
const char *op_case_title(const op_case *c, brim_dtype dtype, char *buffer, size_t size);

#endif
