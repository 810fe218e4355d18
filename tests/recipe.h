// Recipes of graphs: plain lists of decisions, which can be drawn (random_graph.h), made smaller
// (recipe_shrink.h), printed, read back, and always come to the same graph.
//
// 1. recipe_graph made;  recipe_build(&r, &made, &err);          the graph, with a backward pass
// 2. leaf_values leaves = recipe_fill(&r, &made, micro_batch, &err);            what is fed to it
// 3. recipe_graph_free(&made);
//
// Every value that nothing reads takes part in a loss, multiplied by an input of its own shape, so
// that all of a recipe counts. A plain recipe is differentiated with respect to all of its float
// leaves; a training one becomes a whole training step with the precision, the optimizer and the
// micro-batches that the recipe names.
#ifndef BRIM_TEST_RECIPE_H
#define BRIM_TEST_RECIPE_H

#include "graph/graph.h"
#include "tests/op_case_run.h"

typedef enum recipe_kind {
#define STEP(name, operands, extents, expression) STEP_##name,
#include "tests/recipe_steps.def"
#undef STEP
    STEP_COUNT
} recipe_kind;

enum { RECIPE_STEPS = 96, RECIPE_OPERANDS = 4, RECIPE_NUMBERS = 10 };

typedef struct recipe_step {
    recipe_kind kind;
    int x[RECIPE_OPERANDS];    // earlier steps
    int64_t n[RECIPE_NUMBERS]; // as the kind's row says
} recipe_step;
// The numbers of a leaf; extents follow.
enum { LEAF_DTYPE, LEAF_FILL, LEAF_ARGUMENT, LEAF_RANK, LEAF_EXTENTS };

// X(name, meaning): numbers; zero is the simplest choice.
#define RECIPE_OPTIONS(X)                                                                          \
    X(seed, "of the numbers that are fed")                                                         \
    X(training, "1: a training step; 0: gradients of all leaves")                                  \
    X(precision, "brim_precision of the step")                                                     \
    X(copies, "1: compute copies are variables")                                                   \
    X(sgd, "1: SGD instead of AdamW")                                                              \
    X(q8, "1: states as 8-bit blocks")                                                             \
    X(clip, "1: by the global norm")                                                               \
    X(more_micro_batches, "of the step, beside one")                                               \
    X(recompute, "seed of what is computed again in the second run; 0: nothing")                   \
    X(fused, "1: chains are fused in the second run")                                              \
    X(setup, "how the device is driven: see graph_setups")

typedef struct recipe {
#define X(name, meaning) int64_t name;
    RECIPE_OPTIONS(X)
#undef X
    int steps;
    recipe_step step[RECIPE_STEPS];
} recipe;

typedef struct recipe_row {
    const char *name;
    int operands;
    uint32_t extents;
    const char *expression;
    brim_value (*make)(const brim_value *x, const int64_t *n);
} recipe_row;
extern const recipe_row recipe_rows[STEP_COUNT];

// Makes step i in g from the values of earlier steps.
brim_value recipe_make_step(const recipe *r, int i, brim_graph *g, const brim_value *value);

typedef struct recipe_graph {
    brim_graph *graph;
    bool *end; // by value id: what a user sees; results and gradients, and variables
    // Of a plain recipe:
    brim_value loss;
    value_id leaf[RECIPE_STEPS], gradient[RECIPE_STEPS]; // by step; -1: none
} recipe_graph;

// An error: the recipe is no valid graph, which only recipes that were changed may be.
brim_status recipe_build(const recipe *r, recipe_graph *out, brim_error *err);
void recipe_graph_free(recipe_graph *made);

// Numbers of all leaves for a micro-batch; variables have the same in each.
leaf_values recipe_fill(const recipe *r, const brim_graph *g, int micro_batch, brim_error *err);

// One line: "fused=1 seed=7; input 0 0 0 2 3 5; exp %0". Returns buffer.
char *recipe_print(const recipe *r, char *buffer, size_t size);
enum { RECIPE_TEXT = 8192 };
// False where that is no recipe.
bool recipe_read(const char *text, recipe *out);
// A C program that makes the graph and prints it.
void recipe_print_program(const recipe *r, FILE *out);

#endif
