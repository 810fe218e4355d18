// The examples' models: their sizes against published ones, and config.json in Hugging Face's form.
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/files.h"
#include "examples/model.h"
#include "examples/presets.h"
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
    {"llama3",
     "\"LlamaForCausalLM\"",
     {.architecture = MODEL_LLAMA,
      .vocabulary = 211,
      .positions = 64,
      .width = 32,
      .layers = 2,
      .heads = 2,
      .norm_eps = 1e-5,
      .kv_heads = 2,
      .head_size = 16,
      .ffn = 72,
      .rotary_base = 300,
      .rotary_scaling = {4, 1, 3, 32},
      .tied = true}},
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
    SAME(rotary_scaling.factor), SAME(rotary_scaling.low), SAME(rotary_scaling.high);
    SAME(rotary_scaling.length);
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

// What a file may say that is no model, or one whose parameters cannot be counted.
static const struct {
    const char *text, *json;
} bad_files[] = {
    {"is not a JSON object", "[]"},
    {"field \"n_embd\" is no such number; expected a whole number from 1 to 1e+06",
     "{\"vocab_size\":1,\"n_positions\":1,\"n_embd\":1000001,\"n_layer\":1,\"n_head\":1}"},
    {"field \"n_layer\" is no such number; expected a whole number from 1 to 10000",
     "{\"vocab_size\":1,\"n_positions\":1,\"n_embd\":8,\"n_layer\":1e9,\"n_head\":1}"},
    {"field \"layer_norm_epsilon\" is no number above 0",
     "{\"vocab_size\":1,\"n_positions\":1,\"n_embd\":8,\"n_layer\":1,\"n_head\":1,"
     "\"layer_norm_epsilon\":-1e-5}"},
    {"field \"layer_norm_epsilon\" is no number above 0",
     "{\"vocab_size\":1,\"n_positions\":1,\"n_embd\":8,\"n_layer\":1,\"n_head\":1,"
     "\"layer_norm_epsilon\":1e999}"},
    {"field \"rope_theta\" is no number above 0",
     "{\"model_type\":\"llama\",\"vocab_size\":1,\"max_position_embeddings\":1,\"hidden_size\":8,"
     "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"intermediate_size\":1,"
     "\"rope_theta\":\"1e4\"}"},
};

START_TEST(refuses_files) {
    err = (brim_error){0};
    model_config c;
    char path[] = "/tmp/brim-config-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    ck_assert_ptr_nonnull(file);
    fputs(bad_files[_i].json, file);
    fclose(file);
    model_config_read(path, &c, &err);
    remove(path);
    ASSERT_FAILS(err, BRIM_FORMAT, bad_files[_i].text);
}
END_TEST

// The largest sizes that a file may have.
START_TEST(parameters_fit_63_bits) {
    model_config c = {.vocabulary = 1000000000,
                      .positions = 1000000000,
                      .width = 1000000,
                      .layers = 10000,
                      .heads = 10000,
                      .ffn = 10000000,
                      .head_size = 256};
    ck_assert_int_gt(model_parameters(&c), (int64_t)1 << 56);
    c.architecture = MODEL_LLAMA;
    ck_assert_int_gt(model_parameters(&c), (int64_t)1 << 57);
}
END_TEST

START_TEST(presets_have_the_published_parameters) {
    err = (brim_error){0};
    int presets = 0;
    for (const model_preset *p; (p = model_preset_at(presets)); presets++) {
        ck_assert_msg(model_config_check(&p->config, &err) == BRIM_OK, "%s: %s", p->name, err.text);
        ck_assert_msg(model_parameters(&p->config) == p->parameters, "%s: %lld, published %lld",
                      p->name, (long long)model_parameters(&p->config), (long long)p->parameters);
        ck_assert_ptr_eq(model_preset_find(p->name, &err), p);
    }
    ck_assert_int_eq(presets, 10);
    ck_assert_ptr_null(model_preset_find("llama-9b", &err));
    ck_assert_msg(strstr(err.text, "there is no model \"llama-9b\"; there is: gpt2 gpt2-medium") &&
                      strstr(err.text, "qwen-32b"),
                  "%s", err.text);
}
END_TEST

// The rules that stand in examples/data/gpus.def; typing errors break them.
START_TEST(gpu_presets_are_plausible) {
    err = (brim_error){0};
    int presets = 0;
    for (const gpu_preset *p; (p = gpu_preset_at(presets)); presets++) {
        ck_assert_ptr_eq(gpu_preset_find(p->name, &err), p);
        double ratio = p->tflops_16 / p->tflops_32;
        bool geforce_tensor = p->cuda && strncmp(p->name, "rtx", 3) == 0;
        double expected = strncmp(p->name, "rtx2", 4) == 0 ? 4 : 2;
        if (geforce_tensor)
            ck_assert_msg(fabs(ratio / expected - 1) <= 0.01, "%s: %g times f32", p->name, ratio);
        ck_assert_msg(ratio >= 1 && p->memory_mib % 1024 == 0 && p->watts >= 100, "%s", p->name);
        brim_rates r = gpu_preset_rates(p);
        ck_assert_int_eq(r.memory_bytes, p->memory_mib << 20);
        ck_assert(r.link_both > r.link_in && r.link_both < r.link_in + r.link_out);
        ck_assert(r.overhead_bytes > 0 && r.launch > 0 && r.host > 0 && r.matmul_16 > 0);
    }
    ck_assert_int_eq(presets, 19);
    ck_assert_ptr_null(gpu_preset_find("rtx9090", &err));
    ck_assert_msg(strstr(err.text, "there is no GPU \"rtx9090\"; there is: gtx1080ti p40"), "%s",
                  err.text);
}
END_TEST

// The figures that the project's aims are stated with.
START_TEST(rates_of_an_rtx_4090) {
    err = (brim_error){0};
    brim_rates r = gpu_preset_rates(gpu_preset_find("rtx4090", &err));
    ASSERT_FINE(err);
    ck_assert_double_eq_tol(r.matmul_16, 0.6 * 165.2e12, 1e6);
    ck_assert_double_eq_tol(r.memory, 0.85 * 1008e9, 1e3);
    ck_assert_double_eq(r.link_in, 24e9);
    ck_assert_double_eq(r.link_out, 24e9);
    ck_assert_double_eq(r.link_both, 40e9);
    ck_assert_double_eq(r.host, 60e9);
    r = gpu_preset_rates(gpu_preset_find("rtx4060ti", &err)); // half as many lanes
    ck_assert_double_eq(r.link_in, 12e9);
    r = gpu_preset_rates(gpu_preset_find("p40", &err)); // PCIe 3
    ck_assert_double_eq(r.link_both, 20e9);
    r = gpu_preset_rates(gpu_preset_find("arcb580", &err)); // no matrix units through OpenCL
    ck_assert_double_eq(r.matmul_16, r.matmul_32);
}
END_TEST

Suite *model_suite(void) {
    Suite *s = suite_create("model");
    TCase *tc = tcase_create("model");
    tcase_add_loop_test(tc, reads_config_json, 0, READ_CASES);
    tcase_add_loop_test(tc, writes_config_json, 0, READ_CASES);
    tcase_add_loop_test(tc, counts_parameters, 0, READ_CASES);
    tcase_add_loop_test(tc, refuses_sizes, 0, (int)(sizeof refusals / sizeof *refusals));
    tcase_add_loop_test(tc, refuses_files, 0, (int)(sizeof bad_files / sizeof *bad_files));
    tcase_add_test(tc, parameters_fit_63_bits);
    tcase_add_test(tc, presets_have_the_published_parameters);
    tcase_add_test(tc, gpu_presets_are_plausible);
    tcase_add_test(tc, rates_of_an_rtx_4090);
    suite_add_tcase(s, tc);
    return s;
}
