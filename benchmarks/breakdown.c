#include "benchmarks/breakdown.h"

#include <stdlib.h>
#include <string.h>
#include "benchmarks/case_work.h"
#include "core/alloc.h"

// ---- names --------------------------------------------------------------------------------------

static void append(char *text, size_t size, const char *more) {
    size_t length = strlen(text);
    snprintf(text + length, size - length, "%s%s", length ? " " : "", more);
}

// "fused: add gelu [8, 256, 1536]"
static void name_chain(const brim_graph *g, const graph_node *node, char *out, size_t size) {
    const chain *c = node->attr.chain;
    char steps[44] = "", extents[40];
    for (int i = 0; i < c->steps; i++)
        if (c->step[i].op != OP_CONSTANT) append(steps, sizeof steps, op_table[c->step[i].op].name);
    shape_print(&g->value[node->first_output].shape, extents, sizeof extents);
    snprintf(out, size, "%s %s", steps, extents);
}

static void name_product(const matmul_shape *s, char *out, size_t size) {
    char batch[24] = "";
    if (s->batch > 1) snprintf(batch, sizeof batch, "%lld of ", (long long)s->batch);
    snprintf(out, size, "matmul %s%lld x %lld x %lld %c%c", batch, (long long)s->m, (long long)s->n,
             (long long)s->k, s->transpose_a ? 't' : 'n', s->transpose_b ? 't' : 'n');
}

static void name_record(const compiled *c, int32_t i, char *out, size_t size) {
    const program_record *r = &c->lowered.program->record[i];
    if (r->node < 0) {
        snprintf(out, size, "staging %s", record_kind_name(r->kind));
        return;
    }
    const graph_node *node = &c->graph->node[r->node];
    char extents[40];
    shape_print(&c->graph->value[node->first_output].shape, extents, sizeof extents);
    if (r->kind == RECORD_MATMUL)
        name_product(&r->as.matmul.shape, out, size);
    else if (node->op == OP_FUSED)
        name_chain(c->graph, node, out, size);
    else
        snprintf(out, size, "%s %s", op_table[node->op].name, extents);
}

// ---- work ---------------------------------------------------------------------------------------

static double floor_of(op_id op, double bytes, double flops, ceiling_rates rates) {
    if (op == OP_MATMUL || op == OP_LINEAR_CROSS_ENTROPY || op == OP_LINEAR_CROSS_ENTROPY_BACKWARD)
        return flops / rates.product;
    if (op == OP_ATTENTION || op == OP_ATTENTION_BACKWARD) return flops / (rates.product / 2);
    return bytes / rates.copy;
}

// A node's work counts with the first of its records.
static void add_work(breakdown_row *row, const compiled *c, int32_t i, int32_t runs,
                     ceiling_rates rates) {
    const program_record *r = c->lowered.program->record;
    double bytes = 0, flops = 0;
    op_id op = OP_COPY;
    if (r[i].node < 0) {
        bytes = 2 * (double)r[i].access[0].range.bytes;
    } else if (i == 0 || r[i - 1].node != r[i].node) {
        const graph_node *node = &c->graph->node[r[i].node];
        op = node->op;
        bytes = node_bytes(c->graph, node);
        flops = node_flops(c->graph, node);
    }
    row->bytes += runs * bytes;
    row->flops += runs * flops;
    row->floor += runs * floor_of(op, bytes, flops, rates);
}

// ---- rows ---------------------------------------------------------------------------------------

static breakdown_row *find_row(breakdown *b, const char *what) {
    for (int32_t i = 0; i < b->rows; i++)
        if (strcmp(b->row[i].what, what) == 0) return &b->row[i];
    breakdown_row *row = &b->row[b->rows++];
    snprintf(row->what, sizeof row->what, "%s", what);
    return row;
}

static int longer_first(const void *a, const void *b) {
    double x = ((const breakdown_row *)a)->seconds, y = ((const breakdown_row *)b)->seconds;
    return (x < y) - (x > y);
}

brim_status breakdown_make(const compiled *c, const double *record, const int32_t *runs,
                           ceiling_rates ceilings, breakdown *out, brim_error *err) {
    *out = (breakdown){0};
    const program *p = c->lowered.program;
    out->row = brim_calloc_array((size_t)p->records, sizeof *out->row, err);
    if (!out->row) return err->status;
    for (int32_t i = 0; i < p->records; i++) {
        if (!runs[i]) continue;
        char what[80];
        name_record(c, i, what, sizeof what);
        breakdown_row *row = find_row(out, what);
        row->seconds += record[i];
        row->launches += runs[i];
        out->seconds += record[i];
        add_work(row, c, i, runs[i], ceilings);
    }
    for (int32_t i = 0; i < out->rows; i++) out->floor += out->row[i].floor;
    qsort(out->row, (size_t)out->rows, sizeof *out->row, longer_first);
    return BRIM_OK;
}

void breakdown_free(breakdown *b) {
    free(b->row);
    *b = (breakdown){0};
}

void breakdown_print(const breakdown *b) {
    printf("%-62s %7s %5s %9s %6s %8s %8s %8s %8s\n", "records", "ms", "runs", "us each", "share",
           "GB/s", "GFLOP/s", "floor ms", "above it");
    for (int32_t i = 0; i < b->rows; i++) {
        const breakdown_row *r = &b->row[i];
        char flops[16] = "-";
        if (r->flops > 0) snprintf(flops, sizeof flops, "%.1f", r->flops / r->seconds * 1e-9);
        printf("%-62s %7.2f %5d %9.1f %5.1f%% %8.2f %8s %8.2f %8.2f\n", r->what, r->seconds * 1e3,
               r->launches, r->seconds / r->launches * 1e6, 100 * r->seconds / b->seconds,
               r->bytes / r->seconds * 1e-9, flops, r->floor * 1e3, (r->seconds - r->floor) * 1e3);
    }
    printf("%-62s %7.2f %5s %9s %6s %8s %8s %8.2f %8.2f\n", "all records", b->seconds * 1e3, "", "",
           "", "", "", b->floor * 1e3, (b->seconds - b->floor) * 1e3);
}

void breakdown_report(const breakdown *b, report *r) {
    report_number(r, "records_seconds", b->seconds);
    report_number(r, "floor_seconds", b->floor);
    report_open(r, "records", '[');
    for (int32_t i = 0; i < b->rows; i++) {
        const breakdown_row *row = &b->row[i];
        report_open(r, NULL, '{');
        report_text(r, "what", row->what);
        report_number(r, "seconds", row->seconds);
        report_number(r, "runs", row->launches);
        report_number(r, "bytes", row->bytes);
        report_number(r, "flops", row->flops);
        report_number(r, "floor_seconds", row->floor);
        report_close(r, '}');
    }
    report_close(r, ']');
}
