// Derivatives of a whole model against differences, and attention's against those of products and a
// softmax that compute the same.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/nn.h>
#include "autograd/autograd.h"
#include "graph/passes.h"
#include "test_core.h"
#include "tests/op_case_run.h"

static brim_error err;
static brim_graph *g;

static void setup(void) {
    err = (brim_error){0};
    g = brim_graph_create(&err);
}
static void teardown(void) {
    brim_graph_free(g);
}

// ---- a whole model ------------------------------------------------------------------------------

// Two layers with all that a language model has; returns the loss.
static brim_value small_model(void) {
    const brim_init normal = {BRIM_NORMAL, 1};
    brim_value ids = brim_input(g, "ids", BRIM_I32, 2, 5),
               targets = brim_input(g, "targets", BRIM_I32, 2, 5);
    brim_value x = brim_embedding(ids, "wte", 7, 12, normal);
    x = brim_add(x, brim_parameter(g, "wpe", normal, 5, 12));
    for (int i = 0; i < 2; i++) {
        brim_scope_push(g, "h.%d", i);
        brim_self_attention_options options = {
            .kv_heads = 1, .rotary_base = i ? 100 : 0, .dropout = 0.25};
        x = brim_add(x, brim_self_attention(brim_layer_norm(x, "ln_1", 0), "attn", 2, &options));
        brim_value y = brim_gelu(brim_linear(brim_rms_norm(x, "ln_2", 0), "up", 16));
        x = brim_add(x, brim_linear(y, "down", 12));
        brim_scope_pop(g);
    }
    brim_value table = brim_parameter(g, "wte.weight", normal, 7, 12);
    return brim_cross_entropy(brim_matmul_t(x, false, table, true), targets, -100).sum;
}

static void fill_ids(const leaf_values *leaves) {
    for (value_id v = 0; v < g->values; v++) {
        if (g->value[v].role != ROLE_INPUT) continue;
        for (int i = 0; i < 10; i++) leaves->of[v][i] = (i * 5 + 3) % 7;
        if (strcmp(g->value[v].name, "targets") == 0) leaves->of[v][4] = -100;
    }
}

// The loss with all parameters moved along their directions, which are drawn like leaves of another
// seed.
static double moved_loss(oracle *o, value_id loss, const leaf_values *leaves,
                         const leaf_values *along, double step) {
    for (value_id v = 0; v < leaves->values; v++) {
        if (g->value[v].role != ROLE_PARAMETER) continue;
        for (int64_t i = 0; i < o->value[v].count; i++)
            o->value[v].data[i] = leaves->of[v][i] + step * along->of[v][i];
    }
    oracle_run(o, &err);
    ASSERT_FINE(err);
    return o->value[loss].data[0];
}

// In f32 (_i 0) and through the mixed-precision pass: gradients of all parameters are f32, and
// right together.
START_TEST(whole_model) {
    brim_value loss = small_model();
    ASSERT_FINE(err);
    g->loss.sum = g->loss.count = loss.id;
    if (_i) {
        brim_graph *low = pass_cast(g, _i == 1 ? BRIM_BF16 : BRIM_F16, &err);
        ASSERT_FINE(err);
        brim_graph_free(g);
        g = low;
    }
    loss = graph_value_of(g, g->loss.sum);
    value_id wrt[64];
    int count = 0;
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].role == ROLE_PARAMETER) wrt[count++] = v;
    ck_assert_int_eq(count, 2 + 2 * (2 + 4 + 1 + 4));
    brim_value gradient[64];
    autograd_differentiate(g, loss, brim_constant(g, 1), wrt, count, gradient, &err);
    graph_verify(g, "differentiation", &err);
    ASSERT_FINE(err);

    leaf_values leaves = leaf_values_make(g, NULL, 1, &err),
                along = leaf_values_make(g, NULL, 2, &err);
    fill_ids(&leaves);
    oracle *o = oracle_create(g, &err);
    leaf_values_set(&leaves, o, &err);
    oracle_run(o, &err);
    ASSERT_FINE(err);
    double product = 0, size = 0;
    for (int i = 0; i < count; i++) {
        ck_assert_int_ge(gradient[i].id, 0);
        const oracle_tensor *t = &o->value[gradient[i].id];
        ck_assert_msg(t->dtype == BRIM_F32, "the gradient of %s", g->value[wrt[i]].name);
        ck_assert_int_ne(g->node[g->value[gradient[i].id].producer].op, OP_CAST);
        for (int64_t k = 0; k < t->count; k++) {
            product += t->data[k] * along.of[wrt[i]][k];
            size += fabs(t->data[k] * along.of[wrt[i]][k]);
        }
    }
    const double h = 1e-4;
    double far = moved_loss(o, loss.id, &leaves, &along, 2 * h) -
                 moved_loss(o, loss.id, &leaves, &along, -2 * h);
    double near =
        moved_loss(o, loss.id, &leaves, &along, h) - moved_loss(o, loss.id, &leaves, &along, -h);
    double measured = (8 * near - far) / (12 * h);
    ck_assert_msg(fabs(product - measured) <= 1e-7 * size, "rules %.12g, differences %.12g",
                  product, measured);
    oracle_free(o);
    leaf_values_free(&leaves);
    leaf_values_free(&along);
}
END_TEST

// Attention, a second time -----------------------------------------------------------------------

typedef struct attention_setup {
    int64_t queries, keys, heads, groups;
    bool causal, segments;
} attention_setup;
static const attention_setup attentions[] = {
    {9, 9, 2, 2, true, false},  {9, 9, 6, 2, true, false},   {9, 9, 2, 2, false, false},
    {5, 11, 2, 1, true, false}, {11, 5, 4, 4, false, false}, {9, 9, 4, 2, true, true},
    {9, 9, 2, 2, false, true},
};
enum { BATCH = 2, SIZE = 6 };

// [B, S, G, D] -> [B, H, S, D], each group given to its heads.
static brim_value by_head(brim_value x, int64_t heads) {
    int64_t s = brim_dim(x, 1), groups = brim_dim(x, 2);
    brim_value y = brim_reshape(brim_permute(x, 0, 2, 1, 3), BATCH, groups, 1, s, SIZE);
    return brim_reshape(brim_broadcast(y, BATCH, groups, heads / groups, s, SIZE), BATCH, heads, s,
                        SIZE);
}

// softmax(scale q k^T + mask) v from products and a softmax. mask [B, 1, T, S] is 1 where a key is
// seen.
static brim_value composed(brim_value q, brim_value k, brim_value v, brim_value mask,
                           double scale) {
    int64_t heads = brim_dim(q, 2);
    brim_value scores = brim_matmul_t(brim_permute(q, 0, 2, 1, 3), false, by_head(k, heads), true);
    scores = brim_where(mask, brim_scale(scores, scale), brim_constant(g, -1e30));
    return brim_permute(brim_matmul(brim_softmax(scores, -1), by_head(v, heads)), 0, 2, 1, 3);
}

static void fill_mask(const attention_setup *a, const double *segments, double *mask) {
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t i = 0; i < a->queries; i++)
            for (int64_t j = 0; j < a->keys; j++) {
                bool seen = !a->causal || j <= i + a->keys - a->queries;
                if (a->segments) seen &= segments[b * a->queries + i] == segments[b * a->keys + j];
                mask[(b * a->queries + i) * a->keys + j] = seen;
            }
}

START_TEST(attention_against_its_composition) {
    const attention_setup *a = &attentions[_i];
    brim_value q = brim_input(g, "q", BRIM_F32, BATCH, a->queries, a->heads, SIZE);
    brim_value k = brim_input(g, "k", BRIM_F32, BATCH, a->keys, a->groups, SIZE);
    brim_value v = brim_input(g, "v", BRIM_F32, BATCH, a->keys, a->groups, SIZE);
    brim_value mask = brim_input(g, "mask", BRIM_F32, BATCH, 1, a->queries, a->keys);
    brim_value segments = brim_input(g, "segments", BRIM_I32, BATCH, a->queries);
    brim_value cotangent = brim_input(g, "w", BRIM_F32, BATCH, a->queries, a->heads, SIZE);
    brim_attention_options options = {.bidirectional = !a->causal, .scale = 0.75f};
    if (a->segments) options.segments = segments;
    brim_value y[2] = {brim_attention(q, k, v, &options), composed(q, k, v, mask, 0.75)},
               gradient[2][3];
    for (int i = 0; i < 2; i++) {
        brim_value loss = brim_sum(brim_mul(y[i], cotangent), NULL, 0, false);
        autograd_differentiate(g, loss, brim_constant(g, 1), (value_id[]){q.id, k.id, v.id}, 3,
                               gradient[i], &err);
        ASSERT_FINE(err);
    }
    leaf_values leaves = leaf_values_make(g, NULL, 3, &err);
    for (int64_t i = 0; i < BATCH * a->queries; i++)
        leaves.of[segments.id][i] = (double)((i % a->queries) / 4 + i / a->queries);
    fill_mask(a, leaves.of[segments.id], leaves.of[mask.id]);
    oracle *o = oracle_create(g, &err);
    leaf_values_set(&leaves, o, &err);
    oracle_run(o, &err);
    ASSERT_FINE(err);
    for (int part = -1; part < 3; part++) {
        const oracle_tensor *x = &o->value[part < 0 ? y[0].id : gradient[0][part].id];
        const oracle_tensor *z = &o->value[part < 0 ? y[1].id : gradient[1][part].id];
        for (int64_t i = 0; i < x->count; i++)
            ck_assert_msg(fabs(x->data[i] - z->data[i]) <= 1e-12 * (1 + fabs(z->data[i])),
                          "part %d, element %lld: %.15g and %.15g", part, (long long)i, x->data[i],
                          z->data[i]);
    }
    oracle_free(o);
    leaf_values_free(&leaves);
}
END_TEST

Suite *autograd_model_suite(void) {
    Suite *suite = suite_create("autograd_model");
    TCase *tests = tcase_create("models");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, whole_model, 0, 3);
    tcase_add_loop_test(tests, attention_against_its_composition, 0,
                        sizeof attentions / sizeof *attentions);
    suite_add_tcase(suite, tests);
    return suite;
}
