// Times every op at the shapes of a GPT beside what the machine can do at most. See --help.
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "benchmarks/case_work.h"
#include "benchmarks/host_updates.h"
#include "benchmarks/report.h"
#include "benchmarks/timing.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/dtype.h"
#include "tests/op_cases.h"

const char *argp_program_version = "bench_ops (Brim) 0.1.0";

static const char description[] = "Times every op, and the machine's ceilings beside it.\v"
                                  "A row's ceiling is measured in turn with it: for matrix "
                                  "products the library alone at that shape (on a GPU: its best at "
                                  "2048 x 2048 x 2048), the same for attention at 2048 x 384 x "
                                  "1536, for all others a copy kernel that moves as many bytes. "
                                  "GB/s counts what the op must read and write at least, GFLOP/s "
                                  "matrix products and attention (the causal half). Times are "
                                  "minima.";

enum { FILL_PERIOD = 65536, DEVICE_PRODUCT = 2048, MIN_ROUNDS = 5, MAX_ROUNDS = 400 };
static const int64_t machine_copy_bytes = 64 << 20;
static const host_product attention_ceiling = {.batch = 1, .m = 2048, .n = 1536, .k = 384};

typedef struct bench_options {
    const char *device, *json, *filter;
    uint32_t dtypes;
    double seconds; // for a case
    bool host;
} bench_options;

typedef struct bench_case {
    const op_case *c;
    brim_dtype dtype;
    op_case_graph made; // leaves by number
    case_work work;
    timed_graph op, ceiling; // ceiling: unused where the host's library is it
    double seconds, ceiling_seconds;
} bench_case;

typedef struct bench {
    bench_options options;
    compile_target target;
    const device_traits *traits;
    host_library *library; // CPU devices
    timed_graph copy;      // of machine_copy_bytes
    bench_case *cases;
    int count;
    brim_error *err;
} bench;

// ---- cases --------------------------------------------------------------------------------------

static bool is_product(const bench_case *b) {
    return b->work.flops > 0;
}

// Elements repeat: to draw 10 million normal numbers takes a while. Leaves are named after their
// ids.
static void fill_leaf(const graph_value *value, value_id id, void *out, void *user) {
    const bench_case *b = user;
    op_case_leaf leaf = {.dtype = value->dtype};
    value_id made = (value_id)strtol(value->name + 1, NULL, 10);
    for (int i = 0; i < b->made.leaves; i++)
        if (b->made.x[i].id == made) leaf = b->made.leaf[i];
    (void)id;
    int64_t count = shape_elements(&value->shape),
            drawn = count < FILL_PERIOD ? count : FILL_PERIOD;
    double numbers[FILL_PERIOD];
    leaf.shape = (shape){1, {drawn}};
    op_case_fill(&leaf, 1, numbers);
    size_t width = brim_dtype_bytes(value->dtype);
    for (int64_t i = 0; i < count; i++) {
        char *element = (char *)out + (size_t)i * width;
        float real = (float)numbers[i % drawn];
        if (value->dtype == BRIM_I32)
            memcpy(element, &(int32_t){(int32_t)real}, width);
        else
            dtype_from_f32(value->dtype, &real, element, 1);
    }
}

static bool host_library_is_ceiling(const bench *s, const bench_case *b) {
    return is_product(b) && s->library;
}

static brim_graph *ceiling_graph(const bench *s, const bench_case *b) {
    if (is_product(b)) return product_graph(DEVICE_PRODUCT, b->dtype, s->err);
    return copy_graph((int64_t)b->work.bytes, s->err);
}

// An update's results live in its variables; what others make must be named, or nothing needs it.
static void keep_result(brim_graph *g, brim_value result) {
    node_id n = g->value[result.id].producer;
    if (n >= 0 && op_table[g->node[n].op].family != FAMILY_UPDATE) brim_output(result, "result");
}

static void plan_case(bench *s, bench_case *b) {
    char title[96];
    brim_graph *g = brim_graph_create(s->err);
    if (!g) return;
    if (op_case_build(b->c, g, b->dtype, &b->made)) {
        b->work = case_work_of(g, b->made.result.id);
        keep_result(g, b->made.result);
    }
    timed_graph_plan(&b->op, g, &s->target, s->err);
    compile_target second = s->target;
    second.owner = &b->op.compiled;
    if (!host_library_is_ceiling(s, b) && !failed(s->err))
        timed_graph_plan(&b->ceiling, ceiling_graph(s, b), &second, s->err);
    if (failed(s->err))
        brim_error_prefix(s->err, "%s", op_case_title(b->c, b->dtype, title, sizeof title));
}

static bool case_wanted(const bench *s, const op_case *c, brim_dtype dtype) {
    char title[96];
    if (!(c->uses & OP_CASE_BENCH) || !(c->dtypes & s->options.dtypes & 1u << dtype)) return false;
    op_case_title(c, dtype, title, sizeof title);
    return !s->options.filter || strstr(title, s->options.filter);
}

static void list_cases(bench *s) {
    static const brim_dtype floats[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    s->cases = brim_calloc_array((size_t)op_case_count * 3, sizeof *s->cases, s->err);
    for (int d = 0; d < 3 && s->cases; d++)
        for (int i = 0; i < op_case_count; i++)
            if (case_wanted(s, &op_cases[i], floats[d]))
                s->cases[s->count++] = (bench_case){.c = &op_cases[i], .dtype = floats[d]};
    if (s->count == 0)
        brim_fail(s->err, BRIM_ARGUMENT, "no case's name contains \"%s\"", s->options.filter);
    for (int i = 0; i < s->count && !failed(s->err); i++) plan_case(s, &s->cases[i]);
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void reserve(bench *s) {
    int64_t device = larger(machine_copy_bytes, timed_graph_device_bytes(&s->copy));
    int64_t host = timed_graph_host_bytes(&s->copy);
    for (int i = 0; i < s->count; i++) {
        const timed_graph *x[] = {&s->cases[i].op, &s->cases[i].ceiling};
        for (int k = 0; k < 2; k++) {
            device = larger(device, timed_graph_device_bytes(x[k]));
            host = larger(host, timed_graph_host_bytes(x[k]));
        }
    }
    memory_request request = {.device_bytes = device, .host_bytes = host};
    s->target.backend->reserve(s->target.device, &request, s->err);
}

// ---- measuring ----------------------------------------------------------------------------------

static void keep_least(double *least, double seconds) {
    if (seconds > 0 && (*least == 0 || seconds < *least)) *least = seconds;
}

static void measure_ceiling(bench *s, bench_case *b) {
    double seconds = 0;
    if (host_library_is_ceiling(s, b)) {
        const host_product *p = b->work.product.m ? &b->work.product : &attention_ceiling;
        seconds = host_library_seconds(s->library, p);
    } else {
        timed_graph_seconds(&b->ceiling, &s->target, &seconds, s->err);
    }
    keep_least(&b->ceiling_seconds, seconds);
}

static void measure_case(bench *s, bench_case *b) {
    timed_graph_load(&b->op, &s->target, fill_leaf, b, s->err);
    if (b->ceiling.compiled.graph)
        timed_graph_load(&b->ceiling, &s->target, fill_plain, NULL, s->err);
    double start = clock_seconds();
    for (int round = 0; round < MAX_ROUNDS && !failed(s->err); round++) {
        if (round >= MIN_ROUNDS && clock_seconds() - start > s->options.seconds) break;
        double seconds = 0;
        timed_graph_seconds(&b->op, &s->target, &seconds, s->err);
        keep_least(&b->seconds, seconds);
        measure_ceiling(s, b);
    }
}

// Bytes or floating-point operations a second that the machine can do.
static double ceiling_rate(const bench *s, const bench_case *b) {
    if (b->ceiling_seconds <= 0) return 0;
    if (!is_product(b)) return b->work.bytes / b->ceiling_seconds;
    const double size = DEVICE_PRODUCT;
    if (!s->library) return 2 * size * size * size / b->ceiling_seconds;
    const host_product *p = b->work.product.m ? &b->work.product : &attention_ceiling;
    return 2 * (double)p->batch * (double)p->m * (double)p->n * (double)p->k / b->ceiling_seconds;
}

static double case_rate(const bench_case *b) {
    if (b->seconds <= 0) return 0;
    return (is_product(b) ? b->work.flops : b->work.bytes) / b->seconds;
}

// ---- the table ----------------------------------------------------------------------------------

static void print_heading(void) {
    printf("\n%-38s %-34s %10s %9s %9s %9s %6s\n", "op", "shape", "us", "GB/s", "GFLOP/s",
           "ceiling", "%");
}

static void print_row(const char *title, const char *leaves, const bench_case *b, double ceiling) {
    char shapes[35], flops[16] = "-";
    snprintf(shapes, sizeof shapes, "%s", leaves);
    if (is_product(b)) snprintf(flops, sizeof flops, "%.1f", b->work.flops / b->seconds * 1e-9);
    printf("%-38s %-34s %10.1f %9.2f %9s %9.1f %6.1f\n", title, shapes, b->seconds * 1e6,
           b->work.bytes / b->seconds * 1e-9, flops, ceiling * 1e-9, 100 * case_rate(b) / ceiling);
    fflush(stdout);
}

static void put_row(report *r, const char *op, const char *name, const char *leaves,
                    const bench_case *b, double ceiling) {
    report_open(r, NULL, '{');
    report_text(r, "op", op);
    report_text(r, "case", name);
    report_text(r, "dtype", brim_dtype_name(b->dtype));
    report_text(r, "shape", leaves);
    report_number(r, "seconds", b->seconds);
    report_number(r, "bytes", b->work.bytes);
    report_number(r, "flops", b->work.flops);
    report_number(r, "ceiling_per_second", ceiling);
    report_number(r, "of_ceiling", case_rate(b) / ceiling);
    report_close(r, '}');
}

static void show_case(const bench *s, const bench_case *b, report *r) {
    char title[96];
    double ceiling = ceiling_rate(s, b);
    print_row(op_case_title(b->c, b->dtype, title, sizeof title), b->c->leaves, b, ceiling);
    put_row(r, op_table[b->c->op].name, b->c->name, b->c->leaves, b, ceiling);
}

// Attention forward and backward together, where both were measured.
static void show_attention(const bench *s, const bench_case *b, report *r) {
    if (b->c->op != OP_ATTENTION) return;
    for (int i = 0; i < s->count; i++) {
        const bench_case *back = &s->cases[i];
        if (back->c->op != OP_ATTENTION_BACKWARD || back->dtype != b->dtype ||
            strcmp(back->c->name, b->c->name) != 0)
            continue;
        bench_case both = *b;
        both.work.flops += back->work.flops;
        both.work.bytes += back->work.bytes;
        both.seconds += back->seconds;
        char title[96];
        snprintf(title, sizeof title, "attention, both/%s %s", b->c->name,
                 brim_dtype_name(b->dtype));
        double ceiling = fmax(ceiling_rate(s, b), ceiling_rate(s, back));
        print_row(title, b->c->leaves, &both, ceiling);
        put_row(r, "attention, both", b->c->name, b->c->leaves, &both, ceiling);
    }
}

static void show_rate(report *r, const char *key, const char *text, double rate) {
    printf("%-34s %8.1f GB/s\n", text, rate * 1e-9);
    report_number(r, key, rate);
}

// By our own kernel, by the backend's copy, and by the host.
static void measure_machine(bench *s, report *r) {
    enum { ROUNDS = 10 };
    loaded_program *loaded = NULL;
    program *record = copy_program(machine_copy_bytes, s->err);
    if (record) s->target.backend->load(s->target.device, record, &loaded, s->err);
    timed_graph_load(&s->copy, &s->target, fill_plain, NULL, s->err);
    double by_kernel = 0, by_record = 0;
    for (int i = 0; i < ROUNDS && !failed(s->err); i++) {
        double seconds = 0;
        timed_graph_seconds(&s->copy, &s->target, &seconds, s->err);
        keep_least(&by_kernel, seconds);
        s->target.backend->profile(loaded, SECTION_LAST, &seconds, s->err);
        keep_least(&by_record, seconds);
    }
    if (loaded) s->target.backend->unload(loaded);
    program_free(record);
    if (failed(s->err)) return;
    double bytes = (double)machine_copy_bytes;
    printf("\ncopies of 32 MiB, bytes read and written:\n");
    show_rate(r, "copy_kernel_bytes_per_second", "  elementwise kernel COPY", bytes / by_kernel);
    show_rate(r, "copy_record_bytes_per_second", "  the driver's copy", bytes / by_record);
    if (!s->traits->cpu) return;
    int threads = s->traits->compute_units;
    show_rate(r, "memcpy_bytes_per_second", "  memcpy, 1 thread",
              host_copy_rate(machine_copy_bytes, 1));
    show_rate(r, "memcpy_all_bytes_per_second", "  memcpy, a thread for each core",
              host_copy_rate(machine_copy_bytes, threads));
}

static void run_cases(bench *s, report *r) {
    report_open(r, "cases", '[');
    if (!failed(s->err)) print_heading();
    for (int i = 0; i < s->count && !failed(s->err); i++) {
        bench_case *b = &s->cases[i];
        char title[96];
        measure_case(s, b);
        if (failed(s->err))
            brim_error_prefix(s->err, "%s", op_case_title(b->c, b->dtype, title, sizeof title));
        else
            show_case(s, b, r);
        timed_graph_free(&b->op, &s->target);
        timed_graph_free(&b->ceiling, &s->target);
    }
    for (int i = 0; i < s->count && !failed(s->err); i++) show_attention(s, &s->cases[i], r);
    report_close(r, ']');
}

// ---- the program --------------------------------------------------------------------------------

static const struct argp_option option_list[] = {
    {"device", 'd', "D", 0,
     "cuda, cuda:1, opencl:0, cpu, ... (default: the best found; see devices)", 0},
    {"dtype", 't', "TYPE", 0, "f32, bf16, f16 or all (default f32)", 0},
    {"filter", 'f', "TEXT", 0,
     "only cases whose title contains TEXT, such as \"matmul\" or \"norm/model f32\"", 0},
    {"seconds", 's', "X", 0, "for each case (default 0.5)", 0},
    {"json", 'j', "FILE", 0, "write the figures as JSON, too", 0},
    {"host", 'H', NULL, 0, "instead of ops, updates on the host beside memcpy; no device is needed",
     0},
    {0},
};

static error_t parse_option(int key, char *text, struct argp_state *state) {
    bench_options *o = state->input;
    char *end;
    switch (key) {
    case 'd':
        o->device = text;
        return 0;
    case 'j':
        o->json = text;
        return 0;
    case 'H':
        o->host = true;
        return 0;
    case 'f':
        o->filter = text;
        return 0;
    case 's':
        o->seconds = strtod(text, &end);
        if (end == text || *end || !(o->seconds > 0 && o->seconds < 1000))
            argp_error(state, "--seconds is \"%s\"; expected a number above 0 and below 1000",
                       text);
        return 0;
    case 't':
        o->dtypes = 0;
        for (int d = 0; d < BRIM_I32; d++)
            if (!strcmp(text, "all") || !strcmp(text, brim_dtype_name((brim_dtype)d)))
                o->dtypes |= 1u << d;
        if (!o->dtypes)
            argp_error(state, "--dtype is \"%s\"; expected f32, bf16, f16 or all", text);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static void run(bench *s, report *r) {
    compile_target *t = &s->target;
    if (failed(s->err)) return;
    if (backend_open(s->options.device ? s->options.device : "auto", &(device_settings){0},
                     &t->backend, &t->device, s->err))
        return;
    s->traits = t->backend->traits(t->device);
    if (!t->backend->profile) {
        brim_fail(s->err, BRIM_UNSUPPORTED, "the backend %s does not tell a record's time",
                  t->backend->name);
        return;
    }
    if (s->traits->cpu) s->library = host_library_open(s->traits->compute_units);
    const char *library = t->backend->matmul_library(t->device);
    print_machine(s->traits, library);
    if (s->library)
        printf("ceiling of matrix products: %s alone, %d threads\n", host_library_name(s->library),
               s->traits->compute_units);
    report_machine(r, s->traits, library);
    timed_graph_plan(&s->copy, copy_graph(machine_copy_bytes, s->err), t, s->err);
    list_cases(s);
    if (!failed(s->err)) reserve(s);
    if (!failed(s->err)) measure_machine(s, r);
    run_cases(s, r);
}

static void clean_up(bench *s) {
    for (int i = 0; i < s->count; i++) {
        timed_graph_free(&s->cases[i].op, &s->target);
        timed_graph_free(&s->cases[i].ceiling, &s->target);
    }
    timed_graph_free(&s->copy, &s->target);
    free(s->cases);
    host_library_close(s->library);
    if (s->target.device) s->target.backend->close(s->target.device);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    bench s = {.options = {.dtypes = 1u << BRIM_F32, .seconds = 0.5}, .err = &err};
    argp_parse(&(struct argp){option_list, parse_option, NULL, description, 0, 0, 0}, argc, argv, 0,
               0, &s.options);
    report r = report_begin(s.options.json, &err);
    if (s.options.host)
        host_updates_measure(s.options.seconds, s.options.filter, &r, &err);
    else
        run(&s, &r);
    report_end(&r);
    clean_up(&s);
    return brim_error_report(&err);
}
