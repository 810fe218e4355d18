#include "tests/op_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "tests/node_check.h"

typedef struct checked_case {
    const op_case *what;
    op_case_graph made;
    brim_value gradient[OP_CASE_LEAVES];
    value_id first, end; // its values
    bool failed;
} checked_case;

// The cases of one program.
typedef struct batch {
    harness *h;
    op_check_report *report;
    brim_dtype dtype;
    brim_error err;
    brim_graph *g;
    int cases;
    checked_case one[OP_CHECK_CASES];
    leaf_values leaves;
    bool *all, *ends; // values wanted in the first run and in the second
    harness_results first, second;
} batch;

static void complain(op_check_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void complain(op_check_report *report, const char *format, ...) {
    size_t used = strlen(report->text);
    va_list arguments;
    va_start(arguments, format);
    if (used + 200 < sizeof report->text)
        vsnprintf(report->text + used, sizeof report->text - used, format, arguments);
    va_end(arguments);
}

static void fail_case(batch *b, checked_case *c) {
    if (!c->failed) b->report->failures++;
    c->failed = true;
}

static checked_case *case_of(batch *b, value_id v) {
    for (int i = 0; i < b->cases; i++)
        if (v >= b->one[i].first && v < b->one[i].end) return &b->one[i];
    return &b->one[0];
}

// Making a program -------------------------------------------------------------------------------

static void add_case(batch *b, const op_case *what) {
    checked_case *c = &b->one[b->cases++];
    *c = (checked_case){.what = what, .first = b->g->values};
    for (int i = 0; i < OP_CASE_LEAVES; i++) c->gradient[i] = GRAPH_INVALID;
    if (!op_case_build(what, b->g, b->dtype, &c->made)) return;
    brim_value cotangent, loss;
    if (op_table[what->op].derivative != DERIVATIVE_NONE)
        op_case_differentiate(&c->made, &cotangent, &loss, c->gradient);
    c->end = b->g->values;
}

static void fill_leaves(batch *b) {
    b->leaves = leaf_values_make(b->g, NULL, 1, &b->err);
    for (int i = 0; i < b->cases && !failed(&b->err); i++)
        for (int k = 0; k < b->one[i].made.leaves; k++)
            op_case_fill(&b->one[i].made.leaf[k], 1, b->leaves.of[b->one[i].made.x[k].id]);
}

static void choose_values(batch *b) {
    b->all = brim_calloc_array((size_t)b->g->values, sizeof *b->all, &b->err);
    b->ends = brim_calloc_array((size_t)b->g->values, sizeof *b->ends, &b->err);
    if (failed(&b->err)) return;
    for (value_id v = 0; v < b->g->values; v++) b->all[v] = b->g->value[v].role == ROLE_RESULT;
    for (int i = 0; i < b->cases; i++) {
        const checked_case *c = &b->one[i];
        for (int k = 0; k < c->made.leaves; k++)
            if (c->gradient[k].id >= 0) b->ends[c->gradient[k].id] = true;
        b->ends[c->made.result.id] = true;
    }
    for (value_id v = 0; v < b->g->values; v++) b->ends[v] &= b->g->value[v].role == ROLE_RESULT;
}

// Comparing --------------------------------------------------------------------------------------

static void take_difference(const node_difference *d, void *user) {
    batch *b = user;
    checked_case *c = case_of(b, d->value);
    char title[100], text[500];
    node_difference_print(d, text, sizeof text);
    complain(b->report, "%s: %s\n", op_case_title(c->what, b->dtype, title, sizeof title), text);
    fail_case(b, c);
}

// Each node by itself, from the inputs that the device had.
static void compare_nodes(batch *b) {
    node_check check = {.graph = b->g,
                        .leaves = &b->leaves,
                        .of = b->first.of,
                        .values = b->first.values,
                        .differs = take_difference,
                        .user = b};
    node_check_run(&check, &b->err);
    b->report->elements += check.elements;
    for (int op = 0; op < OP_COUNT; op++)
        b->report->worst[op] = fmax(b->report->worst[op], check.worst[op]);
}

static void compare_runs(batch *b) {
    for (value_id v = 0; v < b->first.values; v++) {
        if (!b->ends[v]) continue;
        const graph_value *value = &b->g->value[v];
        if (b->first.of[v] && b->second.of[v] &&
            node_check_same_bits(value->dtype, b->first.of[v], b->second.of[v],
                                 shape_elements(&value->shape)))
            continue;
        checked_case *c = case_of(b, v);
        char title[100];
        complain(b->report,
                 "%s: value %d has other bits when chains are fused and storages used again\n",
                 op_case_title(c->what, b->dtype, title, sizeof title), v);
        fail_case(b, c);
    }
}

static void free_batch(batch *b) {
    harness_results_free(&b->first);
    harness_results_free(&b->second);
    leaf_values_free(&b->leaves);
    brim_graph_free(b->g);
    free(b->all);
    free(b->ends);
}

// Runs cases together; false, with the error in the batch, where that cannot be done.
static bool run_batch(batch *b, const op_case *const *cases, int count) {
    b->g = brim_graph_create(&b->err);
    for (int i = 0; i < count && !failed(&b->err); i++) add_case(b, cases[i]);
    if (!failed(&b->err)) fill_leaves(b);
    if (!failed(&b->err)) choose_values(b);
    int32_t values = b->g ? b->g->values : 0;
    harness_options apart = {.fuse = false}, fused = {.fuse = true};
    if (!failed(&b->err)) harness_run(b->h, b->g, &b->leaves, b->all, &apart, &b->first, &b->err);
    if (!failed(&b->err) && b->g->values != values)
        brim_fail(&b->err, BRIM_GRAPH, "naming a value made a new one");
    if (!failed(&b->err)) compare_nodes(b);
    if (!failed(&b->err)) harness_run(b->h, b->g, &b->leaves, b->ends, &fused, &b->second, &b->err);
    if (!failed(&b->err)) compare_runs(b);
    return !failed(&b->err);
}

static batch *make_batch(harness *h, brim_dtype dtype, op_check_report *report) {
    brim_error err = {0};
    batch *b = brim_calloc_array(1, sizeof *b, &err);
    if (!b) return NULL;
    b->h = h;
    b->dtype = dtype;
    b->report = report;
    return b;
}

static void run_alone(harness *h, const op_case *c, brim_dtype dtype, op_check_report *report) {
    batch *b = make_batch(h, dtype, report);
    if (!b) return;
    char title[100];
    if (!run_batch(b, &c, 1)) {
        complain(report, "%s: %s\n", op_case_title(c, dtype, title, sizeof title), b->err.text);
        if (b->cases)
            fail_case(b, &b->one[0]);
        else
            report->failures++;
    }
    free_batch(b);
    free(b);
}

void op_check_case(harness *h, const op_case *c, brim_dtype dtype, op_check_report *report) {
    report->cases++;
    run_alone(h, c, dtype, report);
}

void op_check_cases(harness *h, const op_case *const *cases, int count, brim_dtype dtype,
                    op_check_report *report) {
    report->cases += count;
    if (!count) return;
    int failures = report->failures;
    size_t text = strlen(report->text);
    batch *b = make_batch(h, dtype, report);
    if (!b) return;
    bool done = run_batch(b, cases, count);
    if (!done) {
        // Each by itself, to name the one that is to blame.
        report->failures = failures;
        report->text[text] = '\0';
        for (int i = 0; i < count; i++) run_alone(h, cases[i], dtype, report);
        if (report->failures == failures) {
            complain(report, "%s %s, all cases together: %s\n", op_table[cases[0]->op].name,
                     brim_dtype_name(dtype), b->err.text);
            report->failures++;
        }
    }
    free_batch(b);
    free(b);
}

void op_check(harness *h, op_id op, brim_dtype dtype, op_check_report *report) {
    const op_case *cases[OP_CHECK_CASES];
    int count = 0;
    for (int i = 0; i < op_case_count && count < OP_CHECK_CASES; i++) {
        const op_case *c = &op_cases[i];
        if (c->op == op && (c->uses & OP_CASE_TEST) && c->dtypes >> dtype & 1) cases[count++] = c;
    }
    op_check_cases(h, cases, count, dtype, report);
}
