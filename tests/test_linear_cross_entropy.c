// The loss behind an output projection in chunks: the rule for their size, that it means the same
// as a product and cross entropy, and that no tensor of all logits is left.
#include <check.h>
#include <math.h>
#include <string.h>
#include <brim/brim.h>
#include "autograd/autograd.h"
#include "graph/build.h"
#include "graph/passes.h"
#include "optim/compiled.h"
#include "optim/training_graph.h"
#include "tests/devices.h"
#include "tests/op_case_run.h"
#include "tests/test_core.h"
#include "tests/test_graph.h"

// The rule ----------------------------------------------------------------------------------------

START_TEST(chunks_follow_from_shapes) {
    // 64 MiB of f32 logits, chunks as even as multiples of 128 are
    ck_assert_int_eq(linear_cross_entropy_chunk(2048, 150000), 7936);
    ck_assert_int_eq(linear_cross_entropy_chunk(8192, 50257), 2048);
    ck_assert_int_eq(linear_cross_entropy_chunk(512, 50257), 25216);
    // many tokens: a chunk is not cut below 2048 classes
    ck_assert_int_eq(linear_cross_entropy_chunk(1 << 20, 50257), 2048);
    // all in one
    ck_assert_int_eq(linear_cross_entropy_chunk(2048, 256), 256);
    ck_assert_int_eq(linear_cross_entropy_chunk(1, 150000), 150000);
    ck_assert_int_eq(linear_cross_entropy_chunk(1 << 20, 2048), 2048);
    for (int64_t tokens = 1; tokens < 1 << 20; tokens = tokens * 3 / 2 + 1) {
        for (int64_t classes = 1; classes < 1 << 20; classes = classes * 4 / 3 + 1) {
            int64_t chunk = linear_cross_entropy_chunk(tokens, classes);
            ck_assert(chunk >= 1 && chunk <= classes);
            ck_assert(chunk <= 2048 || tokens * chunk <= 1 << 24);
            ck_assert(chunk == classes || chunk % 128 == 0);
        }
    }
}
END_TEST

static int count_of(const brim_graph *g, op_id op) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++) count += g->node[n].op == op;
    return count;
}

START_TEST(few_logits_are_stored) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 512, 8),
               few = brim_input(g, "few", BRIM_F32, 8192, 8);
    brim_value many = brim_input(g, "many", BRIM_F32, 8193, 8);
    brim_value targets = brim_input(g, "targets", BRIM_I32, 4, 512);
    brim_linear_cross_entropy(x, few, targets, -100);
    ck_assert_int_eq(count_of(g, OP_LINEAR_CROSS_ENTROPY), 0);
    ck_assert_int_eq(count_of(g, OP_CROSS_ENTROPY), 1);
    brim_loss loss = brim_linear_cross_entropy(x, many, targets, -7);
    ck_assert_int_eq(count_of(g, OP_LINEAR_CROSS_ENTROPY), 1);
    ck_assert_int_eq(count_of(g, OP_CROSS_ENTROPY), 1);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_rank(loss.sum), 0);
    const graph_node *node =
        &g->node[g->value[g->node[g->value[loss.sum.id].producer].input[0]].producer];
    ck_assert_int_eq(node->attr.chunked_targets.chunk, linear_cross_entropy_chunk(2048, 8193));
    ck_assert_int_eq(node->attr.chunked_targets.ignore, -7);
    brim_value ids = brim_input(g, "ids", BRIM_I32, 5);
    brim_linear_cross_entropy(brim_reshape(x, 2048, 8), many, targets, -7);
    ASSERT_FAILS(err, BRIM_SHAPE, "the targets' shape is [4, 512], [2048] is expected");
    brim_linear_cross_entropy(brim_input(g, "row", BRIM_F32, 8), many, ids, -7);
    ASSERT_FAILS(err, BRIM_SHAPE, "1 axes, at least 2 are expected");
    brim_linear_cross_entropy(x, brim_constant(g, 1), targets, -7);
    ASSERT_FAILS(err, BRIM_SHAPE, "operand 2 has 0 axes");
    ck_assert_int_eq(brim_rank(loss.count), 0);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    brim_graph_print(g, out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, " = linear_cross_entropy(%0, %2, %3, ignore -7, chunk 4224) "
                                       "[4,512] f32, [4,512] f32\n"));
    free(text);
    brim_linear_cross_entropy(x, many, x, -100);
    ASSERT_REFUSED(BRIM_SHAPE, "linear_cross_entropy: \"x\" [4, 512, 8], \"many\" [8193, 8] and "
                               "\"x\" [4, 512, 8] do not fit: operand 3 is f32, i32 is expected");
    brim_linear_cross_entropy(x, many, targets, 1 << 24);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "one below 2^24");
    FREE_GRAPH;
}
END_TEST

// The meaning -------------------------------------------------------------------------------------

enum { TOKENS = 17, CLASSES = 23, WIDTH = 6, CHUNK = 5, BATCH = 2, LENGTH = 17 };

static brim_loss chunked_loss(brim_value x, brim_value weight, brim_value targets, int64_t chunk) {
    brim_value inputs[] = {x, weight, targets};
    brim_attr attr = {.chunked_targets = {-100, chunk}};
    brim_value losses = graph_op(x.graph, OP_LINEAR_CROSS_ENTROPY, inputs, 3, &attr);
    brim_value counted = brim_ne(targets, graph_constant(x.graph, BRIM_I32, -100));
    return (brim_loss){brim_sum(losses, NULL, 0, false),
                       brim_sum(brim_cast(counted, BRIM_F32), NULL, 0, false)};
}

static brim_loss stored_loss(brim_value x, brim_value weight, brim_value targets) {
    return brim_cross_entropy(brim_matmul_t(x, false, weight, true), targets, -100);
}

// The loss and the gradients of its parameters "x" and "weight", in the oracle and without
// rounding; through the mixed-precision pass where low is no f32.
static void differentiate(bool chunked, brim_dtype low,
                          double out[1 + (TOKENS + CLASSES) * WIDTH]) {
    MAKE_GRAPH;
    const brim_init normal = {BRIM_NORMAL, 1};
    brim_value x = brim_parameter(g, "x", normal, TOKENS, WIDTH);
    brim_value weight = brim_parameter(g, "weight", normal, CLASSES, WIDTH);
    brim_value targets = brim_input(g, "targets", BRIM_I32, TOKENS);
    brim_loss loss =
        chunked ? chunked_loss(x, weight, targets, CHUNK) : stored_loss(x, weight, targets);
    // Tied: the weight is also a table, and the loss is no plain sum.
    brim_value tied = brim_sum(brim_square(brim_gather(weight, targets)), NULL, 0, false);
    loss.sum = brim_add(brim_square(loss.sum), brim_cast(tied, BRIM_F32));
    g->loss.sum = loss.sum.id, g->loss.count = loss.count.id;
    if (low != BRIM_F32) {
        brim_graph *cast = pass_cast(g, low, &err);
        ASSERT_FINE(err);
        brim_graph_free(g);
        g = cast;
    }
    value_id wrt[2] = {0, 1};
    brim_value gradient[2];
    autograd_differentiate(g, graph_value_of(g, g->loss.sum), brim_constant(g, 1), wrt, 2, gradient,
                           &err);
    graph_verify(g, "differentiation", &err);
    ASSERT_FINE(err);
    leaf_values leaves = leaf_values_make(g, NULL, 1, &err);
    for (int i = 0; i < TOKENS; i++) leaves.of[2][i] = (i * 7 + 3) % CLASSES;
    oracle *o = oracle_create(g, &err);
    leaf_values_set(&leaves, o, &err);
    oracle_run(o, &err);
    ASSERT_FINE(err);
    *out++ = o->value[g->loss.sum].data[0];
    for (int i = 0; i < 2; i++) {
        const oracle_tensor *t = &o->value[gradient[i].id];
        ck_assert_int_eq(t->dtype, BRIM_F32);
        memcpy(out, t->data, (size_t)t->count * sizeof *out);
        out += t->count;
    }
    // The weight's gradient is written in f32, not cast to it.
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].op == OP_LINEAR_CROSS_ENTROPY_BACKWARD)
            ck_assert_int_eq(g->value[g->node[n].first_output].dtype, BRIM_F32);
    oracle_free(o);
    leaf_values_free(&leaves);
    FREE_GRAPH;
}

START_TEST(it_is_a_product_and_cross_entropy) {
    static const brim_dtype low[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    double a[1 + (TOKENS + CLASSES) * WIDTH], b[1 + (TOKENS + CLASSES) * WIDTH];
    differentiate(true, low[_i], a);
    differentiate(false, low[_i], b);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        ck_assert_msg(fabs(a[i] - b[i]) <= 1e-11 * (1 + fabs(b[i])), "number %zu: %.17g, %.17g", i,
                      a[i], b[i]);
}
END_TEST

// On a device -------------------------------------------------------------------------------------

enum { TABLE = 301 };

// A bag of two tokens, with tied embeddings.
static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_value table = brim_parameter(g, "table", ((brim_init){BRIM_NORMAL, 0.3f}), TABLE, 24);
    brim_value x = brim_layer_norm(brim_linear(brim_gather(table, tokens), "in", 24), "norm", 0);
    int64_t chunk = *(const int64_t *)user;
    return chunk ? chunked_loss(x, table, targets, chunk) : stored_loss(x, table, targets);
}

typedef struct outcome {
    brim_step_result step[3];
    float table[TABLE * 24];
} outcome;

static void train(int64_t chunk, brim_precision precision, outcome *out) {
    brim_error err = {0};
    brim_trainer_options options = {.batch = BATCH,
                                    .length = LENGTH,
                                    .accumulate = 3,
                                    .precision = precision,
                                    .device = any_device_under_test(),
                                    .seed = 5,
                                    .optimizer = {.kind = BRIM_SGD, .lr = 0.1f}};
    brim_trainer *t = brim_trainer_create(build, &chunk, &options, &err);
    ASSERT_FINE(err);
    for (int step = 0; step < 3; step++) {
        int32_t tokens[3 * BATCH * LENGTH], targets[3 * BATCH * LENGTH];
        for (int i = 0; i < 3 * BATCH * LENGTH; i++) {
            tokens[i] = (i * 37 + step) % TABLE;
            targets[i] = i % 5 == 3 ? -100 : (tokens[i] * 7 + 1) % TABLE;
        }
        brim_trainer_feed(t, "tokens", tokens, sizeof tokens, &err);
        brim_trainer_feed(t, "targets", targets, sizeof targets, &err);
        brim_trainer_step(t, &out->step[step], &err);
        ASSERT_FINE(err);
    }
    brim_trainer_read(t, "table", out->table, TABLE * 24, &err);
    ASSERT_FINE(err);
    brim_trainer_free(t);
}

// Three steps of three micro-batches, in chunks and with all logits stored. What is allowed: the
// roundings of f32; of logits that one of the two stores in 16 bits.
START_TEST(it_trains_alike) {
    static const double allowed[] = {2e-6, 2e-2, 4e-3};
    static const brim_precision precision[] = {BRIM_PRECISION_F32, BRIM_PRECISION_BF16,
                                               BRIM_PRECISION_F16};
    static outcome stored, chunked, again;
    if (!any_device_under_test()) return;
    train(0, precision[_i], &stored);
    train(128, precision[_i], &chunked);
    train(128, precision[_i], &again);
    ck_assert_mem_eq(chunked.table, again.table, sizeof again.table);
    for (int i = 0; i < 3; i++) {
        const brim_step_result *a = &chunked.step[i], *b = &stored.step[i];
        ck_assert(!a->skipped && !b->skipped);
        ck_assert_double_eq(a->targets, b->targets);
        ck_assert_msg(fabs(a->loss - b->loss) <= allowed[_i] * b->loss, "step %d: loss %.9g, %.9g",
                      i, a->loss, b->loss);
        ck_assert_msg(fabs(a->grad_norm - b->grad_norm) <= allowed[_i] * b->grad_norm,
                      "step %d: norm %.9g, %.9g", i, a->grad_norm, b->grad_norm);
    }
    ck_assert_double_lt(chunked.step[2].loss, chunked.step[0].loss);
    double difference = 0, size = 0;
    for (int i = 0; i < TABLE * 24; i++) {
        difference += fabs((double)chunked.table[i] - (double)stored.table[i]);
        size += fabs((double)stored.table[i]);
    }
    ck_assert_msg(difference <= allowed[_i] * size, "parameters differ by %g", difference / size);
}
END_TEST

// Memory ------------------------------------------------------------------------------------------

enum { LARGE_BATCH = 4, LARGE_LENGTH = 512, LARGE_VOCABULARY = 150000, LARGE_WIDTH = 64 };

static brim_loss build_large(brim_graph *g, int64_t batch, int64_t length, void *user) {
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_value table = brim_parameter(g, "wte.weight", ((brim_init){BRIM_NORMAL, 0.02f}),
                                      LARGE_VOCABULARY, LARGE_WIDTH);
    brim_value x = brim_rms_norm(brim_gather(table, tokens), "norm", 0);
    return *(bool *)user ? brim_linear_cross_entropy(x, table, targets, -100)
                         : stored_loss(x, table, targets);
}

static memory_plan plan_large(bool chunked, brim_precision precision, const compile_target *target,
                              compiled *c) {
    brim_error err = {0};
    brim_trainer_options options = {
        .batch = LARGE_BATCH, .length = LARGE_LENGTH, .accumulate = 2, .precision = precision};
    options = training_options(&options, &err);
    brim_graph *g = training_graph(build_large, &chunked, &options, &err);
    ASSERT_FINE(err);
    compiled_plan(c, g, 2, target, &err);
    ASSERT_FINE(err);
    return c->plan;
}

// The transient part of the peak: tables (the 16-bit copy, gradients through the loss and through
// the embedding, their sum), the logits of a chunk with their gradient and what a library wants for
// as many, and some activations.
START_TEST(no_tensor_of_all_logits) {
    const char *name = any_device_under_test();
    if (!name) return;
    brim_precision precision = _i ? BRIM_PRECISION_BF16 : BRIM_PRECISION_F32;
    const int64_t tokens = LARGE_BATCH * LARGE_LENGTH, logits = tokens * LARGE_VOCABULARY;
    const int64_t table = (int64_t)LARGE_VOCABULARY * LARGE_WIDTH * 4;
    const int64_t chunk = tokens * linear_cross_entropy_chunk(tokens, LARGE_VOCABULARY) * 4;
    const int64_t bound = 4 * table + 3 * chunk + 32 * tokens * LARGE_WIDTH * 4;
    ck_assert_int_lt(bound, logits * (_i ? 2 : 4));
    brim_error err = {0};
    const backend *b;
    backend_device *device;
    backend_open(name, &(device_settings){0}, &b, &device, &err);
    ASSERT_FINE(err);
    compile_target target = {.backend = b, .device = device};
    compiled in_chunks = {0}, stored = {0};
    memory_plan plan = plan_large(true, precision, &target, &in_chunks);
    ck_assert_msg(plan.peak_bytes[SPACE_DEVICE] - plan.persistent_bytes[SPACE_DEVICE] <= bound,
                  "%lld bytes beside the parameters, at most %lld are expected",
                  (long long)(plan.peak_bytes[SPACE_DEVICE] - plan.persistent_bytes[SPACE_DEVICE]),
                  (long long)bound);
    for (value_id v = 0; v < in_chunks.graph->values; v++)
        ck_assert_int_lt(shape_elements(&in_chunks.graph->value[v].shape), logits);
    plan = plan_large(false, precision, &target, &stored);
    ck_assert_int_gt(plan.peak_bytes[SPACE_DEVICE] - plan.persistent_bytes[SPACE_DEVICE], bound);
    compiled_free(&in_chunks, b);
    compiled_free(&stored, b);
    b->close(device);
}
END_TEST

Suite *linear_cross_entropy_suite(void) {
    Suite *suite = suite_create("linear_cross_entropy");
    TCase *rule = tcase_create("rule");
    tcase_add_test(rule, chunks_follow_from_shapes);
    tcase_add_test(rule, few_logits_are_stored);
    suite_add_tcase(suite, rule);
    TCase *tests = tcase_create("loss");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, it_is_a_product_and_cross_entropy, 0, 3);
    tcase_add_loop_test(tests, it_trains_alike, 0, 3);
    tcase_add_loop_test(tests, no_tensor_of_all_logits, 0, 2);
    suite_add_tcase(suite, tests);
    return suite;
}
