#include "optim/training_graph.h"

#include <stdlib.h>
#include "autograd/autograd.h"
#include "core/alloc.h"
#include "graph/passes.h"

// A trained parameter on its way from gradient to update.
typedef struct trained {
    value_id parameter;
    brim_value gradient;
    parameter_rule rule;
    bool halved; // its gradient is bf16
} trained;

static bool is_scalar_f32(brim_value v, const brim_graph *g) {
    return v.graph == g && v.id >= 0 && v.id < g->values && g->value[v.id].dtype == BRIM_F32 &&
           g->value[v.id].shape.rank == 0;
}

brim_graph *forward_graph(brim_builder build, void *user, int64_t batch, int64_t length,
                          bool training, brim_precision precision, brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    if (!g) return NULL;
    g->training = training;
    brim_loss loss = build(g, batch, length, user);
    bool has_loss = training || loss.sum.graph || loss.count.graph;
    if (!failed(err) && has_loss && (!is_scalar_f32(loss.sum, g) || !is_scalar_f32(loss.count, g)))
        brim_fail(err, BRIM_GRAPH,
                  "the builder's loss must be a sum and a count of its own graph, both scalar f32");
    if (!failed(err) && has_loss) {
        g->loss.sum = loss.sum.id;
        g->loss.count = loss.count.id;
    }
    static const brim_dtype low[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    if (!failed(err) && precision != BRIM_PRECISION_F32) {
        brim_graph *cast = pass_cast(g, low[precision], err);
        brim_graph_free(g);
        g = cast;
    }
    if (failed(err)) {
        brim_graph_free(g);
        return NULL;
    }
    return g;
}

// Parameters that the options leave trainable, in order of creation.
static int list_trained(const brim_graph *g, const brim_trainer_options *options, trained *out) {
    int count = 0;
    for (value_id id = 0; id < g->values; id++) {
        const graph_value *v = &g->value[id];
        if (v->role != ROLE_PARAMETER) continue;
        parameter_rule rule = training_parameter_rule(options, v->name, v->shape.rank);
        if (!rule.frozen) out[count++] = (trained){id, GRAPH_INVALID, rule};
    }
    return count;
}

// Where the user has traded exactness for memory already, by states as 8-bit blocks, a gradient
// that bf16 products make is bf16. Sums over micro-batches stay f32, and so do gradients with f16,
// whose range is small.
static void choose_gradients(const brim_graph *g, const brim_trainer_options *o, trained *list,
                             int count) {
    if (o->precision != BRIM_PRECISION_BF16 || o->accumulate > 1) return;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (node->op != OP_CAST || g->value[node->first_output].dtype != BRIM_BF16) continue;
        for (int i = 0; i < count; i++) {
            if (list[i].parameter != node->input[0]) continue;
            int64_t elements = shape_elements(&g->value[list[i].parameter].shape);
            list[i].halved = optimizer_states(&o->optimizer, elements).op == OP_ADAMW_Q8;
        }
    }
}

// Differentiates and keeps the parameters that the loss depends on; returns their number.
static int differentiate(brim_graph *g, brim_value seed, trained *list, int count,
                         brim_error *err) {
    value_id *wrt = brim_calloc_array((size_t)count, sizeof *wrt, err);
    brim_dtype *dtype = brim_calloc_array((size_t)count, sizeof *dtype, err);
    brim_value *gradient = brim_calloc_array((size_t)count, sizeof *gradient, err);
    int kept = 0;
    if (wrt && dtype && gradient) {
        for (int i = 0; i < count; i++) {
            wrt[i] = list[i].parameter;
            dtype[i] = list[i].halved ? BRIM_BF16 : BRIM_F32;
        }
        autograd_differentiate_as(g, graph_value_of(g, g->loss.sum), seed, wrt, dtype, count,
                                  gradient, err);
        for (int i = 0; i < count && !failed(err); i++) {
            if (gradient[i].id < 0) continue;
            list[kept] = list[i];
            list[kept++].gradient = gradient[i];
        }
    }
    free(wrt);
    free(dtype);
    free(gradient);
    return kept;
}

static const char *leaf_name(brim_graph *g, const char *base, const char *suffix) {
    return arena_printf(g->memory, g->err, "%s/%s", base, suffix);
}

// The sum of x over the micro-batches of a step.
static brim_value accumulated(brim_graph *g, brim_value x, const char *name) {
    if (x.id < 0) return x;
    value_id variable =
        graph_leaf(g, ROLE_ACCUMULATOR, g->value[x.id].dtype, &g->value[x.id].shape, name);
    return graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, variable), x}, 2, NULL);
}

// The norm of all gradients as they are: one fixed tree, a sum for each parameter and then their
// sum.
static brim_value gradient_norm(brim_graph *g, const trained *list, int count) {
    brim_value *squares = brim_calloc_array((size_t)count, sizeof *squares, g->err);
    if (!squares) return GRAPH_INVALID;
    for (int i = 0; i < count; i++) {
        brim_value x = list[i].gradient;
        brim_attr all = {.reduce = {.axes = (1u << brim_rank(x)) - 1, .keep = false}};
        brim_scope_push(g, "%s", g->value[list[i].parameter].name); // for messages
        squares[i] = brim_reshape(graph_op(g, OP_SUM_SQUARES, &x, 1, &all), 1);
        brim_scope_pop(g);
    }
    brim_value norm = brim_sqrt(brim_sum(brim_concat(squares, count, 0), NULL, 0, false));
    free(squares);
    return norm;
}

typedef struct step_scalars {
    brim_value norm, scale, applied, lr, bias1, bias2;
} step_scalars;

// scale takes a summed, loss-scaled gradient to the clipped gradient of the mean loss.
static step_scalars step_scalars_of(brim_graph *g, const brim_trainer_options *options,
                                    brim_value sum, brim_value count, brim_value loss_scale,
                                    const trained *list, int trained_count) {
    brim_value one = brim_constant(g, 1);
    step_scalars s;
    // A step without any target has gradients of zero; dividing by 1 keeps them so.
    brim_value mean = brim_div(one, brim_mul(brim_maximum(count, one), loss_scale));
    s.norm = brim_mul(gradient_norm(g, list, trained_count), mean);
    s.scale = mean;
    if (options->optimizer.clip > 0) { // as torch.nn.utils.clip_grad_norm_
        brim_value limit = brim_div(brim_constant(g, options->optimizer.clip),
                                    brim_add(s.norm, brim_constant(g, 1e-6)));
        s.scale = brim_mul(mean, brim_minimum(limit, one));
    }
    s.applied = brim_mul(brim_is_finite(s.norm), brim_is_finite(sum));
    s.lr = graph_control(g, CONTROL_LR);
    s.bias1 = graph_control(g, CONTROL_BIAS1);
    s.bias2 = graph_control(g, CONTROL_BIAS2);
    return s;
}

static brim_value state_of(brim_graph *g, value_id parameter, const char *suffix, state_form form) {
    shape s = g->value[parameter].shape;
    int64_t blocks = state_blocks(shape_elements(&s));
    if (form == STATE_CODES) s = (shape){1, {blocks * STATE_BLOCK_WORDS}};
    if (form == STATE_SCALES) s = (shape){1, {blocks}};
    const char *name = leaf_name(g, g->value[parameter].name, suffix);
    brim_dtype dtype = form == STATE_CODES ? BRIM_I32 : BRIM_F32;
    return graph_value_of(g, graph_leaf(g, ROLE_STATE, dtype, &s, name));
}

static void update(brim_graph *g, const brim_trainer_options *options, const trained *t,
                   const step_scalars *s) {
    enum { MOST_INPUTS = 11 };
    const brim_optimizer *o = &options->optimizer;
    optimizer_layout layout = optimizer_states(o, shape_elements(&g->value[t->parameter].shape));
    bool adamw = o->kind == BRIM_ADAMW;
    brim_value in[MOST_INPUTS] = {graph_value_of(g, t->parameter)};
    int count = 1;
    for (int i = 0; i < layout.states; i++)
        in[count++] = state_of(g, t->parameter, layout.state[i].suffix, layout.state[i].form);
    in[count++] = t->gradient;
    in[count++] = s->scale;
    in[count++] = s->lr;
    if (adamw) in[count++] = s->bias1, in[count++] = s->bias2;
    in[count++] = s->applied;
    brim_attr attr = {.optimizer = {.beta1 = adamw ? o->beta1 : o->momentum,
                                    .beta2 = adamw ? o->beta2 : 0,
                                    .eps = o->eps,
                                    .decay = t->rule.decay,
                                    .lr_scale = t->rule.lr_scale}};
    graph_op(g, layout.op, in, count, &attr);
}

static void append_update(brim_graph *g, const brim_trainer_options *options, trained *list,
                          int count) {
    brim_value loss_sum = graph_value_of(g, g->loss.sum),
               loss_count = graph_value_of(g, g->loss.count);
    brim_value loss_scale = options->precision == BRIM_PRECISION_F16
                                ? graph_control(g, CONTROL_LOSS_SCALE)
                                : brim_constant(g, 1);
    choose_gradients(g, options, list, count);
    g->phase = PHASE_BACKWARD;
    count = differentiate(g, loss_scale, list, count, g->err);
    if (!failed(g->err) && count == 0)
        brim_fail(g->err, BRIM_GRAPH, "the loss depends on no parameter that may be trained");
    if (failed(g->err)) return;

    g->phase = PHASE_UPDATE;
    if (options->accumulate > 1) {
        loss_sum = accumulated(g, loss_sum, "loss.sum/total");
        loss_count = accumulated(g, loss_count, "loss.count/total");
        for (int i = 0; i < count; i++)
            list[i].gradient = accumulated(g, list[i].gradient,
                                           leaf_name(g, g->value[list[i].parameter].name, "grad"));
    }
    step_scalars s = step_scalars_of(g, options, loss_sum, loss_count, loss_scale, list, count);
    brim_output(loss_sum, "loss.sum");
    brim_output(loss_count, "loss.count");
    brim_output(s.norm, "grad_norm");
    brim_output(s.applied, "applied");
    for (int i = 0; i < count; i++) update(g, options, &list[i], &s);
}

brim_graph *training_graph(brim_builder build, void *user, const brim_trainer_options *options,
                           brim_error *err) {
    brim_graph *g =
        forward_graph(build, user, options->batch, options->length, true, options->precision, err);
    if (!g) return NULL;
    // The script's named outputs are for programs of its own; in training they would only hold
    // memory.
    g->results = 0;
    trained *list = brim_calloc_array((size_t)g->values, sizeof *list, err);
    if (list) append_update(g, options, list, list_trained(g, options, list));
    free(list);
    if (failed(err)) {
        brim_graph_free(g);
        return NULL;
    }
    return g;
}
