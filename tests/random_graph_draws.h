// Inside random_graph.h: a recipe as it is drawn, and what the draws share.
#ifndef BRIM_TEST_RANDOM_GRAPH_DRAWS_H
#define BRIM_TEST_RANDOM_GRAPH_DRAWS_H

#include "tests/op_cases.h"
#include "tests/random_graph.h"

// What is known of a step's value.
typedef struct drawn {
    shape shape;
    brim_dtype dtype;
    double low, high;
    bool viewed; // its elements are not in row-major order
} drawn;

typedef struct drawer {
    const random_graph_kind *kind;
    recipe *r;
    uint64_t random;
    brim_graph *g;
    brim_error err;
    brim_dtype dtype; // of most leaves
    brim_value value[RECIPE_STEPS];
    drawn of[RECIPE_STEPS];
} drawer;

#define DRAW_MOST 16.0 // that a value may come to without being squashed

int64_t draw_below(drawer *d, int64_t n);
bool draw_one_in(drawer *d, int64_t n);
brim_dtype draw_low(drawer *d); // a 16-bit type

// Steps. All functions return a step's index.
recipe_step draw_step_of(recipe_kind kind, int a, int b, int c);
// Appends a step whose value lies within [low, high].
int draw_push(drawer *d, recipe_step s, double low, double high);
int draw_unary_step(drawer *d, recipe_kind kind, int x, double low, double high);
int draw_cast_to(drawer *d, int x, brim_dtype dtype);
int draw_shifted(drawer *d, int x, int eighths);
int draw_slice_of(drawer *d, int x, int axis, int64_t start, int64_t extent);
// For elementwise readers: where forms are few, dense.
int draw_dense(drawer *d, int x);
// Values as they are, or as something within bounds of theirs: of DRAW_MOST, of at least 1/8 or so.
int draw_squashed(drawer *d, int x);
int draw_positive(drawer *d, int x);

// Leaves. A weight is a parameter, in the type that its readers want.
int draw_float_leaf(drawer *d, brim_dtype dtype, const shape *s);
int draw_weight(drawer *d, brim_dtype dtype, const shape *s);
int draw_integer_leaf(drawer *d, op_case_fill_kind fill, int64_t argument, const shape *s);
int64_t draw_extent(drawer *d, int64_t limit);
shape draw_shape(drawer *d, int least, int largest);

// A float value of that rank or more, recent ones rather than others, or a new leaf.
int draw_any_float(drawer *d, int least);
bool draw_fits(const drawer *d, double elements);
double draw_size_of(const drawer *d, int x);
int64_t draw_elements(const drawer *d, int x);

// The draws: each adds some steps, or none where what it was to work on does not suit it.
void draw_unary(drawer *d);
void draw_with_constants(drawer *d);
void draw_binary(drawer *d);
void draw_where(drawer *d);
void draw_cast(drawer *d);
void draw_integers(drawer *d);
void draw_reshape(drawer *d);
void draw_permute(drawer *d);
void draw_broadcast(drawer *d);
void draw_slice(drawer *d);
void draw_concat(drawer *d);
void draw_checkpoint(drawer *d);
void draw_matmul(drawer *d);
void draw_gram(drawer *d);
void draw_reduction(drawer *d);
void draw_softmax(drawer *d);
void draw_norm(drawer *d);
void draw_cross_entropy(drawer *d);
void draw_linear_cross_entropy(drawer *d);
void draw_mse(drawer *d);
void draw_gather(drawer *d);
void draw_attention(drawer *d);
void draw_dropout(drawer *d);

#endif
