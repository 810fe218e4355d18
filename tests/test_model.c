// The examples' models: their sizes against published ones, and config.json in Hugging Face's form.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/files.h"
#include "examples/model.h"
#include "graph/graph.h"
#include "graph/shape.h"
#include "tests/test_core.h"

static brim_error err;

static const char *fixture(const char *kind) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/fixtures/%s/config.json", BRIM_SOURCE_DIR, kind);
    return path;
}

static const struct {
    const char *kind, *class_name;
    model_config config;
} read_cases[] = {
    {"gpt2",
     "\"GPT2LMHeadModel\"",
     {.architecture = MODEL_GPT2,
      .vocabulary = 211,
      .positions = 64,
      .width = 60,
      .layers = 3,
      .heads = 5,
      .norm_eps = 1e-5}},
    {"llama",
     "\"LlamaForCausalLM\"",
     {.architecture = MODEL_LLAMA,
      .vocabulary = 211,
      .positions = 64,
      .width = 36,
      .layers = 2,
      .heads = 6,
      .norm_eps = 1e-5,
      .kv_heads = 2,
      .head_size = 6,
      .ffn = 80,
      .rotary_base = 500}},
    {"qwen2",
     "\"Qwen2ForCausalLM\"",
     {.architecture = MODEL_LLAMA,
      .vocabulary = 211,
      .positions = 64,
      .width = 40,
      .layers = 2,
      .heads = 4,
      .norm_eps = 1e-5,
      .kv_heads = 1,
      .ffn = 52,
      .rotary_base = 1e4,
      .tied = true,
      .qkv_bias = true}},
    {"qwen3",
     "\"Qwen3ForCausalLM\"",
     {.architecture = MODEL_LLAMA,
      .vocabulary = 211,
      .positions = 64,
      .width = 32,
      .layers = 2,
      .heads = 4,
      .norm_eps = 1e-5,
      .kv_heads = 2,
      .head_size = 12,
      .ffn = 56,
      .rotary_base = 1e3,
      .tied = true,
      .qk_norm = true}},
};
enum { READ_CASES = sizeof read_cases / sizeof *read_cases };

static void expect_same(const model_config *a, const model_config *b) {
    ck_assert_int_eq(a->architecture, b->architecture);
#define SAME(field) ck_assert_msg(a->field == b->field, #field)
    SAME(vocabulary), SAME(positions), SAME(width), SAME(layers), SAME(heads), SAME(norm_eps);
    SAME(kv_heads), SAME(head_size), SAME(ffn), SAME(rotary_base), SAME(dropout);
    SAME(tied), SAME(qkv_bias), SAME(qk_norm);
#undef SAME
}

START_TEST(reads_config_json) {
    err = (brim_error){0};
    model_config c;
    model_config_read(fixture(read_cases[_i].kind), &c, &err);
    ASSERT_FINE(err);
    expect_same(&c, &read_cases[_i].config);
}
END_TEST

// What is written reads back to the same model, with what was left to a default written out.
START_TEST(writes_config_json) {
    err = (brim_error){0};
    model_config c = read_cases[_i].config, back;
    char *text = model_config_text(&c, &err);
    ASSERT_FINE(err);
    ck_assert_msg(strstr(text, read_cases[_i].class_name), "%s", text);
    char path[] = "/tmp/brim-config-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    free(text);
    model_config_read(path, &back, &err);
    remove(path);
    ASSERT_FINE(err);
    if (c.architecture == MODEL_LLAMA && !c.head_size) c.head_size = c.width / c.heads;
    expect_same(&back, &c);
}
END_TEST

// A builder makes as many parameters as model_parameters says.
START_TEST(counts_parameters) {
    err = (brim_error){0};
    model_config c = read_cases[_i].config;
    brim_graph *g = brim_graph_create(&err);
    model_build(g, 2, 8, &c);
    ASSERT_FINE(err);
    int64_t elements = 0;
    for (value_id id = 0; id < g->values; id++)
        if (g->value[id].role == ROLE_PARAMETER) elements += shape_elements(&g->value[id].shape);
    ck_assert_int_eq(elements, model_parameters(&c));
    brim_graph_free(g);
}
END_TEST

static const struct {
    const char *text;
    model_config config;
} refusals[] = {
    {"width 10 is no multiple of 4 heads", {.width = 10, .heads = 4}},
    {"width 1028 with 4 heads makes heads of 257; at most 256", {.width = 1028, .heads = 4}},
    {"8 heads are no multiple of 3 key-value heads",
     {.architecture = MODEL_LLAMA, .width = 64, .heads = 8, .kv_heads = 3}},
    {"heads of 5: rotary positions need an even number",
     {.architecture = MODEL_LLAMA, .width = 20, .heads = 4}},
    {"both biases of q, k, v and norms of q, k",
     {.architecture = MODEL_LLAMA, .width = 64, .heads = 8, .qkv_bias = true, .qk_norm = true}},
};

START_TEST(refuses_sizes) {
    err = (brim_error){0};
    model_config_check(&refusals[_i].config, &err);
    ck_assert_int_ne(err.status, BRIM_OK);
    ck_assert_msg(strstr(err.text, refusals[_i].text), "%s", err.text);
}
END_TEST

Suite *model_suite(void) {
    Suite *s = suite_create("model");
    TCase *tc = tcase_create("model");
    tcase_add_loop_test(tc, reads_config_json, 0, READ_CASES);
    tcase_add_loop_test(tc, writes_config_json, 0, READ_CASES);
    tcase_add_loop_test(tc, counts_parameters, 0, READ_CASES);
    tcase_add_loop_test(tc, refuses_sizes, 0, (int)(sizeof refusals / sizeof *refusals));
    suite_add_tcase(s, tc);
    return s;
}
