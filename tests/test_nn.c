// Layers: their parameters, their nodes, and how they refuse.
#include <math.h>
#include "test_graph.h"

static const graph_value *parameter_of(const brim_graph *g, const char *name) {
    for (value_id id = 0; id < g->values; id++) {
        const graph_value *v = &g->value[id];
        if (v->role == ROLE_PARAMETER && strcmp(v->name, name) == 0) return v;
    }
    ck_abort_msg("no parameter \"%s\"", name);
    return NULL;
}

static void check_parameter(const brim_graph *g, const char *name, brim_init_kind kind,
                            double scale, shape s) {
    const graph_value *v = parameter_of(g, name);
    ck_assert_msg(shape_equal(&v->shape, &s), "shape of %s", name);
    ck_assert_msg(v->init.kind == kind, "init of %s", name);
    ck_assert_msg(v->init.scale == (float)scale, "scale of %s: %g", name, (double)v->init.scale);
}

static int count_parameters(const brim_graph *g) {
    int count = 0;
    for (value_id id = 0; id < g->values; id++) count += g->value[id].role == ROLE_PARAMETER;
    return count;
}

START_TEST(linear_is_one_product) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4, 16);
    brim_scope_push(g, "h.0");
    brim_value y = brim_linear(x, "up", 5);
    brim_scope_pop(g);
    ASSERT_FINE(err);
    ASSERT_SHAPE(y, 2, 4, 5);
    assert_text(g, "%0 = input \"x\" [2,4,16] f32\n"
                   "%1 = parameter \"h.0.up.weight\" [5,16] f32 uniform(0.25)\n"
                   "%2 = reshape(%0) [8,16] f32 h.0.up\n"
                   "%3 = matmul(%2, %1, transpose_b) [8,5] f32 h.0.up\n"
                   "%4 = reshape(%3) [2,4,5] f32 h.0.up\n"
                   "%5 = parameter \"h.0.up.bias\" [5] f32 uniform(0.25)\n"
                   "%6 = add(%4, %5) [2,4,5] f32 h.0.up\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(linear_options) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 16), row = brim_input(g, "row", BRIM_F32, 16);
    brim_linear_options o = {.layout = BRIM_IN_OUT, .init = {BRIM_NORMAL, 0.02f}};
    ASSERT_SHAPE(brim_linear_with(x, "a", 5, &o), 8, 5);
    check_parameter(g, "a.weight", BRIM_NORMAL, 0.02f, (shape){2, {16, 5}});
    check_parameter(g, "a.bias", BRIM_ZEROS, 0, (shape){1, {5}});
    o = (brim_linear_options){.no_bias = true, .init = {BRIM_ZEROS, 1}};
    ASSERT_SHAPE(brim_linear_with(row, "b", 5, &o), 5);
    check_parameter(g, "b.weight", BRIM_ZEROS, 1, (shape){2, {5, 16}});
    ck_assert_int_eq(count_parameters(g), 3);
    ASSERT_SHAPE(brim_linear_with(x, "b", 5, &o), 8, 5); // the same weight
    ck_assert_int_eq(count_parameters(g), 3);
    ASSERT_FINE(err);
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

START_TEST(embeddings_and_norms) {
    MAKE_GRAPH;
    brim_value ids = brim_input(g, "ids", BRIM_I32, 2, 4);
    brim_value x = brim_embedding(ids, "wte", 50, 16, (brim_init){0});
    ASSERT_SHAPE(x, 2, 4, 16);
    check_parameter(g, "wte.weight", BRIM_NORMAL, 1, (shape){2, {50, 16}});
    brim_embedding(ids, "small", 50, 16, (brim_init){BRIM_NORMAL, 0.02f});
    check_parameter(g, "small.weight", BRIM_NORMAL, 0.02f, (shape){2, {50, 16}});
    ASSERT_SHAPE(brim_layer_norm(x, "ln", 0), 2, 4, 16);
    check_parameter(g, "ln.weight", BRIM_ONES, 0, (shape){1, {16}});
    check_parameter(g, "ln.bias", BRIM_ZEROS, 0, (shape){1, {16}});
    ck_assert(g->node[g->nodes - 1].attr.scalar[0] == 1e-5f);
    ASSERT_SHAPE(brim_rms_norm(x, "rms", 1e-6), 2, 4, 16);
    check_parameter(g, "rms.weight", BRIM_ONES, 0, (shape){1, {16}});
    ck_assert(g->node[g->nodes - 1].attr.scalar[0] == 1e-6f);
    brim_rms_norm(x, "rms", 0);
    ck_assert(g->node[g->nodes - 1].attr.scalar[0] == 1e-5f);
    brim_value one_id = brim_input_dims(g, "id", BRIM_I32, 0, NULL);
    ASSERT_SHAPE(brim_embedding(one_id, "wte", 50, 16, (brim_init){0}), 16);
    ck_assert_int_eq(count_parameters(g), 5);
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

START_TEST(self_attention_defaults) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 12);
    ASSERT_SHAPE(brim_self_attention(x, "attn", 3, NULL), 2, 5, 12);
    check_parameter(g, "attn.qkv.weight", BRIM_UNIFORM, 1 / sqrt(12), (shape){2, {36, 12}});
    check_parameter(g, "attn.qkv.bias", BRIM_UNIFORM, 1 / sqrt(12), (shape){1, {36}});
    check_parameter(g, "attn.proj.weight", BRIM_UNIFORM, 1 / sqrt(12), (shape){2, {12, 12}});
    check_parameter(g, "attn.proj.bias", BRIM_UNIFORM, 1 / sqrt(12), (shape){1, {12}});
    ck_assert_int_eq(count_parameters(g), 4);
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

START_TEST(self_attention_with_all_options) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 16),
               ids = brim_input(g, "ids", BRIM_I32, 2, 5);
    brim_linear_options bare = {.no_bias = true, .layout = BRIM_IN_OUT};
    brim_value y =
        brim_self_attention(x, "attn", 4,
                            &(brim_self_attention_options){.kv_heads = 2,
                                                           .rotary_base = 10000,
                                                           .dropout = 0.5,
                                                           .qkv = bare,
                                                           .projection = bare,
                                                           .qkv_name = "c_attn",
                                                           .projection_name = "c_proj",
                                                           .attention = {.segments = ids}});
    ASSERT_FINE(err);
    ASSERT_SHAPE(y, 2, 5, 16);
    assert_text(g, "%0 = input \"x\" [2,5,16] f32\n"
                   "%1 = input \"ids\" [2,5] i32\n"
                   "%2 = parameter \"attn.c_attn.weight\" [16,32] f32 uniform(0.25)\n"
                   "%3 = reshape(%0) [10,16] f32 attn.c_attn\n"
                   "%4 = matmul(%3, %2) [10,32] f32 attn.c_attn\n"
                   "%5 = reshape(%4) [2,5,32] f32 attn.c_attn\n"
                   "%6 = slice(%5, start 0 0 0) [2,5,16] f32 attn\n"
                   "%7 = reshape(%6) [2,5,4,4] f32 attn\n"
                   "%8 = slice(%5, start 0 0 16) [2,5,8] f32 attn\n"
                   "%9 = reshape(%8) [2,5,2,4] f32 attn\n"
                   "%10 = slice(%5, start 0 0 24) [2,5,8] f32 attn\n"
                   "%11 = reshape(%10) [2,5,2,4] f32 attn\n"
                   "%12 = rotary(%7, base 10000) [2,5,4,4] f32 attn\n"
                   "%13 = rotary(%9, base 10000) [2,5,2,4] f32 attn\n"
                   "%14, %15 = attention(%12, %13, %11, %1, causal, scale 0.5) [2,5,4,4] f32, "
                   "[2,4,5] f32 attn\n"
                   "%16 = reshape(%14) [2,5,16] f32 attn\n"
                   "%17 = parameter \"attn.c_proj.weight\" [16,16] f32 uniform(0.25)\n"
                   "%18 = reshape(%16) [10,16] f32 attn.c_proj\n"
                   "%19 = matmul(%18, %17) [10,16] f32 attn.c_proj\n"
                   "%20 = reshape(%19) [2,5,16] f32 attn.c_proj\n"
                   "%21 = control \"seed\" [] i32\n"
                   "%22 = control \"step\" [] i32\n"
                   "%23 = control \"micro\" [] i32\n"
                   "%24 = dropout(%20, %21, %22, %23, p 0.5, stream 0) [2,5,16] f32 attn\n");
    FREE_GRAPH;
}
END_TEST

// As in Llama and Qwen3: a projection each, heads of their own size, norms before the rotary
// embedding.
START_TEST(self_attention_with_three_projections) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 16);
    brim_linear_options bare = {.no_bias = true};
    brim_value y = brim_self_attention(x, "attn", 4,
                                       &(brim_self_attention_options){.kv_heads = 2,
                                                                      .head_size = 6,
                                                                      .rotary_base = 10000,
                                                                      .qkv = bare,
                                                                      .projection = bare,
                                                                      .q_name = "q_proj",
                                                                      .k_name = "k_proj",
                                                                      .v_name = "v_proj",
                                                                      .projection_name = "o_proj",
                                                                      .qk_norm = true,
                                                                      .qk_norm_eps = 1e-6});
    ASSERT_FINE(err);
    ASSERT_SHAPE(y, 2, 5, 16);
    check_parameter(g, "attn.q_proj.weight", BRIM_UNIFORM, 0.25, (shape){2, {24, 16}});
    check_parameter(g, "attn.k_proj.weight", BRIM_UNIFORM, 0.25, (shape){2, {12, 16}});
    check_parameter(g, "attn.v_proj.weight", BRIM_UNIFORM, 0.25, (shape){2, {12, 16}});
    check_parameter(g, "attn.q_norm.weight", BRIM_ONES, 0, (shape){1, {6}});
    check_parameter(g, "attn.k_norm.weight", BRIM_ONES, 0, (shape){1, {6}});
    check_parameter(g, "attn.o_proj.weight", BRIM_UNIFORM, 1 / sqrt(24), (shape){2, {16, 24}});
    ck_assert_int_eq(count_parameters(g), 6);
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

START_TEST(layers_refuse) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4, 16),
               ids = brim_input(g, "ids", BRIM_I32, 2, 4);
    brim_value scalar = brim_constant(g, 1), flat = brim_input(g, "flat", BRIM_F32, 4, 16);
    // An error leaves its layer's scope open, which no longer matters: nothing is built after it.
    // Here it does.
#define REFUSED(status, text, call)                                                                \
    do {                                                                                           \
        ck_assert_int_lt((call).id, 0);                                                            \
        ASSERT_REFUSED(status, text);                                                              \
        while (g->scope_depth) brim_scope_pop(g);                                                  \
    } while (0)
    REFUSED(BRIM_SHAPE, "linear: [] does not fit: 0 axes, at least 1 are expected",
            brim_linear(scalar, "a", 5));
    REFUSED(BRIM_ARGUMENT, "scope \"\" in scope \"\": it is empty", brim_linear(x, "", 5));
    REFUSED(BRIM_ARGUMENT, "scope \"\" in scope \"\": it is empty", brim_linear(x, NULL, 5));
    REFUSED(BRIM_SHAPE,
            "parameter \"a.weight\" [0, 16]: axis 0 has extent 0; at least 1 is expected",
            brim_linear(x, "a", 0));
    REFUSED(BRIM_SHAPE,
            "matmul in scope \"b\": \"ids\" [2, 4] i32 and \"b.weight\" [5, 4] f32 do not fit: "
            "operand 1 is "
            "i32, a float type is expected",
            brim_linear(ids, "b", 5));
    brim_linear(x, "c", 5);
    REFUSED(BRIM_SHAPE,
            "parameter \"c.weight\" is asked for as [6, 16] f32, but exists as [5, 16] f32",
            brim_linear(x, "c", 6));
    REFUSED(
        BRIM_SHAPE,
        "embedding in scope \"d\": \"d.weight\" [9, 4] and \"x\" [2, 4, 16] do not fit: operand 2 "
        "is f32, i32 is expected",
        brim_embedding(x, "d", 9, 4, (brim_init){0}));
    REFUSED(BRIM_SHAPE, "layer_norm: [] does not fit: 0 axes, at least 1 are expected",
            brim_layer_norm(scalar, "e", 0));
    REFUSED(BRIM_SHAPE, "rms_norm: [] does not fit: 0 axes, at least 1 are expected",
            brim_rms_norm(scalar, "e", 0));
    REFUSED(BRIM_SHAPE,
            "self_attention: \"flat\" [4, 16] does not fit: 2 axes, at least 3 are expected",
            brim_self_attention(flat, "f", 4, NULL));
    REFUSED(BRIM_SHAPE,
            "self_attention in scope \"g\": \"x\" [2, 4, 16] does not fit: width 16 is not a "
            "multiple of 3 heads",
            brim_self_attention(x, "g", 3, NULL));
    REFUSED(BRIM_SHAPE,
            "self_attention in scope \"g\": \"x\" [2, 4, 16] does not fit: width 16 is not a "
            "multiple of 0 heads",
            brim_self_attention(x, "g", 0, NULL));
    brim_self_attention_options three = {.kv_heads = 3};
    REFUSED(BRIM_SHAPE,
            "self_attention in scope \"g\": \"x\" [2, 4, 16] does not fit: 4 heads are not a "
            "multiple of 3 key-value heads",
            brim_self_attention(x, "g", 4, &three));
    brim_self_attention_options negative = {.head_size = -2}, some = {.q_name = "q"};
    REFUSED(BRIM_SHAPE,
            "self_attention in scope \"g\": \"x\" [2, 4, 16] does not fit: the head size is -2, at "
            "least 1 is expected",
            brim_self_attention(x, "g", 4, &negative));
    REFUSED(BRIM_ARGUMENT,
            "self_attention in scope \"g\": \"x\" [2, 4, 16] does not fit: 1 of q_name, k_name and "
            "v_name are given; all or none are expected",
            brim_self_attention(x, "g", 4, &some));
    brim_value wide = brim_reshape(x, 2, 2, 2, 16);
    REFUSED(BRIM_SHAPE,
            "self_attention in scope \"g\": [2, 2, 2, 16] does not fit: 3 axes are expected",
            brim_self_attention(wide, "g", 4, NULL));
    FREE_GRAPH;
}
END_TEST

Suite *nn_suite(void) {
    Suite *suite = suite_create("nn");
    TCase *tests = tcase_create("layers");
    tcase_add_test(tests, linear_is_one_product);
    tcase_add_test(tests, linear_options);
    tcase_add_test(tests, embeddings_and_norms);
    tcase_add_test(tests, self_attention_defaults);
    tcase_add_test(tests, self_attention_with_all_options);
    tcase_add_test(tests, self_attention_with_three_projections);
    tcase_add_test(tests, layers_refuse);
    suite_add_tcase(suite, tests);
    return suite;
}
