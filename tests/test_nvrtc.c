// Every kernel in every specialisation that GPUs use, compiled by NVRTC for the architectures that
// users have: no error, and no local memory (stack frames, spilled registers) that is not on the
// written list, nvrtc_local.def. Needs the compiler only, no GPU.
#include <brim/nn.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "tests/skips.h"
#include "tests/test_core.h"

#ifdef BRIM_CUDA_BUILT
#include "backends/cuda/device.h"
#include "backends/lower.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"
#include "core/strbuf.h"
#include "graph/passes.h"
#include "optim/training_graph.h"
#include "tests/op_cases.h"

static const int architectures[] = {75, 80, 86, 89, 90, 120};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures, THREADS = 2 };
enum { CHAIN_OPERANDS = 24, PACK = 16, MEMORY = 1 << 30 };

static brim_error err;

// ---- a GPU that is not there --------------------------------------------------------------------

static const device_traits *pretended_traits(const backend_device *d) {
    return &d->traits;
}
static bool pretended_native(backend_device *d, const matmul_shape *s) {
    (void)s;
    return !d->settings.no_native;
}
static brim_status pretended_workspace(backend_device *d, const matmul_shape *s, int64_t *bytes,
                                       brim_error *e) {
    (void)d, (void)s;
    *bytes = 0;
    return e->status;
}
static const backend pretended = {.name = "pretended",
                                  .traits = pretended_traits,
                                  .matmul_native = pretended_native,
                                  .matmul_workspace = pretended_workspace};

static backend_device pretend(int group) {
    return (backend_device){.settings.no_native = true, // our own product, too
                            .traits = {.vec = 4,
                                       .group = group,
                                       .max_group = 1024,
                                       .local_bytes = 48 << 10,
                                       .alignment = 256,
                                       .compute_units = 80,
                                       .exact_f32 = true,
                                       .memory_bytes = MEMORY}};
}

// ---- the kernels in use -------------------------------------------------------------------------

// One program gathers the kernels of all others.
static void gather(program *all, const program *p) {
    for (int i = 0; i < p->kernels; i++) {
        const kernel_spec *k = &p->kernel[i];
        bool known = false;
        for (int j = 0; j < all->kernels && !known; j++)
            known = !strcmp(all->kernel[j].name, k->name) &&
                    !strcmp(all->kernel[j].defines, k->defines) &&
                    !strcmp(all->kernel[j].source, k->source);
        if (!known) program_add_kernel(all, k, &err);
    }
}

static brim_graph *run_passes(brim_graph *g, int64_t micro_batches) {
    brim_graph *(*const first[])(const brim_graph *, brim_error *) = {pass_prune, pass_densify};
    for (int i = 0; i < 2 && !err.status; i++) {
        brim_graph *next = first[i](g, &err);
        brim_graph_free(g);
        g = next;
    }
    if (!err.status) pass_sections(g, micro_batches, &err);
    brim_graph *fused = err.status ? NULL : pass_fuse(g, true, CHAIN_OPERANDS, &err);
    brim_graph_free(g);
    return fused;
}

// Takes the graph over.
static void gather_graph(program *all, brim_graph *g, int32_t micro_batches,
                         backend_device *device) {
    graph_schedule schedule = {0};
    graph_layout layout = {0};
    memory_plan plan = {0};
    lowered made = {0};
    g = run_passes(g, micro_batches);
    ASSERT_FINE(err);
    graph_schedule_make(g, &schedule, &err);
    graph_layout_make(g, &schedule, &layout, &err);
    workspace_request workspace = {&layout, &pretended, device, &err};
    plan_request request = {.alignment = device->traits.alignment,
                            .workspace = lower_workspace_bytes,
                            .user = &workspace};
    memory_plan_make(g, &layout, &schedule, &request, &plan, &err);
    lower_graph(g, &layout, &schedule, &plan, micro_batches, &pretended, device, &made, &err);
    ASSERT_FINE(err);
    gather(all, made.program);
    lowered_free(&made);
    memory_plan_free(&plan);
    graph_layout_free(&layout);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}

static void gather_case(program *all, const op_case *c, brim_dtype dtype, backend_device *device) {
    op_case_graph made;
    brim_value cotangent, loss, gradient[OP_CASE_LEAVES];
    brim_graph *g = brim_graph_create(&err);
    op_case_build(c, g, dtype, &made);
    ASSERT_FINE(err);
    if (op_table[c->op].derivative == DERIVATIVE_RULE && made.smooth)
        op_case_differentiate(&made, &cotangent, &loss, gradient);
    ASSERT_FINE(err);
    brim_output(made.result, "result");
    g->phase = PHASE_BACKWARD; // of the copies that outputs may need
    if (op_table[c->op].derivative == DERIVATIVE_RULE && made.smooth)
        for (int i = 0; i < made.leaves; i++)
            if (gradient[i].id >= 0) {
                char name[20];
                snprintf(name, sizeof name, "gradient%d", i);
                brim_output(gradient[i], name);
            }
    gather_graph(all, g, 1, device);
}

// A transformer of two blocks with all that trains in it: dropout, clipping, several micro-batches.
static brim_loss build_model(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const int64_t width = *(const int64_t *)user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_value x = brim_embedding(tokens, "wte", 211, width, (brim_init){BRIM_NORMAL, 0.02f});
    x = brim_dropout(x, 0.1);
    for (int i = 0; i < 2; i++) {
        brim_scope_push(g, "h.%d", i);
        brim_value y = brim_self_attention(brim_layer_norm(x, "ln_1", 0), "attn", width / 64, NULL);
        x = brim_add(x, brim_dropout(y, 0.1));
        y = brim_gelu(brim_linear(brim_layer_norm(x, "ln_2", 0), "up", 4 * width));
        x = brim_add(x, brim_linear(y, "down", width));
        brim_scope_pop(g);
    }
    x = brim_rms_norm(x, "ln_f", 0);
    return brim_cross_entropy(brim_linear(x, "head", 211), targets, -100);
}

static void gather_training(program *all, brim_precision precision, brim_optimizer_kind kind,
                            backend_device *device) {
    int64_t width = 128;
    brim_trainer_options options = {.batch = 2,
                                    .length = 40,
                                    .accumulate = 3,
                                    .precision = precision,
                                    .optimizer = {.kind = kind, .clip = 1, .weight_decay = 0.1f}};
    options = training_options(&options, &err);
    brim_graph *g = training_graph(build_model, &width, &options, &err);
    ASSERT_FINE(err);
    gather_graph(all, g, 3, device);
}

// Training in every precision, and the ops at the sizes that benchmarks use: for every
// architecture. The small and odd sizes of the tests differ in what the language makes of them, not
// the architecture: for the first one only.
static program *kernels_in_use(bool odd_sizes) {
    program *all;
    program_create(&all, &err);
    ASSERT_FINE(err);
    backend_device device = pretend(256);
    for (int p = BRIM_PRECISION_F32; p <= BRIM_PRECISION_F16; p++)
        gather_training(all, (brim_precision)p, BRIM_ADAMW, &device);
    gather_training(all, BRIM_PRECISION_F32, BRIM_SGD, &device);
    for (int c = 0; c < op_case_count; c++) {
        bool benchmark = op_cases[c].uses & OP_CASE_BENCH;
        if (!benchmark && !odd_sizes) continue;
        gather_case(all, &op_cases[c], BRIM_F32, &device);
        if (benchmark && op_cases[c].dtypes >> BRIM_BF16 & 1)
            gather_case(all, &op_cases[c], BRIM_BF16, &device);
    }
    return all;
}

// ---- compiling ----------------------------------------------------------------------------------

// Compilations: a generated kernel is short, so many of one set of defines make one.
typedef struct compilation {
    kernel_spec spec;
    char *text, *log;
    brim_error err;
} compilation;

typedef struct job {
    cuda_compiler nvrtc;
    compilation *item;
    int items;
} job;

static void append_renamed(strbuf *out, const kernel_spec *k, int number) {
    strbuf_printf(out,
                  "#define %s %s__%d\n#define %s_body %s_body__%d\n%s#undef %s\n#undef %s_body\n",
                  k->name, k->name, number, k->name, k->name, number, k->source, k->name, k->name);
}

static void add_compilation(job *j, const kernel_spec *spec, char *text) {
    compilation *c = &j->item[j->items++];
    c->spec = *spec;
    c->text = text;
    if (text) c->spec.source = text;
}

static void pack(job *j, const program *all) {
    bool *done = brim_calloc_array((size_t)all->kernels, sizeof *done, &err);
    j->item = brim_calloc_array((size_t)all->kernels, sizeof *j->item, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < all->kernels; i++) {
        const kernel_spec *k = &all->kernel[i];
        if (done[i]) continue;
        if (strcmp(k->file, "chain")) {
            for (int other = i; other < all->kernels;
                 other++) // entries of one text come out of one compilation
                done[other] = done[other] || (!strcmp(all->kernel[other].source, k->source) &&
                                              !strcmp(all->kernel[other].defines, k->defines));
            add_compilation(j, k, NULL);
            continue;
        }
        strbuf text = {.err = &err};
        for (int other = i, count = 0; other < all->kernels && count < PACK; other++) {
            const kernel_spec *o = &all->kernel[other];
            if (done[other] || strcmp(o->file, "chain") || strcmp(o->defines, k->defines)) continue;
            append_renamed(&text, o, count++);
            done[other] = true;
        }
        add_compilation(j, k, strbuf_take(&text));
        ASSERT_FINE(err);
    }
    free(done);
}

static void compile_one(void *context, int item) {
    job *j = context;
    cuda_image image = {0};
    if (cuda_compile(&j->nvrtc, &j->item[item].spec, true, &image, &j->item[item].err))
        j->item[item].log = image.log;
    free(image.data);
}

// ---- what the compiler says ---------------------------------------------------------------------

static int allowed_bytes(const char *entry) {
    static const struct {
        const char *entry;
        int bytes;
    } list[] = {
#define LOCAL(entry, bytes, why) {#entry, bytes},
#include "tests/nvrtc_local.def"
#undef LOCAL
        {"", 0}};
    size_t length = strcspn(entry, "'\n ");
    const char *number = strstr(entry, "__"); // of a packed kernel
    if (number && (size_t)(number - entry) < length) length = (size_t)(number - entry);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strlen(list[i].entry) == length && !strncmp(list[i].entry, entry, length))
            return list[i].bytes;
    return 0;
}

// "Function properties for NAME", then "N bytes stack frame, N bytes spill stores, N bytes spill
// loads".
static int check_log(const compilation *c, int architecture, int *functions) {
    static const char marker[] = "Function properties for ";
    int bad = 0;
    for (const char *at = c->log; at && (at = strstr(at, marker));) {
        const char *name = at += strlen(marker);
        int stack = -1, stores = 0, loads = 0;
        const char *numbers = strchr(at, '\n');
        if (numbers) numbers += strcspn(numbers, "0123456789");
        if (!numbers ||
            sscanf(numbers, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                   &stack, &stores, &loads) != 3)
            ck_abort_msg("the compiler's log has another form: %.200s", name);
        ++*functions;
        if (stack <= allowed_bytes(name) && stores + loads <= stack) continue;
        printf("sm_%d: %.*s (%s, %s): %d bytes stack frame, %d spilled, %d loaded again\n",
               architecture, (int)strcspn(name, "'\n"), name, c->spec.file, c->spec.defines, stack,
               stores, loads);
        bad++;
    }
    return bad;
}

static void compile_all(int architecture, const program *all) {
    job j = {0};
    int bad = 0, functions = 0;
    cuda_compiler_open(&j.nvrtc, 0, architecture, &err);
    ASSERT_FINE(err);
    snprintf(j.nvrtc.architecture, sizeof j.nvrtc.architecture, "sm_%d", architecture);
    pack(&j, all);
    worker_pool *pool = worker_pool_create(THREADS, &err);
    ASSERT_FINE(err);
    worker_pool_run(pool, j.items, compile_one, &j);
    worker_pool_free(pool);
    for (int i = 0; i < j.items; i++) {
        if (j.item[i].err.status) printf("sm_%d: %s\n", architecture, j.item[i].err.text);
        bad += j.item[i].err.status ? 1 : check_log(&j.item[i], architecture, &functions);
        free(j.item[i].text);
        free(j.item[i].log);
    }
    free(j.item);
    cuda_compiler_close(&j.nvrtc);
    ck_assert_msg(!bad, "%d kernels fail for sm_%d", bad, architecture);
    ck_assert_int_ge(functions, all->kernels);
}

static bool compiler_is_there(void) {
    cuda_compiler nvrtc;
    brim_error missing = {0};
    bool there = cuda_compiler_open(&nvrtc, 0, 90, &missing);
    if (there) cuda_compiler_close(&nvrtc);
    return there;
}

START_TEST(kernels_compile) {
    if (!compiler_is_there()) {
        skip(SKIP_no_nvrtc);
        return;
    }
    err = (brim_error){0};
    program *all = kernels_in_use(_i == 0);
    ck_assert_int_gt(all->kernels, 50);
    compile_all(architectures[_i], all);
    program_free(all);
}
END_TEST
#else
enum { ARCHITECTURES = 1 };
START_TEST(kernels_compile) {
    skip(SKIP_no_cuda_headers);
}
END_TEST
#endif

Suite *nvrtc_suite(void) {
    Suite *suite = suite_create("nvrtc");
    TCase *all = tcase_create("architectures");
    tcase_set_timeout(all, 600);
    tcase_add_loop_test(all, kernels_compile, 0, ARCHITECTURES);
    suite_add_tcase(suite, all);
    return suite;
}
