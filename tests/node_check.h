// Holds all values that a device computed against the oracle, node by node: each from the inputs
// that the device itself had, so that an error is never another op's.
#ifndef BRIM_TESTS_NODE_CHECK_H
#define BRIM_TESTS_NODE_CHECK_H

#include "tests/op_case_run.h"

typedef struct node_difference {
    const graph_node *node;
    value_id value;
    int output;
    const oracle_tensor *expected;
    int64_t wrong, first; // how many elements differ, and where the first of them is
    double device;        // what is there
} node_difference;

typedef struct node_check {
    const brim_graph *graph;
    const leaf_values *leaves;
    void *const *of;        // by value id: the device's elements; NULL: that node is not looked at
    int32_t values;         // of `of`
    bool later_micro_batch; // accumulators hold something already
    // A sum of n terms one after the other is off by up to n - 1 units of all its terms' sizes
    // (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), and by as much where it is one
    // number n times. The oracle's constant is for roundings that have nothing to do with each
    // other. Set: products are allowed what can be proved.
    bool long_sums;
    void (*differs)(const node_difference *d, void *user);
    void *user;
    // Added to:
    int64_t elements;
    int64_t loose;          // of them: as much is allowed as a sixteenth of the tensor's largest
    int64_t not_finite;     // of them, in the oracle
    double worst[OP_COUNT]; // by op: the largest error, as a part of what is allowed
} node_check;

brim_status node_check_run(node_check *c, brim_error *err);

// "output 0 of exp (value 7, f32 [3, 5]): 2 of 15 elements; element 3 is 1.5, 1 +- 1e-07 expected"
void node_difference_print(const node_difference *d, char *text, size_t size);

// Bit for bit, but for which NaN it is: that depends on the order in which a compiler leaves
// operands.
bool node_check_same_bits(brim_dtype dtype, const void *a, const void *b, int64_t count);

#endif
