#include "tests/kernels_in_use.h"

#include <brim/nn.h>
#include <string.h>
#include "backends/lower.h"
#include "graph/passes.h"
#include "optim/training_graph.h"
#include "tests/op_cases.h"

enum { CHAIN_OPERANDS = 24 };

// ---- a device that is not there -----------------------------------------------------------------

const device_traits pretended_gpu = {.vec = 4,
                                     .group = 256,
                                     .max_group = 1024,
                                     .local_bytes = 48 << 10,
                                     .alignment = 256,
                                     .compute_units = 80,
                                     .exact_f32 = true,
                                     .memory_bytes = 1 << 30};

struct backend_device {
    const device_traits *traits;
};

static const device_traits *pretended_traits(const backend_device *d) {
    return d->traits;
}
static bool pretended_native(backend_device *d, const matmul_shape *s) {
    (void)d, (void)s;
    return false;
}
static brim_status pretended_workspace(backend_device *d, const matmul_shape *s, int64_t *bytes,
                                       brim_error *err) {
    (void)d, (void)s;
    *bytes = 0;
    return err->status;
}
static const backend pretended = {.name = "pretended",
                                  .traits = pretended_traits,
                                  .matmul_native = pretended_native,
                                  .matmul_workspace = pretended_workspace};

// ---- from a graph to its kernels ----------------------------------------------------------------

typedef struct gatherer {
    program *all; // one program gathers the kernels of all others
    backend_device device;
    brim_error *err;
} gatherer;

static void gather(gatherer *g, const program *p) {
    for (int i = 0; i < p->kernels; i++) {
        const kernel_spec *k = &p->kernel[i];
        bool known = false;
        for (int j = 0; j < g->all->kernels && !known; j++)
            known = !strcmp(g->all->kernel[j].name, k->name) &&
                    !strcmp(g->all->kernel[j].defines, k->defines) &&
                    !strcmp(g->all->kernel[j].source, k->source);
        if (!known) program_add_kernel(g->all, k, g->err);
    }
}

static brim_graph *make_copies(const brim_graph *g, brim_error *err) {
    return pass_compute_copies(g, NULL, err);
}

// Takes the graph over.
static brim_graph *run_passes(brim_graph *g, int64_t micro_batches, brim_error *err) {
    brim_graph *(*const first[])(const brim_graph *, brim_error *) = {pass_prune, make_copies,
                                                                      pass_densify};
    for (int i = 0; i < 3 && !failed(err); i++) {
        brim_graph *next = first[i](g, err);
        brim_graph_free(g);
        g = next;
    }
    if (!failed(err)) pass_sections(g, micro_batches, err);
    brim_graph *fused = failed(err) ? NULL : pass_fuse(g, true, CHAIN_OPERANDS, err);
    brim_graph_free(g);
    return fused;
}

// Takes the graph over.
static void gather_graph(gatherer *into, brim_graph *g, int32_t micro_batches) {
    brim_error *err = into->err;
    graph_schedule schedule = {0};
    graph_layout layout = {0};
    memory_plan plan = {0};
    lowered made = {0};
    workspace_request workspace = {&layout, &pretended, &into->device, err};
    plan_request request = {.alignment = into->device.traits->alignment,
                            .workspace = lower_workspace_bytes,
                            .user = &workspace};
    g = run_passes(g, micro_batches, err);
    if (!failed(err)) graph_schedule_make(g, &schedule, err);
    if (!failed(err)) graph_layout_make(g, &schedule, &layout, err);
    if (!failed(err)) memory_plan_make(g, &layout, &schedule, &request, &plan, err);
    if (!failed(err))
        lower_graph(g, &layout, &schedule, &plan, micro_batches, &pretended, &into->device, &made,
                    err);
    if (!failed(err)) gather(into, made.program);
    lowered_free(&made);
    memory_plan_free(&plan);
    graph_layout_free(&layout);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}

// ---- ops ----------------------------------------------------------------------------------------

// The case's result and the gradients of its leaves, as results of the graph.
static void build_case(brim_graph *g, const op_case *c, brim_dtype dtype) {
    op_case_graph made;
    brim_value cotangent, loss, gradient[OP_CASE_LEAVES];
    if (!op_case_build(c, g, dtype, &made)) return;
    bool backward = op_table[c->op].derivative == DERIVATIVE_RULE && made.smooth;
    if (backward && !op_case_differentiate(&made, &cotangent, &loss, gradient)) return;
    brim_output(made.result, "result");
    g->phase = PHASE_BACKWARD; // of the copies that outputs may need
    for (int i = 0; backward && i < made.leaves; i++) {
        char name[20];
        snprintf(name, sizeof name, "gradient%d", i);
        if (gradient[i].id >= 0) brim_output(gradient[i], name);
    }
}

static void gather_case(gatherer *into, const op_case *c, brim_dtype dtype) {
    if (failed(into->err)) return;
    brim_graph *g = brim_graph_create(into->err);
    if (!g) return;
    build_case(g, c, dtype);
    gather_graph(into, g, 1);
    if (!failed(into->err)) return;
    char title[96];
    brim_error_prefix(into->err, "%s", op_case_title(c, dtype, title, sizeof title));
}

// ---- training -----------------------------------------------------------------------------------

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

static void gather_training(gatherer *into, brim_precision precision, brim_optimizer_kind kind) {
    int64_t width = 128;
    brim_trainer_options options = {.batch = 2,
                                    .length = 40,
                                    .accumulate = 3,
                                    .precision = precision,
                                    .optimizer = {.kind = kind, .clip = 1, .weight_decay = 0.1f}};
    if (failed(into->err)) return;
    options = training_options(&options, into->err);
    brim_graph *g = training_graph(build_model, &width, &options, into->err);
    if (g) gather_graph(into, g, 3);
}

static brim_dtype first_dtype(const op_case *c) {
    int dtype = BRIM_F32;
    while (!(c->dtypes >> dtype & 1)) dtype++;
    return (brim_dtype)dtype;
}

program *kernels_in_use(const device_traits *traits, bool odd_sizes, brim_error *err) {
    gatherer into = {.device.traits = traits, .err = err};
    if (program_create(&into.all, err)) return NULL;
    for (int p = BRIM_PRECISION_F32; p <= BRIM_PRECISION_F16; p++)
        gather_training(&into, (brim_precision)p, BRIM_ADAMW);
    gather_training(&into, BRIM_PRECISION_F32, BRIM_SGD);
    gather_training(&into, BRIM_PRECISION_BF16, BRIM_SGD);
    for (int c = 0; c < op_case_count; c++) {
        bool benchmark = op_cases[c].uses & OP_CASE_BENCH;
        if (!benchmark && !odd_sizes) continue;
        gather_case(&into, &op_cases[c], first_dtype(&op_cases[c]));
        if (benchmark && op_cases[c].dtypes >> BRIM_BF16 & 1)
            gather_case(&into, &op_cases[c], BRIM_BF16);
    }
    if (!failed(err)) return into.all;
    program_free(into.all);
    return NULL;
}
