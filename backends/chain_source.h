// The generator of elementwise kernels: one kernel for a chain, from the expressions in op.def.
//
// The kernel walks an iteration space of `dims` axes, the last one in vectors. Extents and strides
// are its arguments, so that one kernel serves every shape of the same form. In the order of its
// arguments (see chain_source.c for an example):
//   buffers of the inputs, then of the outputs
//   int tasks, int per_item, int block, long inner
//       a task is `block` elements of the last axis; each work-item does per_item of them
//   dims > 1: int count, int extents of axes 1 .. dims-2
//       count: blocks of one row; number of rows with rows_first
//   for each operand: int strides of axes 0 .. dims-2 (not for WALK_SCALAR), and of the last axis
//       for WALK_STRIDED
#ifndef BRIM_BACKENDS_CHAIN_SOURCE_H
#define BRIM_BACKENDS_CHAIN_SOURCE_H

#include "core/strbuf.h"
#include "graph/graph.h"

// How an operand moves along the last axis.
typedef enum operand_walk {
    WALK_DENSE,   // stride 1
    WALK_ROW,     // stride 0: one element for each row
    WALK_STRIDED, // any other
    WALK_SCALAR   // stride 0 along every axis
} operand_walk;

enum { CHAIN_ENTRY_BYTES = 64 };

typedef struct chain_form {
    const chain *chain;
    int dims, inputs;
    bool rows_first; // tasks go through all rows before the next block of columns: strided operands
                     // then find in the cache what the row before has fetched
    const brim_dtype *dtype; // of the inputs, then the outputs
    const operand_walk *walk;
} chain_form;

// Writes the kernel's text, and its entry's name: "chain_add_gelu".
void chain_source(const chain_form *form, strbuf *source, char entry[CHAIN_ENTRY_BYTES]);

#endif
