// Recomputation: what the pass makes of small graphs, that it changes no bit of any result, and
// what it does to the memory of a GPT.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "graph/pass_recompute.h"
#include "optim/training_graph.h"
#include "sandbox.h"
#include "test_passes.h"
#include "tests/devices.h"
#include "tests/harness.h"
#include "tests/planned.h"

// Small graphs ------------------------------------------------------------------------------------

START_TEST(costs_of_ops) {
    static const struct {
        op_id op;
        recompute_cost cost;
    } some[] = {
        {OP_RESHAPE, RECOMPUTE_FREE},     {OP_BROADCAST, RECOMPUTE_FREE},
        {OP_CONSTANT, RECOMPUTE_FREE},    {OP_CAST, RECOMPUTE_CHEAP},
        {OP_GELU, RECOMPUTE_CHEAP},       {OP_CONCAT, RECOMPUTE_CHEAP},
        {OP_LAYER_NORM, RECOMPUTE_CHEAP}, {OP_DROPOUT, RECOMPUTE_CHEAP},
        {OP_EMBEDDING, RECOMPUTE_CHEAP},  {OP_SUM, RECOMPUTE_CHEAP},
        {OP_MATMUL, RECOMPUTE_DEAR},      {OP_ATTENTION, RECOMPUTE_DEAR},
        {OP_ADAMW, RECOMPUTE_NEVER},      {OP_ACCUMULATE, RECOMPUTE_NEVER},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        ck_assert_msg(recompute_cost_of(&(graph_node){.op = some[i].op}) == some[i].cost, "%s",
                      op_table[some[i].op].name);
}
END_TEST

// A product and an activation whose results the backward pass reads.
static brim_graph *small_step(brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), w = brim_parameter(g, "w", normal, 8, 8);
    brim_scope_push(g, "up");
    brim_value h = brim_matmul(x, w), y = brim_gelu(h);
    brim_scope_pop(g);
    brim_value z = brim_reshape(brim_layer_norm(y, "ln", 0), 32);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_mul(brim_reshape(z, 4, 8), y);
    d = graph_op(g, OP_GELU_BACKWARD, (brim_value[]){h, d}, 2, NULL);
    brim_output(brim_matmul_t(x, true, d, false), "dw");
    return g;
}

static brim_graph *recompute_listed(const brim_graph *g, const value_id *list, int count,
                                    brim_error *err) {
    bool *recompute = calloc((size_t)g->values, sizeof *recompute);
    for (int i = 0; i < count; i++) recompute[list[i]] = true;
    brim_graph *made = pass_recompute(g, recompute, err);
    free(recompute);
    return made;
}

START_TEST(copies_stand_before_their_readers) {
    brim_error err = {0};
    brim_graph *g = small_step(&err);
    TAKE(recompute_listed(g, (value_id[]){2, 3}, 2, &err)); // h and y
    assert_text(g, "%0 = input \"x\" [4,8] f32\n"
                   "%1 = parameter \"w\" [8,8] f32 normal(1)\n"
                   "%2 = matmul(%0, %1) [4,8] f32 up\n"
                   "%3 = gelu(%2) [4,8] f32 up\n"
                   "%4 = parameter \"ln.weight\" [8] f32 ones\n"
                   "%5 = parameter \"ln.bias\" [8] f32 zeros\n"
                   "%6, %7, %8 = layer_norm(%3, %4, %5, 1e-05) [4,8] f32, [4] f32, [4] f32 ln\n"
                   "%9 = reshape(%6) [32] f32\n"
                   "%10 = reshape(%9) [4,8] f32 ; backward\n"
                   "%11 = matmul(%0, %1) [4,8] f32 up ; backward, recomputes %2\n"
                   "%12 = gelu(%11) [4,8] f32 up ; backward, recomputes %3\n"
                   "%13 = mul(%10, %12) [4,8] f32 ; backward\n"
                   "%14 = gelu_backward(%11, %13) [4,8] f32 ; backward\n"
                   "%15 = matmul(%0, %14, transpose_a) [8,8] f32 ; backward\n"
                   "output \"dw\" = %15\n");
    // Equal as they are, they stay two; chains with them say so.
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_MATMUL), 3);
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_MATMUL), 3);
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 2);
    char *text = graph_text(g);
    ck_assert_ptr_nonnull(strstr(text, "matmul(%0, %1) [4,8] f32 up ; backward, recomputes %4\n"));
    ck_assert_ptr_nonnull(strstr(text, " ; backward, recomputes\n")); // gelu is not stored again
    free(text);
    FREE_GRAPH;
}
END_TEST

START_TEST(views_follow_and_all_outputs_come_again) {
    brim_error err = {0};
    brim_graph *g = small_step(&err);
    TAKE(recompute_listed(g, (value_id[]){6, 9}, 2,
                          &err)); // the norm's y; of its view no word counts
    assert_text(
        g, "%0 = input \"x\" [4,8] f32\n"
           "%1 = parameter \"w\" [8,8] f32 normal(1)\n"
           "%2 = matmul(%0, %1) [4,8] f32 up\n"
           "%3 = gelu(%2) [4,8] f32 up\n"
           "%4 = parameter \"ln.weight\" [8] f32 ones\n"
           "%5 = parameter \"ln.bias\" [8] f32 zeros\n"
           "%6, %7, %8 = layer_norm(%3, %4, %5, 1e-05) [4,8] f32, [4] f32, [4] f32 ln ; backward, "
           "recomputes\n"
           "%9 = reshape(%6) [32] f32 ; backward, recomputes\n"
           "%10 = reshape(%9) [4,8] f32 ; backward\n"
           "%11 = mul(%10, %3) [4,8] f32 ; backward\n"
           "%12 = gelu_backward(%2, %11) [4,8] f32 ; backward\n"
           "%13 = matmul(%0, %12, transpose_a) [8,8] f32 ; backward\n"
           "output \"dw\" = %13\n");
    FREE_GRAPH;
}
END_TEST

// What may not run twice, or need not, is kept whatever the decision.
START_TEST(what_cannot_is_kept) {
    MAKE_GRAPH;
    shape s = {2, {4, 4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
    brim_value of_variable = brim_exp(sum), low = brim_exp(w), product = brim_matmul(x, low);
    brim_value named = brim_relu(product), view = brim_reshape(named, 16);
    brim_output(view, "view");
    brim_value added =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, brim_matmul(product, product)}, 2, NULL);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_add(brim_add(low, named), brim_add(product, brim_reshape(view, 4, 4)));
    brim_output(brim_add(d, of_variable), "d");
    g->phase = PHASE_UPDATE;
    brim_output(brim_neg(added), "total");
    for (int micro_batches = 1; micro_batches < 3; micro_batches++) {
        pass_sections(g, micro_batches, &err);
        bool possible[64];
        recompute_possible(g, possible, &err);
        ASSERT_FINE(err);
        ck_assert(possible[product.id]);
        ck_assert(possible[low.id] == (micro_batches == 1)); // else it is made once a step
        ck_assert(!possible[x.id] && !possible[w.id] && !possible[sum.id]);
        ck_assert(!possible[named.id] && !possible[view.id] && !possible[added.id]);
        ck_assert(!possible[of_variable.id] && !possible[d.id]);
        bool all[64];
        memset(all, true, sizeof all);
        brim_graph *made = pass_recompute(g, all, &err);
        ASSERT_FINE(err);
        int again = 0;
        for (node_id n = 0; n < made->nodes; n++) again += made->node[n].recomputed;
        ck_assert_int_eq(again, micro_batches == 1 ? 2 : 1);
        brim_graph_free(made);
    }
    FREE_GRAPH;
}
END_TEST

// Marks -------------------------------------------------------------------------------------------

START_TEST(marks_become_decisions) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), w = brim_parameter(g, "w", normal, 8, 8);
    brim_value a = brim_matmul(x, brim_exp(w)), b = brim_layer_norm(a, "ln", 0);
    brim_value c = brim_relu(b), c_view = brim_checkpoint(brim_reshape(c, 32));
    brim_value d = brim_exp(c_view), beside = brim_exp(a), sum = brim_add(d, brim_reshape(a, 32));
    brim_value norm = brim_checkpoint(brim_layer_norm(sum, "end", 0));
    brim_output(brim_add(brim_relu(norm), brim_reshape(beside, 32)), "y");
    brim_checkpoint(brim_checkpoint(x)); // a leaf: nothing comes of it
    ASSERT_FINE(err);
    bool recompute[64];
    recompute_marked(g, recompute, &err);
    ASSERT_FINE(err);
    const value_id again[] = {a.id, b.id, b.id + 1, b.id + 2, d.id, sum.id};
    for (value_id v = 0; v < g->values; v++) {
        bool expected = false;
        for (size_t i = 0; i < sizeof again / sizeof *again; i++) expected |= v == again[i];
        ck_assert_msg(recompute[v] == expected, "value %d", v);
    }
    for (value_id v = 0; v < g->values; v++) g->value[v].checkpoint = false;
    recompute_marked(g, recompute, &err);
    for (value_id v = 0; v < g->values; v++) ck_assert(!recompute[v]);
    FREE_GRAPH;
}
END_TEST

START_TEST(marks_go_through_passes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_value y = brim_cast(brim_matmul(x, w), BRIM_BF16); // an idle cast in bf16
    brim_checkpoint(y);
    brim_output(brim_add(brim_relu(y), brim_checkpoint(brim_relu(y))), "z");
    brim_graph *(*const pass[])(const brim_graph *, brim_error *) = {pass_prune, pass_densify};
    TAKE(pass_cast(g, BRIM_BF16, &err));
    for (int i = 0; i < 2; i++) TAKE(pass[i](g, &err));
    int marks = 0;
    for (value_id v = 0; v < g->values; v++) {
        marks += g->value[v].checkpoint;
        op_id op = g->value[v].producer < 0 ? OP_COUNT : g->node[g->value[v].producer].op;
        ck_assert(g->value[v].checkpoint == (op == OP_MATMUL || op == OP_RELU));
    }
    ck_assert_int_eq(marks, 2);
    FREE_GRAPH;
}
END_TEST

START_TEST(marks_refuse_what_is_no_value) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value same = brim_checkpoint(x);
    ck_assert(same.graph == g && same.id == x.id);
    ck_assert_int_lt(brim_checkpoint((brim_value){g, 7}).id, 0);
    ASSERT_REFUSED(BRIM_GRAPH, "checkpoint: operand 1 is no value");
    ck_assert_int_lt(brim_checkpoint((brim_value){0}).id, 0);
    FREE_GRAPH;
}
END_TEST

// Random graphs -----------------------------------------------------------------------------------

static void choose_randomly(const brim_graph *g, bool *recompute, uint64_t *random) {
    int64_t share = 1 + sandbox_below(random, 4); // of four
    for (value_id v = 0; v < g->values; v++) recompute[v] = sandbox_below(random, 4) < share;
}

// A node that runs again does so after all of the forward pass that stands before it. (Copies of
// named results stand at the end.)
static void check_lateness(const brim_graph *g, const graph_schedule *schedule, uint64_t seed) {
    node_id latest = -1;
    for (int32_t i = 0; i < schedule->count; i++) {
        node_id n = schedule->order[i];
        ck_assert_msg(g->node[n].phase != PHASE_FORWARD || n > latest,
                      "seed %llu: node %d of the forward pass runs after node %d, which runs again",
                      (unsigned long long)seed, n, latest);
        if (g->node[n].recomputed && n > latest) latest = n;
    }
}

// Runs a random graph, with random values recomputed, as it is and from its plan. Returns how many
// nodes run again.
static int run_random(uint64_t seed, bool fuse) {
    brim_error err = {0};
    uint64_t random = seed;
    int micro_batches = 1 + (int)(seed % 3), again = 0;
    brim_graph *g = sandbox_graph(seed, 20 + (int)(seed % 40), micro_batches, &err), *built = g;
    ASSERT_FINE(err);
    sandbox_outcome plain, found;
    sandbox_run_plain(built, micro_batches, &plain);
    g = pass_prune(built, &err);
    TAKE(pass_densify(g, &err));
    pass_sections(g, micro_batches, &err);
    bool *recompute = calloc((size_t)g->values, sizeof *recompute);
    choose_randomly(g, recompute, &random);
    TAKE(pass_recompute(g, recompute, &err));
    free(recompute);
    for (node_id n = 0; n < g->nodes; n++) again += g->node[n].recomputed;
    sandbox_run_plain(g, micro_batches, &found);
    const char *difference = sandbox_difference(&plain, &found);
    ck_assert_msg(!difference, "seed %d: %s differs", (int)seed, difference);
    sandbox_outcome_free(&found);

    TAKE(pass_fuse(g, fuse, 8, &err));
    planned p = {.g = g, .request = {.alignment = 64}};
    graph_schedule_make(p.g, &p.schedule, &err);
    graph_layout_make(p.g, &p.schedule, &p.layout, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    check_lateness(p.g, &p.schedule, seed);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, micro_batches, seed, &found);
    difference = sandbox_difference(&plain, &found);
    ck_assert_msg(!difference, "seed %d: %s differs when planned", (int)seed, difference);
    sandbox_outcome_free(&found);
    sandbox_outcome_free(&plain);
    brim_graph_free(built);
    planned_free(&p);
    return again;
}

START_TEST(random_graphs_keep_every_bit) {
    int again = 0;
    for (int seed = 0; seed < 150; seed++)
        again += run_random((uint64_t)(_i * 1000 + seed), seed % 4 != 0);
    ck_assert_int_gt(again, 150);
}
END_TEST

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

enum { BATCH = 2, LENGTH = 12, VOCABULARY = 17, STEPS = 3, MOST_MICRO = 3 };

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

// Bytes of all transient storages at the peak.
static int64_t plan_gpt(int64_t layers, brim_precision precision, bool marked) {
    brim_error err = {0};
    model m = {layers, PLAN_WIDTH, 4, VOCABULARY, 0.1, marked};
    brim_trainer_options o = options_of(precision, 2); // gradients are in accumulators
    o.batch = PLAN_BATCH;
    o.length = PLAN_LENGTH;
    o = training_options(&o, &err);
    brim_graph *g = training_graph(build_gpt, &m, &o, &err);
    ASSERT_FINE(err);
    planned p;
    planned_make(&p, g, 2, true, &err);
    p.request.workspace = NULL;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    if (marked) check_blocks_run_late(&p, layers);
    // Of a block's four products the last makes what is marked, and nothing else reads it. The head
    // has one, and each of them two derivatives.
    ck_assert_int_eq(count_products(p.g, true), marked ? 3 * (int)layers : 0);
    ck_assert_int_eq(count_products(p.g, false), 3 * (4 * (int)layers + 1));
    int64_t bytes = p.plan.peak_bytes - p.plan.persistent_bytes;
    planned_free(&p);
    return bytes;
}

// What each further block adds to the peak: one tensor [B, T, C], and in 16 bits the compute copies
// of its weights.
START_TEST(a_block_costs_one_tensor) {
    int64_t element = _i == BRIM_PRECISION_F32 ? 4 : 2, stream = STREAM * element;
    int64_t copies = element == 4 ? 0 : (12 * PLAN_WIDTH * PLAN_WIDTH + 9 * PLAN_WIDTH) * element;
    int64_t with = plan_gpt(2, (brim_precision)_i, true),
            without = plan_gpt(2, (brim_precision)_i, false);
    for (int64_t layers = 4; layers <= 8; layers *= 2) {
        int64_t more_with = plan_gpt(layers, (brim_precision)_i, true),
                more_without = plan_gpt(layers, (brim_precision)_i, false), blocks = layers / 2;
        ck_assert_int_le(more_with - with, blocks * (stream + copies) + blocks * stream / 20);
        ck_assert_int_ge(more_without - without, blocks * 10 * stream);
        with = more_with;
        without = more_without;
    }
}
END_TEST

// A copy that would free memory in the forward pass does not run there.
START_TEST(copies_are_not_taken_early) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8), kept = brim_matmul(x, x);
    brim_value low = brim_cast(kept, BRIM_BF16), y = brim_cast(brim_matmul(low, low), BRIM_F32);
    for (int i = 0; i < 3; i++) y = brim_matmul(y, y);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_matmul(brim_cast(y, BRIM_BF16), low);
    brim_output(brim_cast(d, BRIM_F32), "d");
    TAKE(recompute_listed(g, &low.id, 1, &err));
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    check_lateness(g, &schedule, 0);
    int again = 0;
    for (int i = 0; i < schedule.count; i++) again += g->node[schedule.order[i]].recomputed;
    ck_assert_int_eq(again, 1);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
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
    choose_randomly(g, recompute, user);
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

Suite *pass_recompute_suite(void) {
    Suite *suite = suite_create("pass_recompute");
    TCase *small = tcase_create("small");
    tcase_add_test(small, costs_of_ops);
    tcase_add_test(small, copies_stand_before_their_readers);
    tcase_add_test(small, views_follow_and_all_outputs_come_again);
    tcase_add_test(small, what_cannot_is_kept);
    tcase_add_test(small, marks_become_decisions);
    tcase_add_test(small, marks_go_through_passes);
    tcase_add_test(small, marks_refuse_what_is_no_value);
    tcase_add_test(small, copies_are_not_taken_early);
    tcase_add_test(small, marks_do_nothing_forward);
    suite_add_tcase(suite, small);
    TCase *random = tcase_create("random");
    tcase_set_timeout(random, 300);
    tcase_add_loop_test(random, random_graphs_keep_every_bit, 0, 4);
    suite_add_tcase(suite, random);
    TCase *memory = tcase_create("memory");
    tcase_set_timeout(memory, 120);
    tcase_add_loop_test(memory, a_block_costs_one_tensor, 0, 3);
    suite_add_tcase(suite, memory);
    TCase *devices = tcase_create("devices");
    tcase_set_timeout(devices, 300);
    tcase_add_unchecked_fixture(devices, make_test_directory, remove_test_directory);
    tcase_add_loop_test(devices, training_has_the_same_bits, 0, 3);
    tcase_add_loop_test(devices, random_decisions_have_the_same_bits, 0, 6);
    suite_add_tcase(suite, devices);
    return suite;
}
