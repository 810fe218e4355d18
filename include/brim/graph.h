// Static compute graphs.
//
// 1. A script gives a builder; Brim calls it with an empty graph and the sizes to build for.
// 2. The builder makes inputs and parameters, and nests ops: brim_gelu(brim_linear(x, "up", 4 * width)).
// 3. It returns a loss: a sum over target tokens (or samples) and their number. The step divides the one by the other
//    once, so the result does not depend on how a batch is cut into micro-batches, beyond rounding.
//
// No call needs its status checked. The first error sticks to the graph's brim_error with the op, its scope and the
// shapes; every later call on an invalid value returns an invalid value.
//
// All tensors are row-major. Shapes are static, of up to BRIM_MAX_DIMS axes; a scalar has none. A negative axis counts
// from the last one.
#ifndef BRIM_GRAPH_H
#define BRIM_GRAPH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <brim/dtype.h>
#include <brim/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brim_graph brim_graph;

// A value of a graph. Passed by copy; belongs to its graph and is valid as long as that.
typedef struct brim_value {
    brim_graph *graph;
    int32_t id; // negative: invalid, an error has stuck to the graph
} brim_value;

// What a builder returns: a scalar f32 sum of losses, and the scalar f32 number of targets it sums over.
typedef struct brim_loss {
    brim_value sum, count;
} brim_loss;

// Builds the model for `batch` sequences of `length` tokens (a script without sequences ignores length).
typedef brim_loss (*brim_builder)(brim_graph *graph, int64_t batch, int64_t length, void *user);

// A graph reports its errors to `err`, which must outlive it. NULL if memory does not suffice. Scripts that use a
// trainer never call these two.
BRIM_API brim_graph *brim_graph_create(brim_error *err);
BRIM_API void brim_graph_free(brim_graph *graph);

// Prints one line for each value and node.
BRIM_API void brim_graph_print(const brim_graph *graph, FILE *out);

// Scopes prefix the names of parameters: between push "h.3" and pop, "attn.c_attn" is "h.3.attn.c_attn".
BRIM_API void brim_scope_push(brim_graph *graph, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
BRIM_API void brim_scope_pop(brim_graph *graph);

// What a value is. An invalid one has no axes, every extent 1 and is f32, so that a script may compute with them. An axis
// that does not exist is an error.
BRIM_API int brim_rank(brim_value x);
BRIM_API int64_t brim_dim(brim_value x, int axis);
BRIM_API brim_dtype brim_value_dtype(brim_value x);

// Leaves ------------------------------------------------------------------------------------------------------------

// A tensor that the script feeds before each step, by name (names are not scoped).
BRIM_API brim_value brim_input_dims(brim_graph *graph, const char *name, brim_dtype dtype, int rank,
                                    const int64_t *dims);
#define brim_input(graph, name, dtype, ...)                                                        \
    brim_input_dims(graph, name, dtype, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))

// How a parameter starts. Drawn on the host from the trainer's seed and the parameter's name, so neither the device
// nor the order of creation matters.
typedef enum brim_init_kind { BRIM_ZEROS, BRIM_ONES, BRIM_NORMAL, BRIM_UNIFORM } brim_init_kind;
typedef struct brim_init {
    brim_init_kind kind;
    float scale; // NORMAL: standard deviation; UNIFORM: in [-scale, scale)
} brim_init;

// An f32 tensor that training changes, named by scope and name. Asking for a name again returns the same value
// (tied weights; the first call's init counts) and is an error if the shape differs. Names of parameters, inputs,
// outputs and scopes have no blanks, quotes, backslashes or control characters, and fewer than 256 bytes.
BRIM_API brim_value brim_parameter_dims(brim_graph *graph, const char *name, brim_init init,
                                        int rank, const int64_t *dims);
#define brim_parameter(graph, name, init, ...)                                                     \
    brim_parameter_dims(graph, name, init, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))

// A scalar constant, f32; beside an operand of another dtype it takes on that. Neither NaN nor too large for its dtype.
BRIM_API brim_value brim_constant(brim_graph *graph, double value);

// Elementwise, with numpy's broadcasting ----------------------------------------------------------------------------
//
// Operands of one op have one dtype; brim_cast changes it. neg, abs, add, sub, mul, maximum, minimum, comparisons and
// where also take i32, computed in f32: exact as long as operands and result lie within +-2^24.

BRIM_API brim_value brim_add(brim_value a, brim_value b);
BRIM_API brim_value brim_sub(brim_value a, brim_value b);
BRIM_API brim_value brim_mul(brim_value a, brim_value b);
BRIM_API brim_value brim_div(brim_value a, brim_value b);
BRIM_API brim_value brim_scale(brim_value a, double factor);
BRIM_API brim_value brim_neg(brim_value a);
BRIM_API brim_value brim_abs(brim_value a);
BRIM_API brim_value brim_exp(brim_value a);
BRIM_API brim_value brim_log(brim_value a);
BRIM_API brim_value brim_sqrt(brim_value a);
BRIM_API brim_value brim_rsqrt(brim_value a);
BRIM_API brim_value brim_square(brim_value a);
BRIM_API brim_value brim_pow(brim_value a, double exponent);
BRIM_API brim_value brim_tanh(brim_value a);
BRIM_API brim_value brim_sigmoid(brim_value a);
BRIM_API brim_value brim_relu(brim_value a);
BRIM_API brim_value brim_gelu(brim_value a);     // tanh form
BRIM_API brim_value brim_gelu_erf(brim_value a); // exact form
BRIM_API brim_value brim_silu(brim_value a);
BRIM_API brim_value brim_clamp(brim_value a, double low, double high);
BRIM_API brim_value brim_is_finite(brim_value a);
BRIM_API brim_value brim_maximum(brim_value a, brim_value b);
BRIM_API brim_value brim_minimum(brim_value a, brim_value b);
// Comparisons give 1 or 0 in the dtype of their operands.
BRIM_API brim_value brim_lt(brim_value a, brim_value b);
BRIM_API brim_value brim_le(brim_value a, brim_value b);
BRIM_API brim_value brim_gt(brim_value a, brim_value b);
BRIM_API brim_value brim_ge(brim_value a, brim_value b);
BRIM_API brim_value brim_eq(brim_value a, brim_value b);
BRIM_API brim_value brim_ne(brim_value a, brim_value b);
// The condition may have any dtype: 0 is false.
BRIM_API brim_value brim_where(brim_value condition, brim_value if_true, brim_value if_false);
BRIM_API brim_value brim_cast(brim_value a, brim_dtype dtype);

// Shapes ------------------------------------------------------------------------------------------------------------

// One extent may be -1: it follows from the others.
BRIM_API brim_value brim_reshape_dims(brim_value a, int rank, const int64_t *dims);
#define brim_reshape(a, ...)                                                                       \
    brim_reshape_dims(a, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))
// Output axis i is input axis axes[i].
BRIM_API brim_value brim_permute_axes(brim_value a, int rank, const int64_t *axes);
#define brim_permute(a, ...)                                                                       \
    brim_permute_axes(a, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))
BRIM_API brim_value brim_broadcast_dims(brim_value a, int rank, const int64_t *dims);
#define brim_broadcast(a, ...)                                                                     \
    brim_broadcast_dims(a, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))
// Elements start .. start + extent - 1 of one axis.
BRIM_API brim_value brim_slice(brim_value a, int axis, int64_t start, int64_t extent);
BRIM_API brim_value brim_concat(const brim_value *parts, int count, int axis);

// Contractions and reductions ---------------------------------------------------------------------------------------

// op(a) op(b) over the last two axes; leading axes broadcast. a: [.., M, K] or, transposed, [.., K, M].
BRIM_API brim_value brim_matmul(brim_value a, brim_value b);
BRIM_API brim_value brim_matmul_t(brim_value a, bool transpose_a, brim_value b, bool transpose_b);

// Over the axes listed; none listed means all. `keep` leaves them with extent 1. Results of sum and mean are f32.
BRIM_API brim_value brim_sum(brim_value a, const int *axes, int count, bool keep);
BRIM_API brim_value brim_mean(brim_value a, const int *axes, int count, bool keep);
BRIM_API brim_value brim_max(brim_value a, const int *axes, int count, bool keep);

// Rows and sequences ------------------------------------------------------------------------------------------------

// Along one axis; results are f32.
BRIM_API brim_value brim_softmax(brim_value a, int axis);
BRIM_API brim_value brim_log_softmax(brim_value a, int axis);
// Over the last axis; gain and bias are [C].
BRIM_API brim_value brim_layer_norm_with(brim_value x, brim_value gain, brim_value bias, double eps);
BRIM_API brim_value brim_rms_norm_with(brim_value x, brim_value gain, double eps);

// table [V, C], ids i32 of any shape: [.., C].
BRIM_API brim_value brim_gather(brim_value table, brim_value ids);

typedef struct brim_attention_options {
    bool bidirectional;  // every token sees every token; the default is causal
    float scale;         // 0: 1 / sqrt(head size)
    brim_value segments; // optional i32 [B, T]: tokens see only tokens with the same number
} brim_attention_options;

// q [B, T, H, D]; k and v [B, S, G, D] with H a multiple of G; D up to 256. Result like q. With S != T, causal means
// that query i sees keys up to i + S - T.
BRIM_API brim_value brim_attention(brim_value q, brim_value k, brim_value v,
                                   const brim_attention_options *options);

// x [B, T, H, D] with D even: element i turns with element i + D/2 by the angle position * base^(-2 i / D).
// positions: i32 [B, T], or an invalid value ((brim_value){0}) for 0 .. T-1.
BRIM_API brim_value brim_rotary(brim_value x, double base, brim_value positions);

// Angles for a longer context than a model was first trained on, as Llama 3.1 has them ("rope_type": "llama3"). A pair
// that makes fewer than `low` turns in `length` tokens turns slower by `factor`, one that makes more than `high` as ever;
// in between, the share of its own speed rises evenly.
typedef struct brim_rotary_scaling {
    double factor; // 0: not scaled
    double low, high, length;
} brim_rotary_scaling;
BRIM_API brim_value brim_rotary_scaled(brim_value x, double base, const brim_rotary_scaling *scaling,
                                       brim_value positions);

// Zeroes each element with probability p and divides the rest by 1 - p; the identity in evaluation.
BRIM_API brim_value brim_dropout(brim_value x, double p);

// Losses ------------------------------------------------------------------------------------------------------------

// logits [.., V], targets i32 [..]. Targets equal to `ignore` (by convention -100; magnitude below 2^24) count nowhere.
BRIM_API brim_loss brim_cross_entropy(brim_value logits, brim_value targets, int32_t ignore);
// The same of the logits x weight^T: x [.., D], weight [V, D], targets i32 [..], and no tensor of all tokens' logits,
// forward or backward, where V is large: they are made for a chunk of the V classes at a time, in f32, and once more for
// the gradients. The chunk's size follows from the shapes: at most 2^24 logits (64 MiB), or 2048 classes where there are
// more than 2^13 tokens. Where all logits are no more than that, this is brim_cross_entropy of brim_matmul_t.
BRIM_API brim_loss brim_linear_cross_entropy(brim_value x, brim_value weight, brim_value targets,
                                             int32_t ignore);
// Squared differences of two values of one shape; the count is the number of elements, so the step's loss is their mean.
BRIM_API brim_loss brim_mse(brim_value prediction, brim_value target);

// Names a value, so that programs other than training can ask for it (for example "logits" for sampling). Each name is
// given once.
BRIM_API void brim_output(brim_value x, const char *name);

// Memory of the backward pass ---------------------------------------------------------------------------------------

// Keeps x for the backward pass, and has it compute again what leads to x from the marked values, graph inputs and
// parameters before it, instead of keeping that too. Marked at the end of each block, a model keeps one tensor a block and,
// at any time, the insides of one block: torch.utils.checkpoint around each block. Returns x; shapes, dtypes and all
// results, bit for bit, are as without.
//
// Cost: the nodes between two marks run twice in a step, never more often. Not run twice: what comes behind the last mark,
// what depends on parameters alone, and the op that makes x (marked after an attention, the attention itself is not
// computed again). A marked view (a reshape, slice ...) keeps all of what it is a view of. Marking a leaf, or one value twice,
// changes nothing; nor do marks in programs without a backward pass.
BRIM_API brim_value brim_checkpoint(brim_value x);

// Dimension lists for the macros above.
#ifdef __cplusplus
} // extern "C"
#include <initializer_list>
#define BRIM_DIMS(...) (std::initializer_list<int64_t>{__VA_ARGS__}.begin())
#define BRIM_COUNT_DIMS(...) ((int)std::initializer_list<int64_t>{__VA_ARGS__}.size())
#else
#define BRIM_DIMS(...) ((const int64_t[]){__VA_ARGS__})
#define BRIM_COUNT_DIMS(...) ((int)(sizeof(BRIM_DIMS(__VA_ARGS__)) / sizeof(int64_t)))
#endif

#endif
