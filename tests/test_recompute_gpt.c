// A GPT with and without recomputation: memory, the order of execution, and bits on a device.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "graph/pass_recompute.h"
#include "optim/training_graph.h"
#include "sandbox.h"
#include "test_graph.h"
#include "tests/devices.h"
#include "tests/harness.h"
#include "tests/planned.h"

// A GPT -------------------------------------------------------------------------------------------

typedef struct model {
    int64_t layers, width, heads, vocabulary;
    double dropout;
    bool marked; // at the end of each block
} model;

static brim_loss build_gpt(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const model *m = user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_value x = brim_embedding(tokens, "wte", m->vocabulary, m->width, (brim_init){0});
    for (int i = 0; i < m->layers; i++) {
        brim_scope_push(g, "h.%d", i);
        // Each kind of block in turn.
        brim_self_attention_options o = {.dropout = m->dropout, .rotary_base = i % 2 ? 100 : 0};
        brim_value h = i % 2 ? brim_rms_norm(x, "ln_1", 0) : brim_layer_norm(x, "ln_1", 0);
        x = brim_add(x, brim_self_attention(h, "attn", m->heads, &o));
        h = brim_linear(brim_layer_norm(x, "ln_2", 0), "up", 4 * m->width);
        h = brim_linear(i % 2 ? brim_silu(h) : brim_gelu(h), "down", m->width);
        x = brim_add(x, brim_dropout(h, m->dropout));
        brim_scope_pop(g);
        if (m->marked) x = brim_checkpoint(x);
    }
    return brim_cross_entropy(brim_linear(brim_layer_norm(x, "ln_f", 0), "head", m->vocabulary),
                              targets, -100);
}

enum { BATCH = 2, LENGTH = 24, VOCABULARY = 17, STEPS = 3, MOST_MICRO = 3 };

static brim_trainer_options options_of(brim_precision precision, int64_t accumulate) {
    return (brim_trainer_options){.batch = BATCH,
                                  .length = LENGTH,
                                  .accumulate = accumulate,
                                  .precision = precision,
                                  .seed = 7,
                                  .optimizer = {.lr = 0.01f, .weight_decay = 0.1f, .clip = 0.5f}};
}

// The program of a graph without a backward pass, as text.
static char *forward_text(model m) {
    brim_error err = {0};
    planned p;
    brim_graph *g = forward_graph(build_gpt, &m, BATCH, LENGTH, false, BRIM_PRECISION_BF16, &err);
    ASSERT_FINE(err);
    planned_make(&p, g, 1, true, &err);
    char *text = graph_text(p.g);
    planned_free(&p);
    return text;
}

START_TEST(marks_do_nothing_forward) {
    model m = {2, 24, 2, VOCABULARY, 0.1, false};
    char *without = forward_text(m);
    m.marked = true;
    char *with = forward_text(m);
    ck_assert_str_eq(without, with);
    free(without);
    free(with);
}
END_TEST

// Memory ------------------------------------------------------------------------------------------

enum {
    PLAN_BATCH = 4,
    PLAN_LENGTH = 64,
    PLAN_WIDTH = 48,
    STREAM = PLAN_BATCH * PLAN_LENGTH * PLAN_WIDTH // elements of [B, T, C]
};

static int count_products(const brim_graph *g, bool recomputed) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++)
        count += g->node[n].op == OP_MATMUL && g->node[n].recomputed == recomputed;
    return count;
}

// Each block runs again when the gradient has come to its end, and not before.
static void check_blocks_run_late(const planned *p, int64_t layers) {
    for (int64_t block = 0; block < layers; block++) {
        char scope[16], behind[16];
        snprintf(scope, sizeof scope, "h.%d", (int)block);
        snprintf(behind, sizeof behind, "h.%d.ln_1", (int)block + 1);
        bool last = block == layers - 1, arrived = last;
        for (int32_t i = 0; i < p->schedule.count; i++) {
            const graph_node *node = &p->g->node[p->schedule.order[i]];
            bool norm = node->op == OP_LAYER_NORM_BACKWARD || node->op == OP_RMS_NORM_BACKWARD;
            arrived |= norm && strcmp(node->scope, last ? "ln_f" : behind) == 0;
            bool inside = strncmp(node->scope, scope, strlen(scope)) == 0 && node->recomputed;
            ck_assert_msg(!inside || arrived, "%s runs again before its gradient is there", scope);
        }
    }
}

// Between marks, what is cheap. (Without them, the sums of all blocks would run again at once, as
// each comes from the one before.)
static void choose_cheap(const brim_graph *g, bool *recompute) {
    brim_error err = {0};
    recompute_marked(g, recompute, &err);
    ASSERT_FINE(err);
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].producer >= 0)
            recompute[v] &= recompute_cost_of(&g->node[g->value[v].producer]) <= RECOMPUTE_CHEAP;
}

typedef enum plan_way { PLAIN, MARKED, CHEAP } plan_way;

// Bytes of all transient storages at the peak.
static int64_t plan_gpt(int64_t layers, brim_precision precision, plan_way way) {
    brim_error err = {0};
    model m = {layers, PLAN_WIDTH, 4, VOCABULARY, 0.1, way != PLAIN};
    brim_trainer_options o = options_of(precision, 2); // gradients are in accumulators
    o.batch = PLAN_BATCH;
    o.length = PLAN_LENGTH;
    o = training_options(&o, &err);
    brim_graph *g = training_graph(build_gpt, &m, &o, &err);
    ASSERT_FINE(err);
    planned p;
    planned_make_chosen(&p, g, 2, true, way == CHEAP ? choose_cheap : NULL, &err);
    p.request.workspace = NULL;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    if (way != PLAIN) check_blocks_run_late(&p, layers);
    // Of a block's four products the last makes what is marked, and nothing else reads it. The head
    // has one, and each of them two derivatives.
    ck_assert_int_eq(count_products(p.g, true), way == MARKED ? 3 * (int)layers : 0);
    ck_assert_int_eq(count_products(p.g, false), 3 * (4 * (int)layers + 1));
    int64_t bytes = p.plan.peak_bytes[SPACE_DEVICE] - p.plan.persistent_bytes[SPACE_DEVICE];
    planned_free(&p);
    return bytes;
}

// What each further block adds to the peak, in tensors [B, T, C] (in 16 bits, the compute copies of
// its weights apart): with marks one; where only what is cheap runs again, what its products and
// its attention make, which is 3 + 1 + 1 + 4 + 1.
START_TEST(a_block_costs_one_tensor) {
    int64_t element = _i == BRIM_PRECISION_F32 ? 4 : 2, stream = STREAM * element;
    int64_t copies = element == 4 ? 0 : (12 * PLAN_WIDTH * PLAN_WIDTH + 9 * PLAN_WIDTH) * element;
    int64_t before[3] = {0};
    for (int64_t layers = 2; layers <= 8; layers *= 2) {
        double tensors[3];
        for (plan_way way = PLAIN; way <= CHEAP; way++) {
            int64_t bytes = plan_gpt(layers, (brim_precision)_i, way);
            tensors[way] = (double)(bytes - before[way]) / (double)(layers / 2) - (double)copies;
            tensors[way] /= (double)stream;
            before[way] = bytes;
        }
        if (layers == 2) continue;
        ck_assert_double_le(tensors[MARKED], 1.05);
        ck_assert_double_ge(tensors[PLAIN], 17);
        ck_assert_double_le(tensors[CHEAP], 10.3);
    }
}
END_TEST

// Devices -----------------------------------------------------------------------------------------

static brim_error err;

static void fill_tokens(int32_t *out, int count, int step, int factor) {
    for (int i = 0; i < count; i++) out[i] = (i * factor + step * 5 + i * i % 3) % VOCABULARY;
}

static brim_trainer *start(const brim_trainer_options *o, model *m) {
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build_gpt, m, o, &err);
    ASSERT_FINE(err);
    return t;
}

static void take_step(brim_trainer *t, int64_t accumulate, int step, brim_step_result *result) {
    int32_t tokens[MOST_MICRO * BATCH * LENGTH], targets[MOST_MICRO * BATCH * LENGTH];
    int count = (int)accumulate * BATCH * LENGTH;
    fill_tokens(tokens, count, step, 3);
    fill_tokens(targets, count, step, 7);
    targets[3] = -100;
    brim_trainer_feed(t, "tokens", tokens, (size_t)count * sizeof *tokens, &err);
    brim_trainer_feed(t, "targets", targets, (size_t)count * sizeof *targets, &err);
    brim_trainer_step(t, result, &err);
    ASSERT_FINE(err);
}

static void compare_parameters(brim_trainer *a, brim_trainer *b) {
    brim_tensor_info info;
    int compared = 0;
    for (int i = 0; brim_trainer_tensor_info(a, i, &info); i++, compared++) {
        size_t count = (size_t)info.elements;
        float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
        brim_trainer_read(a, info.name, x, count, &err);
        brim_trainer_read(b, info.name, y, count, &err);
        ASSERT_FINE(err);
        ck_assert_msg(memcmp(x, y, count * sizeof *x) == 0, "%s differs", info.name);
        free(x);
        free(y);
    }
    ck_assert_int_gt(compared, 20);
}

START_TEST(training_has_the_same_bits) {
    static const int64_t accumulates[] = {1, 3};
    const char *device = any_device_under_test();
    if (!device) return;
    for (int k = 0; k < 2; k++) {
        brim_trainer_options o = options_of((brim_precision)_i, accumulates[k]);
        o.device = device;
        model m = {3, 24, 2, VOCABULARY, 0.1, false}, marked = m;
        marked.marked = true;
        brim_trainer *plain = start(&o, &m), *again = start(&o, &marked);
        for (int step = 0; step < STEPS; step++) {
            brim_step_result a, b;
            take_step(plain, o.accumulate, step, &a);
            take_step(again, o.accumulate, step, &b);
            ck_assert(isfinite(a.loss) && a.grad_norm > 0);
            ck_assert_msg(
                a.loss == b.loss && a.grad_norm == b.grad_norm,
                "%s, %d micro-batches, step %d: loss %.17g and %.17g, norm %.17g and %.17g",
                brim_dtype_name((brim_dtype)_i), (int)o.accumulate, step, a.loss, b.loss,
                a.grad_norm, b.grad_norm);
        }
        compare_parameters(plain, again);
        ck_assert_int_lt(brim_trainer_describe(again).device_bytes,
                         brim_trainer_describe(plain).device_bytes);
        ck_assert_int_gt(brim_trainer_describe(again).records,
                         brim_trainer_describe(plain).records);
        brim_trainer_free(plain);
        brim_trainer_free(again);
    }
}
END_TEST

// Random decisions --------------------------------------------------------------------------------

typedef struct step {
    brim_graph *g;
    leaf_values leaves[MOST_MICRO];
    bool *wanted;
    int32_t micro_batches;
} step;

static void set_leaves(step *s, int m) {
    s->leaves[m] = leaf_values_make(s->g, NULL, 10 + (uint32_t)m, &err);
    ASSERT_FINE(err);
    for (value_id v = 0; v < s->g->values; v++) {
        const graph_value *value = &s->g->value[v];
        double *x = s->leaves[m].of[v];
        int64_t count = shape_elements(&value->shape);
        for (int64_t i = 0; i < count && value->role == ROLE_INPUT; i++)
            x[i] = (double)((i * 5 + i * i + m) % VOCABULARY);
        for (int64_t i = 0; i < count && value->role == ROLE_STATE; i++) x[i] = fabs(x[i]);
        for (int64_t i = 0; i < count && value->role == ROLE_PARAMETER; i++) x[i] *= 0.25;
        if (value->role == ROLE_CONTROL && value->control == CONTROL_MICRO) *x = m;
        if (value->role == ROLE_CONTROL && value->control == CONTROL_LOSS_SCALE) *x = 8;
    }
}

static step make_step(brim_precision precision, int32_t micro_batches) {
    step s = {.micro_batches = micro_batches};
    model m = {2, 24, 2, VOCABULARY, 0.1, false};
    brim_trainer_options given = options_of(precision, micro_batches);
    brim_trainer_options o = training_options(&given, &err);
    s.g = training_graph(build_gpt, &m, &o, &err);
    ASSERT_FINE(err);
    s.wanted = calloc((size_t)s.g->values, sizeof *s.wanted);
    // The harness names what is wanted in its own way.
    for (int32_t i = 0; i < s.g->results; i++) {
        s.wanted[s.g->result[i]] = true;
        s.g->value[s.g->result[i]].name = NULL;
    }
    s.g->results = 0;
    for (value_id v = 0; v < s.g->values; v++)
        s.wanted[v] |= s.g->value[v].role == ROLE_PARAMETER || s.g->value[v].role == ROLE_STATE;
    for (int i = 0; i < micro_batches; i++) set_leaves(&s, i);
    return s;
}

static void free_step(step *s) {
    for (int m = 0; m < s->micro_batches; m++) leaf_values_free(&s->leaves[m]);
    free(s->wanted);
    brim_graph_free(s->g);
}

static void choose_nothing(const brim_graph *g, bool *recompute, void *user) {
    (void)g, (void)recompute, (void)user;
}
static void choose_some(const brim_graph *g, bool *recompute, void *user) {
    int64_t share = 1 + sandbox_below(user, 4); // of four
    for (value_id v = 0; v < g->values; v++) recompute[v] = sandbox_below(user, 4) < share;
}

static void compare_results(const step *s, const harness_results *a, const harness_results *b,
                            uint64_t seed) {
    for (value_id v = 0; v < s->g->values; v++) {
        if (!s->wanted[v]) continue;
        const graph_value *value = &s->g->value[v];
        size_t bytes =
            (size_t)shape_elements(&value->shape) * (size_t)brim_dtype_bytes(value->dtype);
        ck_assert_ptr_nonnull(a->of[v]);
        ck_assert_msg(memcmp(a->of[v], b->of[v], bytes) == 0, "seed %llu: value %d \"%s\" differs",
                      (unsigned long long)seed, v, value->name ? value->name : "");
        for (size_t i = 0; i < bytes / 4; i++)
            ck_assert_msg(isfinite(((const float *)a->of[v])[i]), "value %d is not finite", v);
    }
}

enum { SUBSETS = 6 }; // of each precision and number of micro-batches

START_TEST(random_decisions_have_the_same_bits) {
    const char *device = any_device_under_test();
    if (!device) return;
    err = (brim_error){0};
    harness h;
    // Most kernels are those of the run before.
    harness_open(&h, device, &(device_settings){.poison = true, .cache_dir = test_directory}, &err);
    ASSERT_FINE(err);
    step s = make_step((brim_precision)(_i / 2), _i % 2 ? MOST_MICRO : 1);
    harness_options o = {
        .fuse = true, .micro_batches = s.micro_batches, .recompute = choose_nothing};
    harness_results expected, found;
    harness_run(&h, s.g, s.leaves, s.wanted, &o, &expected, &err);
    ASSERT_FINE(err);
    o.recompute = choose_some;
    for (int i = 0; i < SUBSETS; i++) {
        uint64_t seed = (uint64_t)(_i * 100 + i), random = seed;
        o.user = &random;
        o.fuse = i % 3 != 2;
        harness_run(&h, s.g, s.leaves, s.wanted, &o, &found, &err);
        ASSERT_FINE(err);
        compare_results(&s, &expected, &found, seed);
        harness_results_free(&found);
    }
    harness_results_free(&expected);
    free_step(&s);
    harness_close(&h);
}
END_TEST

Suite *recompute_gpt_suite(void) {
    Suite *suite = suite_create("recompute_gpt");
    TCase *plans = tcase_create("plans");
    tcase_set_timeout(plans, 120);
    tcase_add_test(plans, marks_do_nothing_forward);
    tcase_add_loop_test(plans, a_block_costs_one_tensor, 0, 3);
    suite_add_tcase(suite, plans);
    TCase *devices = tcase_create("devices");
    tcase_set_timeout(devices, 300);
    tcase_add_unchecked_fixture(devices, make_test_directory, remove_test_directory);
    tcase_add_loop_test(devices, training_has_the_same_bits, 0, 3);
    tcase_add_loop_test(devices, random_decisions_have_the_same_bits, 0, 6);
    suite_add_tcase(suite, devices);
    return suite;
}
