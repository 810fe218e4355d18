#include "benchmarks/plan_costs.h"

#include <string.h>
#include <brim/report.h>

enum { ALL = INT32_MAX };

// Each saves as much as it can in its own way.
typedef struct way {
    const char *name;
    forced_plan plan;
} way;

static const way ways[] = {
    {"resident", {0}},
    {"weights streamed", {0, {.streamed = ALL}}},
    {"all recomputed", {ALL, {0}}},
    {"activations offloaded", {0, {.offloaded = ALL}}},
    {"host updates", {0, {.hosted = ALL}}},
    {"host updates, weights streamed", {0, {.hosted = ALL, .streamed = ALL}}},
    {"states streamed to the device", {0, {.hosted = ALL, .device_updates = true}}},
    {"states on disk", {0, {.hosted = ALL, .filed = ALL}}},
    {"all of it", {ALL, {.hosted = ALL, .streamed = ALL, .offloaded = ALL}}},
};
enum { WAYS = sizeof ways / sizeof *ways };

typedef struct model {
    const char *name;
    model_config config;
} model;

static const model models[] = {
    {"gpt",
     {.architecture = MODEL_GPT2, .vocabulary = 4096, .width = 512, .layers = 8, .heads = 8}},
    {"llama",
     {.architecture = MODEL_LLAMA,
      .vocabulary = 4096,
      .width = 512,
      .layers = 8,
      .heads = 8,
      .kv_heads = 4,
      .ffn = 1408,
      .rotary_base = 10000}},
};
enum { MODELS = sizeof models / sizeof *models };

static void show(const plan_run runs[WAYS], report *r) {
    printf("%-32s %10s %10s %10s %8s %10s %10s %9s\n", "", "device", "host", "step, ms", "ratio",
           "least", "expected", "of least");
    report_open(r, "plans", '[');
    for (int i = 0; i < WAYS; i++) {
        const compiled *c = &runs[i].run.compiled;
        const int64_t *peak = c->plan.peak_bytes;
        double median = plan_run_median(&runs[i]), expected = plan_run_expected(&runs[i]);
        double least = plan_run_least(&runs[i]);
        double ratio = plan_run_ratio(&runs[i], &runs[0]);
        char device[32], host[32];
        printf("%-32s %10s %10s %10.1f %8.3f %10.1f %10.1f %9.3f\n", ways[i].name,
               brim_bytes_text(peak[SPACE_DEVICE], device, sizeof device),
               brim_bytes_text(peak[SPACE_HOST], host, sizeof host), median * 1e3, ratio,
               least * 1e3, expected * 1e3, expected / least);
        report_open(r, NULL, '{');
        report_text(r, "plan", ways[i].name);
        report_number(r, "device_bytes", (double)peak[SPACE_DEVICE]);
        report_number(r, "host_bytes", (double)peak[SPACE_HOST]);
        report_number(r, "file_bytes", (double)peak[SPACE_FILE]);
        report_number(r, "median_seconds", median);
        report_number(r, "least_seconds", least);
        report_number(r, "ratio", ratio);
        report_number(r, "expected_seconds", expected);
        report_open(r, "rounds", '[');
        for (int k = 0; k < runs[i].rounds; k++) report_number(r, NULL, runs[i].seconds[k]);
        report_close(r, ']');
        report_close(r, '}');
    }
    report_close(r, ']');
}

static void one_model(const plans_options *o, const model *m, report *r, brim_error *err) {
    plan_run runs[WAYS] = {0};
    start_options start = {.config = m->config,
                           .batch = o->batch,
                           .length = o->length,
                           .accumulate = 1,
                           .device = o->device,
                           .rates = &o->rates,
                           .disk = o->disk};
    start.config.positions = o->length;
    start.config.norm_eps = 1e-5;
    for (int i = 0; i < WAYS && !failed(err); i++) {
        start.forced = &ways[i].plan;
        plan_run_open(&runs[i], &start, err);
    }
    for (int64_t i = 0; i < o->rounds && !failed(err); i++)
        plan_runs_round(runs, WAYS, (int)o->steps, err);
    if (!failed(err)) {
        printf("\n%s, %.3g parameters, %lld tokens a step, medians of %lld rounds\n", m->name,
               (double)model_parameters(&start.config), (long long)(o->batch * o->length),
               (long long)o->rounds);
        report_open(r, NULL, '{');
        report_text(r, "model", m->name);
        report_number(r, "parameters", (double)model_parameters(&start.config));
        report_number(r, "tokens", (double)(o->batch * o->length));
        show(runs, r);
        report_close(r, '}');
        fflush(stdout);
    }
    for (int i = 0; i < WAYS; i++) plan_run_close(&runs[i]);
}

void plan_costs(const plans_options *o, report *r, brim_error *err) {
    report_open(r, "costs", '[');
    for (int i = 0; i < MODELS; i++) one_model(o, &models[i], r, err);
    report_close(r, ']');
}
