// The text form of a graph: a line for each leaf and node, in order of value ids, then outputs and
// the loss.
//
//   %1 = parameter "wte.weight" [512,384] f32 normal(0.02) -> %90
//   %12 = matmul(%3, %7, transpose_b) [8,256,384] bf16 h.0.attn
//   %13, %14 = rms_norm(%12, %2, 1e-05) [8,256,384] bf16, [8,256] f32 h.0.ln ; backward
//   %90 = matmul(%88, %7, transpose_b) [8,256,384] bf16 h.0.attn ; backward, recomputes %12
#include <inttypes.h>
#include <stdlib.h>
#include "graph/build.h"

static void print_shape(const shape *s, FILE *out) {
    fputc('[', out);
    for (int i = 0; i < s->rank && i < BRIM_MAX_DIMS; i++)
        fprintf(out, i ? ",%" PRId64 : "%" PRId64, s->dim[i]);
    fputc(']', out);
}

// The shortest decimal that reads back as the same number.
static void print_double(double x, FILE *out) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    fputs(text, out);
}

static void print_float(float x, FILE *out) {
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    fputs(text, out);
}

static void print_type(const graph_value *v, FILE *out) {
    print_shape(&v->shape, out);
    fprintf(out, " %s", brim_dtype_name(v->dtype));
}

// Attributes --------------------------------------------------------------------------------------

static void print_chain(const chain *c, FILE *out) {
    for (int i = 0; i < c->steps; i++) {
        const chain_step *step = &c->step[i];
        const op_info *info = &op_table[step->op];
        fprintf(out, "%st%d = %s(", i ? "; " : "", i, info->name);
        for (int k = 0; k < info->inputs; k++) {
            int from = step->operand[k];
            fputs(k ? ", " : "", out);
            fprintf(out, "%c%d", from >= 0 ? 't' : 'a', from >= 0 ? from : ~from);
        }
        if (info->attr == ATTR_SCALARS) {
            fputs(info->inputs ? ", " : "", out);
            print_float(step->scalar[0], out);
            if (step->op == OP_CLAMP) {
                fputs(", ", out);
                print_float(step->scalar[1], out);
            }
        }
        fprintf(out, ") %s", brim_dtype_name(step->dtype));
    }
    fputs("; out", out);
    for (int i = 0; i < c->outputs; i++) fprintf(out, " t%d", c->output[i]);
}

static void print_axis_set(const brim_graph *g, const graph_node *n, FILE *out) {
    const shape *s = &g->value[n->input[0]].shape;
    fputs("axes", out);
    for (int i = 0; i < s->rank; i++) {
        if (n->attr.reduce.axes >> i & 1) fprintf(out, " %d", i);
    }
    if (n->attr.reduce.keep) fputs(", keep", out);
}

static void print_optimizer(const brim_attr *a, FILE *out) {
    const struct {
        const char *name;
        float value;
    } field[] = {
        {"beta1 ", a->optimizer.beta1},         {", beta2 ", a->optimizer.beta2},
        {", eps ", a->optimizer.eps},           {", decay ", a->optimizer.decay},
        {", lr_scale ", a->optimizer.lr_scale},
    };
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        fputs(field[i].name, out);
        print_float(field[i].value, out);
    }
}

static void print_scalars(const graph_node *n, FILE *out) {
    print_float(n->attr.scalar[0], out);
    if (n->op != OP_CLAMP) return;
    fputs(", ", out);
    print_float(n->attr.scalar[1], out);
}

// True if the node's attributes have something to print.
static bool prints_attr(const graph_node *n) {
    op_attr_kind kind = op_table[n->op].attr;
    if (kind == ATTR_MATMUL) return n->attr.matmul.transpose_a || n->attr.matmul.transpose_b;
    return kind != ATTR_NONE;
}

static void print_scaling(const brim_rotary_scaling *s, FILE *out) {
    if (s->factor == 0) return;
    const double values[] = {s->factor, s->low, s->high, s->length};
    static const char *const before[] = {", slower by ", " from ", " to ", " turns in "};
    for (int i = 0; i < 4; i++) {
        fputs(before[i], out);
        print_double(values[i], out);
    }
}

static void print_attr(const brim_graph *g, const graph_node *n, FILE *out) {
    const brim_attr *a = &n->attr;
    int rank = n->inputs ? g->value[n->input[0]].shape.rank : 0;
    switch (op_table[n->op].attr) {
    case ATTR_NONE:
        break;
    case ATTR_SCALARS:
        print_scalars(n, out);
        break;
    case ATTR_CHAIN:
        print_chain(a->chain, out);
        break;
    case ATTR_PERMUTE:
        fputs("axes", out);
        for (int i = 0; i < rank; i++) fprintf(out, " %d", a->axes[i]);
        break;
    case ATTR_SLICE:
        fputs("start", out);
        for (int i = 0; i < rank; i++) fprintf(out, " %" PRId64, a->start[i]);
        break;
    case ATTR_AXIS:
        fprintf(out, "axis %d", a->axis);
        break;
    case ATTR_MATMUL:
        fprintf(out, "%s%s%s", a->matmul.transpose_a ? "transpose_a" : "",
                a->matmul.transpose_a && a->matmul.transpose_b ? ", " : "",
                a->matmul.transpose_b ? "transpose_b" : "");
        break;
    case ATTR_REDUCE:
        print_axis_set(g, n, out);
        break;
    case ATTR_TARGETS:
        fprintf(out, "ignore %d", a->targets.ignore);
        break;
    case ATTR_CHUNKED_TARGETS:
        fprintf(out, "ignore %d, chunk %" PRId64, a->chunked_targets.ignore,
                a->chunked_targets.chunk);
        break;
    case ATTR_ATTENTION:
        fputs(a->attention.causal ? "causal, scale " : "scale ", out);
        print_float(a->attention.scale, out);
        break;
    case ATTR_ROWS:
        fprintf(out, "rows %" PRId64, a->rows);
        break;
    case ATTR_ROTARY:
        fputs("base ", out);
        print_double(a->rotary.base, out);
        fputs(a->rotary.inverse ? ", inverse" : "", out);
        print_scaling(&a->rotary.scaling, out);
        break;
    case ATTR_DROPOUT:
        fputs("p ", out);
        print_float(a->dropout.p, out);
        fprintf(out, ", stream %u", (unsigned)a->dropout.stream);
        break;
    case ATTR_OPTIMIZER:
        print_optimizer(a, out);
        break;
    }
}

// Lines -------------------------------------------------------------------------------------------

static void print_leaf(const brim_graph *g, value_id id, FILE *out) {
    static const char *const init[] = {"zeros", "ones", "normal", "uniform"};
    const graph_value *v = &g->value[id];
    fprintf(out, "%%%d = %s \"%s\" ", id, role_names[v->role], v->name ? v->name : "");
    print_type(v, out);
    if (v->role == ROLE_PARAMETER) {
        fprintf(out, " %s", init[v->init.kind]);
        if (v->init.kind >= BRIM_NORMAL) {
            fputc('(', out);
            print_float(v->init.scale, out);
            fputc(')', out);
        }
    }
    if (v->update >= 0) fprintf(out, " -> %%%d", v->update);
    fputc('\n', out);
}

// What is not the default: a phase after the forward one, sections other than all, and what is
// computed again.
static void print_remarks(const brim_graph *g, const graph_node *n, FILE *out) {
    static const char *const phase[] = {"forward", "backward", "update"};
    static const char *const section[] = {"first", "middle", "last"};
    const char *between = " ; ";
    if (n->phase != PHASE_FORWARD) {
        fprintf(out, "%s%s", between, phase[n->phase]);
        between = ", ";
    }
    for (int i = 0; i < 3 && n->sections != SECTION_ALL; i++) {
        if (!(n->sections >> i & 1)) continue;
        fprintf(out, "%s%s", between, section[i]);
        between = "+";
    }
    if (!n->recomputed) return;
    fputs(", recomputes", out);
    for (int k = 0; k < n->outputs; k++) {
        value_id original = g->value[n->first_output + k].original;
        if (original >= 0) fprintf(out, " %%%d", original);
    }
}

static void print_node(const brim_graph *g, const graph_node *n, FILE *out) {
    for (int k = 0; k < n->outputs; k++) fprintf(out, "%s%%%d", k ? ", " : "", n->first_output + k);
    fprintf(out, " = %s(", op_table[n->op].name);
    for (int k = 0; k < n->inputs; k++) fprintf(out, "%s%%%d", k ? ", " : "", n->input[k]);
    if (n->inputs && prints_attr(n)) fputs(", ", out);
    print_attr(g, n, out);
    fputs(") ", out);
    for (int k = 0; k < n->outputs; k++) {
        fputs(k ? ", " : "", out);
        print_type(&g->value[n->first_output + k], out);
    }
    if (*n->scope) fprintf(out, " %s", n->scope);
    print_remarks(g, n, out);
    fputc('\n', out);
}

void brim_graph_print(const brim_graph *g, FILE *out) {
    if (!g || !out) return;
    for (value_id id = 0; id < g->values; id++) {
        const graph_value *v = &g->value[id];
        if (v->role != ROLE_RESULT)
            print_leaf(g, id, out);
        else if (v->output == 0)
            print_node(g, &g->node[v->producer], out);
    }
    for (int32_t i = 0; i < g->results; i++)
        fprintf(out, "output \"%s\" = %%%d\n", g->value[g->result[i]].name, g->result[i]);
    if (g->loss.sum >= 0) fprintf(out, "loss = %%%d / %%%d\n", g->loss.sum, g->loss.count);
}
