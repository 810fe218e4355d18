// Constructors of attention, gathers, positions and dropout.
#include <math.h>
#include "graph/build.h"

brim_value brim_gather(brim_value table, brim_value ids) {
    brim_value operands[] = {table, ids};
    brim_graph *g = graph_of("embedding", operands, 2);
    return graph_op(g, OP_EMBEDDING, operands, 2, NULL);
}

brim_value brim_attention(brim_value q, brim_value k, brim_value v,
                          const brim_attention_options *options) {
    static const brim_attention_options defaults;
    const brim_attention_options *o = options ? options : &defaults;
    brim_value operands[] = {q, k, v, o->segments};
    int count = graph_given(o->segments) ? 4 : 3;
    brim_graph *g = graph_of("attention", operands, count);
    if (!g) return GRAPH_INVALID;
    int rank = brim_rank(q);
    double size = rank ? (double)brim_dim(q, rank - 1) : 1;
    brim_attr attr = {
        .attention = {!o->bidirectional, o->scale != 0 ? o->scale : (float)(1 / sqrt(size))}};
    return graph_op(g, OP_ATTENTION, operands, count, &attr);
}

brim_value brim_rotary(brim_value x, double base, brim_value positions) {
    return brim_rotary_scaled(x, base, NULL, positions);
}

brim_value brim_rotary_scaled(brim_value x, double base, const brim_rotary_scaling *scaling,
                              brim_value positions) {
    brim_value operands[] = {x, positions};
    int count = graph_given(positions) ? 2 : 1;
    brim_graph *g = graph_of("rotary", operands, count);
    brim_attr attr = {.rotary = {.base = base}};
    if (scaling && scaling->factor != 0) attr.rotary.scaling = *scaling;
    return graph_op(g, OP_ROTARY, operands, count, &attr);
}

brim_value brim_dropout(brim_value x, double p) {
    brim_graph *g = graph_of("dropout", &x, 1);
    if (!g) return GRAPH_INVALID;
    if (!(p >= 0 && (float)p < 1))
        return graph_refuse(g, BRIM_ARGUMENT, "dropout", &x, 1, "p is %g, 0 <= p < 1 is expected",
                            p);
    if (p == 0 || !g->training) return x;
    brim_attr attr = {.dropout = {(float)p, g->dropouts++}};
    brim_value operands[4] = {x};
    for (int i = 0; i < 3; i++)
        operands[i + 1] = graph_control(g, (control_slot)(CONTROL_SEED + i));
    return graph_op(g, OP_DROPOUT, operands, 4, &attr);
}
