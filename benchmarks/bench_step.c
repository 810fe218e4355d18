// Takes a GPT's training step apart: start-up, submission, and every record. See --help.
#include <argp.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "benchmarks/option_size.h"
#include "benchmarks/breakdown.h"
#include "benchmarks/ceilings.h"
#include "benchmarks/start_up.h"
#include "benchmarks/timing.h"
#include "core/alloc.h"

const char *argp_program_version = "bench_step (Brim) 0.1.0";

static const char description[] = "Takes a GPT's training step apart.\v"
                                  "It starts twice, each time in a process of its own: cold, with "
                                  "empty kernel caches in a temporary folder, then warm. Then "
                                  "steps, profiled steps and the machine's ceilings take turns, "
                                  "and minima are kept. A record's floor is its operations at the "
                                  "speed of the matrix-product library alone (attention: half of "
                                  "that), or its bytes at the speed of a copy kernel.";

enum { COPY_BYTES = 6 << 20, DEVICE_PRODUCT = 2048, SPARE_BYTES = 128 << 20 };

typedef struct step_options {
    start_options start;
    const char *json;
    int64_t rounds;
    bool no_cold;
} step_options;

// Minima over the rounds.
typedef struct step_times {
    double step, submit, records;
    double *record; // each by itself
    int32_t *runs;
    ceiling_rates ceilings;
} step_times;

// ---- starting -----------------------------------------------------------------------------------

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *at) {
    (void)status, (void)type, (void)at;
    return remove(path);
}

// Brim's cache follows the user's cache folder; drivers have caches of their own.
static bool make_cache(char *folder, size_t size, brim_error *err) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, size, "%s/bench_step.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        brim_fail(err, BRIM_IO, "no folder can be made in %s", base ? base : "/tmp");
        return false;
    }
    setenv("XDG_CACHE_HOME", folder, 1);
    setenv("POCL_CACHE_DIR", folder, 1);
    setenv("CUDA_CACHE_PATH", folder, 1);
    return true;
}

typedef struct child_report {
    start_times times;
    brim_error err;
} child_report;

// In a process of its own, since drivers keep what they loaded. The caller has not opened one yet.
static void start_in_child(const start_options *o, start_times *times, brim_error *err) {
    int ends[2];
    child_report sent = {0};
    if (failed(err)) return;
    if (pipe(ends) != 0) {
        brim_fail(err, BRIM_IO, "no pipe can be made");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        training_run t;
        start_up(o, &t, &sent.times, &sent.err);
        bool whole = write(ends[1], &sent, sizeof sent) == (ssize_t)sizeof sent;
        _exit(!whole);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t n = 1; n > 0 && got<sizeof sent; got += n> 0 ? (size_t)n : 0)
        n = read(ends[0], (char *)&sent + got, sizeof sent - got);
    close(ends[0]);
    if (child > 0) waitpid(child, NULL, 0);
    if (child < 0 || got != sizeof sent)
        brim_fail(err, BRIM_DEVICE, "the process for a cold start died");
    else if (sent.err.status)
        *err = sent.err;
    *times = sent.times;
}

static void print_stages(const start_times *cold, const start_times *warm, report *r) {
    const start_times *both[] = {warm, cold};
    bool shown[] = {true, cold->until_step > 0};
    printf("\n%-54s %9s %9s\n", "start-up, ms", "warm", shown[1] ? "cold" : "");
#define X(field, meaning)                                                                          \
    printf("%-54s %9.1f", meaning, warm->field * 1e3);                                             \
    if (shown[1]) printf(" %9.1f", cold->field * 1e3);                                             \
    printf("\n");
    START_STAGES(X)
    X(until_step, "all before step 1")
#undef X
    for (int i = 0; i < 2 && shown[i]; i++) {
        report_open(r, i ? "cold_start_seconds" : "warm_start_seconds", '{');
#define X(field, meaning) report_number(r, #field, both[i]->field);
        START_STAGES(X)
        X(until_step, )
#undef X
        report_close(r, '}');
    }
}

static void print_memory(const training_run *t, report *r) {
    const memory_plan *p = &t->compiled.plan;
    const program *records = t->compiled.lowered.program;
    printf("\ndevice memory: planned %.2f MiB, of it %.2f variables; lower bound %.2f MiB (%.4f of "
           "it)\n",
           (double)p->peak_bytes[SPACE_DEVICE] / 0x1p20, (double)p->persistent_bytes[SPACE_DEVICE] / 0x1p20,
           (double)p->lower_bound[SPACE_DEVICE] / 0x1p20, (double)p->peak_bytes[SPACE_DEVICE] / (double)p->lower_bound[SPACE_DEVICE]);
    printf("%d records, %d kernels\n", records->records, records->kernels);
    report_number(r, "planned_bytes", (double)p->peak_bytes[SPACE_DEVICE]);
    report_number(r, "variable_bytes", (double)p->persistent_bytes[SPACE_DEVICE]);
    report_number(r, "lower_bound_bytes", (double)p->lower_bound[SPACE_DEVICE]);
    report_number(r, "records_in_program", records->records);
    report_number(r, "kernels", records->kernels);
}

// ---- measuring ----------------------------------------------------------------------------------

typedef struct ceilings {
    compile_target target;
    timed_graph copy, product;
    host_library *library;
    host_product shape;
} ceilings;

// They use the memory behind the variables, between two steps.
static void open_ceilings(ceilings *c, const training_run *t, const start_options *o,
                          brim_error *err) {
    static const brim_dtype dtypes[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    const device_traits *traits = t->target.backend->traits(t->target.device);
    int64_t tokens = o->batch * o->length, width = o->config.width;
    *c = (ceilings){.target = t->target, .shape = {1, tokens, 4 * width, width, false, false}};
    c->target.owner = &t->compiled;
    timed_graph_plan(&c->copy, copy_graph(COPY_BYTES, err), &c->target, err);
    if (traits->cpu) c->library = host_library_open(traits->compute_units);
    if (!c->library)
        timed_graph_plan(&c->product, product_graph(DEVICE_PRODUCT, dtypes[o->precision], err),
                         &c->target, err);
    timed_graph_load(&c->copy, &c->target, fill_plain, NULL, err);
    if (!c->library) timed_graph_load(&c->product, &c->target, fill_plain, NULL, err);
}

static void close_ceilings(ceilings *c) {
    timed_graph_free(&c->copy, &c->target);
    timed_graph_free(&c->product, &c->target);
    host_library_close(c->library);
}

static void keep_most(double *most, double rate) {
    if (isfinite(rate) && rate > *most) *most = rate;
}

static void measure_ceilings(ceilings *c, ceiling_rates *rates, brim_error *err) {
    double seconds = 0, size = DEVICE_PRODUCT;
    timed_graph_seconds(&c->copy, &c->target, &seconds, err);
    keep_most(&rates->copy, COPY_BYTES / seconds);
    if (c->library) {
        const host_product *p = &c->shape;
        seconds = host_library_seconds(c->library, p);
        keep_most(&rates->product, 2 * (double)p->m * (double)p->n * (double)p->k / seconds);
    } else {
        timed_graph_seconds(&c->product, &c->target, &seconds, err);
        keep_most(&rates->product, 2 * size * size * size / seconds);
    }
}

static void keep_least(double *least, double seconds) {
    if (*least == 0 || seconds < *least) *least = seconds;
}

// Sections are profiled one by one; one in the middle counts as often as it runs.
static void profile_step(training_run *t, double *section, double *record, double *all,
                         brim_error *err) {
    const program *p = t->compiled.lowered.program;
    int64_t micro = t->compiled.micro_batches;
    memset(record, 0, (size_t)p->records * sizeof *record);
    *all = 0;
    for (int64_t i = 0; i < micro && !failed(err); i++) {
        int64_t times = training_section(t, i) == SECTION_MIDDLE ? micro - 2 : 1;
        t->target.backend->profile(t->compiled.loaded, training_section(t, i), section, err);
        for (int32_t k = 0; k < p->records; k++) record[k] += (double)times * section[k];
        i += times - 1;
    }
    for (int32_t k = 0; k < p->records; k++) *all += record[k];
}

static void count_runs(const training_run *t, int32_t *runs) {
    const program *p = t->compiled.lowered.program;
    for (int32_t k = 0; k < p->records; k++)
        for (int64_t i = 0; i < t->compiled.micro_batches; i++)
            runs[k] += (p->record[k].sections & training_section(t, i)) != 0;
}

static void measure(training_run *t, const step_options *o, step_times *out, brim_error *err) {
    size_t records = (size_t)t->compiled.lowered.program->records;
    double *section = brim_calloc_array(records, sizeof *section, err);
    double *record = brim_calloc_array(records, sizeof *record, err);
    out->record = brim_calloc_array(records, sizeof *out->record, err);
    out->runs = brim_calloc_array(records, sizeof *out->runs, err);
    ceilings c = {0};
    if (!failed(err)) {
        count_runs(t, out->runs);
        open_ceilings(&c, t, &o->start, err);
    }
    for (int64_t i = 0; i < o->rounds && !failed(err); i++) {
        double submitted, seconds, all;
        training_stage(t);
        if (training_step(t, &submitted, &seconds, err)) break;
        keep_least(&out->step, seconds);
        keep_least(&out->submit, submitted);
        profile_step(t, section, record, &all, err);
        for (size_t k = 0; k < records; k++)
            if (out->record[k] == 0 || record[k] < out->record[k]) out->record[k] = record[k];
        keep_least(&out->records, all);
        measure_ceilings(&c, &out->ceilings, err);
    }
    close_ceilings(&c);
    free(section);
    free(record);
}

static void show_step(const training_run *t, const step_options *o, const step_times *s,
                      report *r) {
    double tokens = (double)(o->start.batch * o->start.length * o->start.accumulate);
    int64_t runs = 0;
    for (int32_t k = 0; k < t->compiled.lowered.program->records; k++) runs += s->runs[k];
    printf("\nstep %.2f ms: %.0f tokens/s\n", s->step * 1e3, tokens / s->step);
    printf("  records, all of one profiled step    %9.2f ms\n", s->records * 1e3);
    printf("  step less records                    %9.2f ms\n", (s->step - s->records) * 1e3);
    printf("  submitting on the host               %9.2f ms, %.1f us a record\n", s->submit * 1e3,
           s->submit / (double)runs * 1e6);
    printf("ceilings: copy kernel %.1f GB/s (%d MiB moved), matrix products %.1f GFLOP/s\n\n",
           s->ceilings.copy * 1e-9, COPY_BYTES >> 20, s->ceilings.product * 1e-9);
    report_number(r, "step_seconds", s->step);
    report_number(r, "tokens_per_second", tokens / s->step);
    report_number(r, "submit_seconds", s->submit);
    report_number(r, "submit_seconds_per_record", s->submit / (double)runs);
    report_number(r, "profiled_step_seconds", s->records);
    report_number(r, "copy_bytes_per_second", s->ceilings.copy);
    report_number(r, "product_flops_per_second", s->ceilings.product);
}

static void show_records(const training_run *t, const step_times *s, report *r, brim_error *err) {
    breakdown b;
    if (breakdown_make(&t->compiled, s->record, s->runs, s->ceilings, &b, err)) return;
    breakdown_print(&b);
    breakdown_report(&b, r);
    breakdown_free(&b);
}

// ---- the program --------------------------------------------------------------------------------

// X(name, key, argument, where it goes, least, most, help)
#define SIZE_OPTIONS(X)                                                                            \
    X("layers", 'L', start.config.layers, 1, 10000, "blocks (default 6)")                          \
    X("heads", 'H', start.config.heads, 1, 10000, "attention heads (default 6)")                   \
    X("dim", 'C', start.config.width, 1, 1000000, "width of the residual stream (default 384)")    \
    X("seq", 'T', start.length, 1, 10000000, "tokens in a sequence (default 256)")                 \
    X("vocab", 'V', start.config.vocabulary, 1, 1000000000,                                        \
      "tokens in the vocabulary (default 256)")                                                    \
    X("batch", 'B', start.batch, 1, 1000000, "sequences in a micro-batch (default 8)")             \
    X("accumulate", 'A', start.accumulate, 1, 1000000, "micro-batches in a step (default 1)")      \
    X("rounds", 'r', rounds, 1, 100000, "measured steps (default 10)")

static const struct argp_option option_list[] = {
    {"device", 'd', "D", 0,
     "cuda, cuda:1, opencl:0, cpu, ... (default: the best found; see devices)", 0},
    {"precision", 'p', "TYPE", 0, "f32, bf16 or f16 (default f32)", 0},
#define X(name, key, field, least, most, help) {name, key, "N", 0, help, 0},
    SIZE_OPTIONS(X)
#undef X
        {"dropout", 'x', "X", 0, "after the embedding and each residual branch (default 0)", 0},
    {"no-fusion", 'n', 0, 0, "one kernel for each elementwise op", 0},
    {"no-cold", 'w', 0, 0, "leave out the cold start; kernel caches are the user's", 0},
    {"json", 'j', "FILE", 0, "write the figures as JSON, too", 0},
    {0},
};

static error_t parse_option(int key, char *text, struct argp_state *state) {
    step_options *o = state->input;
    static const char *const precisions[] = {"f32", "bf16", "f16"};
    char *end;
    switch (key) {
    case 'd':
        o->start.device = text;
        return 0;
    case 'j':
        o->json = text;
        return 0;
    case 'n':
        o->start.no_fusion = true;
        return 0;
    case 'w':
        o->no_cold = true;
        return 0;
    case 'p':
        for (int i = 0; i < 3; i++) {
            if (strcmp(text, precisions[i]) != 0) continue;
            o->start.precision = (brim_precision)i;
            return 0;
        }
        argp_error(state, "--precision is \"%s\"; expected f32, bf16 or f16", text);
        return 0;
    case 'x':
        o->start.config.dropout = strtod(text, &end);
        if (end == text || *end || !(o->start.config.dropout >= 0 && o->start.config.dropout < 1))
            argp_error(state, "--dropout is \"%s\"; expected a number from 0 to below 1", text);
        return 0;
#define X(name, letter, field, least, most, help)                                                  \
    case letter:                                                                                   \
        o->field = parse_size(text, name, least, most, state);                                     \
        return 0;
        SIZE_OPTIONS(X)
#undef X
    }
    return ARGP_ERR_UNKNOWN;
}

static void run(step_options *o, brim_error *err) {
    char folder[4096] = "";
    start_times cold = {0}, warm = {0}, again = {0};
    training_run t = {0};
    step_times times = {0};
    report r = report_begin(o->json, err);
    if (!o->no_cold && !failed(err) && make_cache(folder, sizeof folder, err))
        start_in_child(&o->start, &cold, err);
    start_in_child(&o->start, &warm, err);
    o->start.spare_device = o->start.spare_host = SPARE_BYTES;
    if (!failed(err) && start_up(&o->start, &t, &again, err) == BRIM_OK) {
        const device_traits *traits = t.target.backend->traits(t.target.device);
        const char *library = t.target.backend->matmul_library(t.target.device);
        print_machine(traits, library);
        report_machine(&r, traits, library);
        print_stages(&cold, &warm, &r);
        print_memory(&t, &r);
        fflush(stdout);
        measure(&t, o, &times, err);
    }
    if (!failed(err)) {
        show_step(&t, o, &times, &r);
        show_records(&t, &times, &r, err);
    }
    report_end(&r);
    free(times.record);
    free(times.runs);
    training_run_free(&t);
    if (*folder) nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    step_options o = {
        .rounds = 10,
        .start = {.batch = 8,
                  .length = 256,
                  .accumulate = 1,
                  .config = {
                      .vocabulary = 256, .width = 384, .layers = 6, .heads = 6, .norm_eps = 1e-5}}};
    argp_parse(&(struct argp){option_list, parse_option, NULL, description, 0, 0, 0}, argc, argv, 0,
               0, &o);
    o.start.config.positions = o.start.length;
    model_config_check(&o.start.config, &err);
    if (!failed(&err)) run(&o, &err);
    return brim_error_report(&err);
}
