#include "tests/node_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "tests/harness.h"

static void note_error(node_check *c, op_id op, const oracle_tensor *t, int64_t i, double device) {
    double allowed = oracle_tolerance(t, i), error = fabs(device - t->data[i]);
    if (allowed > 0 && isfinite(error) && error / allowed > c->worst[op])
        c->worst[op] = error / allowed;
}

static int64_t extent(const node_check *c, value_id v, int axis) {
    const shape *s = &c->graph->value[v].shape;
    return s->dim[axis < 0 ? s->rank + axis : axis];
}

// The terms of a product's sums, at most.
static int64_t terms(const node_check *c, const graph_node *node) {
    const value_id *in = node->input;
    if (node->op == OP_MATMUL) return extent(c, in[0], node->attr.matmul.transpose_a ? -2 : -1);
    if (node->op != OP_LINEAR_CROSS_ENTROPY && node->op != OP_LINEAR_CROSS_ENTROPY_BACKWARD)
        return 0;
    int64_t tokens = shape_elements(&c->graph->value[in[2]].shape), classes = extent(c, in[1], 0);
    return tokens > classes ? tokens : classes;
}

static bool accepts(const node_check *c, const graph_node *node, const oracle_tensor *t, int64_t i,
                    double device) {
    if (oracle_accepts(t, i, device)) return true;
    double more = c->long_sums ? (double)terms(c, node) - ORACLE_C : 0;
    return more > 0 && fabs(device - t->data[i]) <=
                           oracle_tolerance(t, i) + more * ORACLE_UNIT * t->magnitude[i];
}

// How many elements could be anything: a tolerance that is large beside all of the tensor finds
// nothing.
static void note_bounds(node_check *c, const oracle_tensor *t) {
    double largest = 0;
    for (int64_t i = 0; i < t->count; i++)
        if (isfinite(t->data[i])) largest = fmax(largest, fabs(t->data[i]));
    for (int64_t i = 0; i < t->count; i++) {
        c->not_finite += !isfinite(t->data[i]);
        c->loose += largest > 0 && oracle_tolerance(t, i) > largest / 16 + 0x1p-24;
    }
    c->elements += t->count;
}

static void compare(node_check *c, const graph_node *node, int output, const oracle_tensor *t,
                    const double *device) {
    node_difference d = {.node = node,
                         .value = node->first_output + output,
                         .output = output,
                         .expected = t,
                         .first = -1};
    note_bounds(c, t);
    for (int64_t i = 0; i < t->count; i++) {
        note_error(c, node->op, t, i, device[i]);
        if (accepts(c, node, t, i, device[i])) continue;
        if (!d.wrong++) d.first = i, d.device = device[i];
    }
    if (d.wrong) c->differs(&d, c->user);
}

static void check_node(node_check *c, oracle *o, node_id n, brim_error *err) {
    const graph_node *node = &c->graph->node[n];
    if (oracle_run_node(o, n, err)) return;
    for (int j = 0; j < node->outputs; j++) {
        value_id v = node->first_output + j;
        int64_t count = o->value[v].count;
        double *device = brim_calloc_array((size_t)count, sizeof *device, err);
        if (!device) return;
        harness_to_numbers(o->value[v].dtype, c->of[v], device, count);
        compare(c, node, j, &o->value[v], device);
        oracle_set(o, v, device, err);
        free(device);
    }
}

brim_status node_check_run(node_check *c, brim_error *err) {
    oracle *o = failed(err) ? NULL : oracle_create(c->graph, err);
    if (!o) return err->status;
    o->round = true;
    o->first_micro = !c->later_micro_batch;
    leaf_values_set(c->leaves, o, err);
    for (node_id n = 0; n < c->graph->nodes && !failed(err); n++) {
        value_id first = c->graph->node[n].first_output;
        if (first < c->values && c->of[first]) check_node(c, o, n, err);
    }
    oracle_free(o);
    return err->status;
}

void node_difference_print(const node_difference *d, char *text, size_t size) {
    char dims[160];
    const oracle_tensor *t = d->expected;
    snprintf(text, size,
             "output %d of %s (value %d, %s %s): %lld of %lld elements; element %lld is %.9g, "
             "%.9g +- %.3g expected",
             d->output, op_table[d->node->op].name, d->value, brim_dtype_name(t->dtype),
             shape_print(&t->shape, dims, sizeof dims), (long long)d->wrong, (long long)t->count,
             (long long)d->first, d->device, t->data[d->first], oracle_tolerance(t, d->first));
}

bool node_check_same_bits(brim_dtype dtype, const void *a, const void *b, int64_t count) {
    size_t size = brim_dtype_bytes(dtype);
    for (int64_t i = 0; i < count; i++) {
        const char *x = (const char *)a + (size_t)i * size, *y = (const char *)b + (size_t)i * size;
        double values[2];
        if (memcmp(x, y, size) == 0) continue;
        harness_to_numbers(dtype, x, &values[0], 1);
        harness_to_numbers(dtype, y, &values[1], 1);
        if (!isnan(values[0]) || !isnan(values[1])) return false;
    }
    return true;
}
