// Programs as they were: what graphs become for three devices that are not there, down to each
// argument of each kernel, at sizes that no test could run. What a program computes other suites
// check; here is seen what changes no result: how work is cut, what is fused, which copies are
// made.
//
// A line of tests/fixtures/programs.txt is for the cases of an op in one dtype, or for a random
// graph: how many nodes there are, how many kernels and records, and checksums of the texts. The
// texts of a line that begins so:
//
//     BRIM_TEST_PRINT="attention bf16" build/bin/run_tests program_fixture
#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <brim/graph.h>
#include "autograd/autograd.h"
#include "backends/lower.h"
#include "core/checksum.h"
#include "core/dtype.h"
#include "graph/passes.h"
#include "tests/lines_as_they_were.h"
#include "tests/op_cases.h"
#include "tests/random_graph.h"
#include "tests/stub_device.h"
#include "tests/test_core.h"

// ---- devices ------------------------------------------------------------------------------------

enum { DEVICES = 3 };
static backend_device devices[DEVICES] = {
    {.traits = {.name = "cpu",
                .cpu = true,
                .vec = 16,
                .group = 1,
                .max_group = 64,
                .alignment = 64,
                .compute_units = 6,
                .local_bytes = 1 << 15},
     .native = true},
    {.traits = {.name = "gpu",
                .vec = 4,
                .group = 256,
                .max_group = 1024,
                .alignment = 256,
                .compute_units = 28,
                .local_bytes = 48 << 10},
     .native = true,
     .element_workspace = 1},
    {.traits = {.name = "small",
                .vec = 1,
                .group = 64,
                .max_group = 64,
                .alignment = 16,
                .compute_units = 3,
                .local_bytes = 1 << 14},
     .element_workspace = 1},
};

// ---- texts --------------------------------------------------------------------------------------

// What is said of a line: of its graphs, and for each device of its programs.
typedef struct texts {
    FILE *out[1 + DEVICES];
    char *bytes[1 + DEVICES];
    size_t size[1 + DEVICES];
    int nodes, kernels[DEVICES], records[DEVICES];
} texts;

static brim_error err;

static void texts_open(texts *t) {
    *t = (texts){0};
    for (int i = 0; i <= DEVICES; i++)
        ck_assert_ptr_nonnull(t->out[i] = open_memstream(&t->bytes[i], &t->size[i]));
}

static uint64_t sum_of(const char *bytes, size_t size) {
    checksum sum = checksum_start();
    checksum_add(&sum, bytes, size);
    return checksum_value(&sum);
}

static void texts_close(texts *t, const char *title, lines_as_they_were *lines) {
    const char *print = getenv("BRIM_TEST_PRINT");
    char line[LINE_BYTES];
    for (int i = 0; i <= DEVICES; i++) {
        fclose(t->out[i]);
        if (print && strcmp(print, title) == 0) fputs(t->bytes[i], stdout);
    }
    int used = snprintf(line, sizeof line, "%s: %d nodes %016" PRIx64, title, t->nodes,
                        sum_of(t->bytes[0], t->size[0]));
    for (int i = 0; i < DEVICES; i++)
        used += snprintf(line + used, sizeof line - (size_t)used,
                         ", %s %d kernels %d records %016" PRIx64, devices[i].traits.name,
                         t->kernels[i], t->records[i], sum_of(t->bytes[1 + i], t->size[1 + i]));
    for (int i = 0; i <= DEVICES; i++) free(t->bytes[i]);
    lines_next(lines, line);
}

// ---- from a graph to programs -------------------------------------------------------------------

static brim_graph *replace(brim_graph *old, brim_graph *next) {
    brim_graph_free(old);
    ASSERT_FINE(err);
    return next;
}

static void lower_for(int i, const brim_graph *g, const graph_layout *layout,
                      const graph_schedule *schedule, int micro_batches, texts *t) {
    backend_device *d = &devices[i];
    FILE *out = t->out[1 + i];
    workspace_request workspace = {layout, &stub_backend, d, &err};
    plan_request request = {
        .alignment = d->traits.alignment, .workspace = lower_workspace_bytes, .user = &workspace};
    memory_plan plan = {0};
    lowered low = {0};
    memory_plan_make(g, layout, schedule, &request, &plan, &err);
    lower_graph(g, layout, schedule, &plan, micro_batches, &stub_backend, d, &low, &err);
    if (failed(&err)) { // more than a grid can have, say
        fprintf(out, "%s\n", err.text);
        err = (brim_error){0};
    } else {
        const program *p = low.program;
        program_print(p, out);
        for (int k = 0; k < p->kernels; k++)
            if (strcmp(p->kernel[k].file, "chain") == 0) fputs(p->kernel[k].source, out);
        t->kernels[i] += p->kernels;
        t->records[i] += p->records;
    }
    lowered_free(&low);
    memory_plan_free(&plan);
}

// Takes the graph.
static void describe(brim_graph *g, int micro_batches, texts *t) {
    ASSERT_FINE(err);
    brim_graph_print(g, t->out[0]);
    g = replace(g, pass_prune(g, &err));
    g = replace(g, pass_densify(g, &err));
    pass_sections(g, micro_batches, &err);
    g = replace(g, pass_fuse(g, true, 24, &err));
    brim_graph_print(g, t->out[0]);
    t->nodes += g->nodes;
    graph_schedule schedule = {0};
    graph_layout layout = {0};
    graph_schedule_make(g, &schedule, &err);
    graph_layout_make(g, &schedule, &layout, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < DEVICES; i++) lower_for(i, g, &layout, &schedule, micro_batches, t);
    graph_layout_free(&layout);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}

// ---- what is lowered ----------------------------------------------------------------------------

// The case alone; and its gradients, of all leaves and of each alone.
static void describe_case(const op_case *c, brim_dtype dtype, int micro_batches, texts *t) {
    int floats = 1;
    for (int only = -2; only < floats; only++) {
        brim_graph *g = brim_graph_create(&err);
        op_case_graph made;
        op_case_build(c, g, dtype, &made);
        ASSERT_FINE(err);
        value_id wrt[OP_CASE_LEAVES];
        floats = 0;
        for (int i = 0; i < made.leaves; i++)
            if (dtype_is_float(made.leaf[i].dtype)) wrt[floats++] = made.x[i].id;
        if (only == -2) {
            if (made.result.id >= 0) brim_output(brim_cast(made.result, BRIM_F32), "result");
            describe(g, micro_batches, t);
            if (op_table[c->op].derivative == DERIVATIVE_NONE) return;
            continue;
        }
        brim_value cotangent, loss, gradient[OP_CASE_LEAVES];
        shape s = g->value[made.result.id].shape;
        cotangent = brim_input_dims(g, "cotangent", BRIM_F32, s.rank, s.dim);
        loss = brim_sum(brim_mul(brim_cast(made.result, BRIM_F32), cotangent), NULL, 0, false);
        int count = only < 0 ? floats : 1;
        autograd_differentiate(g, loss, brim_constant(g, 1), only < 0 ? wrt : &wrt[only], count,
                               gradient, &err);
        g->phase = PHASE_BACKWARD; // where a result is no value of its own it is copied
        for (int i = 0; i < count; i++) {
            char name[20];
            snprintf(name, sizeof name, "gradient%d", i);
            if (gradient[i].id >= 0) brim_output(gradient[i], name);
        }
        describe(g, micro_batches, t);
    }
}

START_TEST(programs_are_what_they_were) {
    lines_as_they_were lines = lines_open("programs.txt");
    for (op_id op = 0; op < OP_COUNT; op++)
        for (brim_dtype dtype = 0; dtype < (brim_dtype)BRIM_DTYPE_COUNT; dtype++) {
            texts t;
            int cases = 0;
            for (int i = 0; i < op_case_count; i++) {
                if (op_cases[i].op != op || !(op_cases[i].dtypes >> dtype & 1)) continue;
                if (!cases) texts_open(&t);
                describe_case(&op_cases[i], dtype, cases++ % 2 ? 3 : 1, &t);
            }
            char title[80];
            snprintf(title, sizeof title, "%s %s", op_table[op].name, brim_dtype_name(dtype));
            if (cases) texts_close(&t, title, &lines);
        }
    lines_close(&lines);
}
END_TEST

START_TEST(programs_of_random_graphs_are_what_they_were) {
    enum { GRAPHS = 100 };
    lines_as_they_were lines = lines_open("random_programs.txt");
    for (int i = 0; i < GRAPHS; i++) {
        static recipe r;
        recipe_graph made = {0};
        random_graph(&r, (uint64_t)i,
                     &(random_graph_kind){.most_steps = 12, .most_elements = 100000});
        recipe_build(&r, &made, &err);
        ASSERT_FINE(err);
        texts t;
        texts_open(&t);
        int micro_batches = 1 + (int)r.more_micro_batches;
        brim_graph *g = made.graph;
        made.graph = NULL;
        recipe_graph_free(&made);
        describe(g, micro_batches, &t);
        char title[40];
        snprintf(title, sizeof title, "random %d", i);
        texts_close(&t, title, &lines);
    }
    lines_close(&lines);
}
END_TEST

Suite *program_fixture_suite(void) {
    Suite *suite = suite_create("program_fixture");
    TCase *tests = tcase_create("program_fixture");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, programs_are_what_they_were);
    tcase_add_test(tests, programs_of_random_graphs_are_what_they_were);
    suite_add_tcase(suite, tests);
    return suite;
}
