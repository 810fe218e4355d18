// The walk over the schedule, and the staging area around it.
#include "backends/lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/size.h"

enum { STAGING_ALIGNMENT = 64, CONTROL_BYTES = 4 };

int64_t lower_workspace_bytes(const brim_graph *g, node_id node, void *user) {
    const workspace_request *request = user;
    workspace_rule rule = kernel_table[g->node[node].op].workspace;
    if (!rule || failed(request->err)) return 0;
    lowering l = {.graph = g,
                  .layout = request->layout,
                  .backend = request->backend,
                  .device = request->device,
                  .traits = request->backend->traits(request->device),
                  .node = &g->node[node],
                  .node_index = node,
                  .err = request->err};
    return rule(&l);
}

// ---- staging ------------------------------------------------------------------------------------

static int64_t place_staging(int64_t *end, int64_t bytes, brim_error *err) {
    int64_t offset = *end, next;
    if (!i64_add(offset, bytes, &next) || !i64_align(next, STAGING_ALIGNMENT, &next)) {
        brim_fail(err, BRIM_MEMORY, "the inputs of a step do not fit into 64-bit sizes");
        return offset;
    }
    *end = next;
    return offset;
}

static staging_place *make_places(const lowering *l, const value_id *ids, int32_t count,
                                  int64_t *end) {
    staging_place *places = brim_calloc_array((size_t)count, sizeof *places, l->err);
    for (int32_t i = 0; i < count && places; i++) {
        operand x = lower_value(l, ids[i]);
        places[i] =
            (staging_place){ids[i], place_staging(end, x.range.bytes, l->err), x.range.bytes};
    }
    return places;
}

static value_id *find_inputs(const brim_graph *g, int32_t *count, brim_error *err) {
    value_id *ids = brim_calloc_array((size_t)g->values, sizeof *ids, err);
    *count = 0;
    for (value_id v = 0; v < g->values && ids; v++)
        if (g->value[v].role == ROLE_INPUT) ids[(*count)++] = v;
    return ids;
}

// Inputs and control of every micro-batch, then the results.
static void lay_out_staging(lowering *l, lowered *out) {
    int64_t end = 0, all, base = l->plan->peak_bytes[SPACE_HOST];
    out->staging = place_staging(&base, 0, l->err);
    value_id *ids = find_inputs(l->graph, &out->inputs, l->err);
    if (ids) out->input = make_places(l, ids, out->inputs, &end);
    free(ids);
    out->control_offset = place_staging(&end, CONTROL_COUNT * CONTROL_BYTES, l->err);
    out->slot_bytes = end;
    if (!i64_mul(end, l->micro_batches, &all))
        brim_fail(l->err, BRIM_MEMORY,
                  "the inputs of %d micro-batches do not fit into 64-bit sizes", l->micro_batches);
    else
        end = all;
    out->results = l->graph->results;
    out->result = make_places(l, l->graph->result, out->results, &end);
    if (!i64_add(out->staging, end, &l->program->host_bytes))
        brim_fail(l->err, BRIM_MEMORY, "the host space does not fit into 64-bit sizes");
}

static void stage_in(lowering *l, const lowered *out, int64_t at, byte_range to,
                     int64_t host_stride, const char *name) {
    lower_staged_copy(l, (byte_range){SPACE_HOST, out->staging + at, to.bytes}, to, host_stride,
                      name);
}

// Control values lie side by side, in the order of their slots: what is between the first and the
// last one used is one copy, the same way in the staging area.
static void copy_control(lowering *l, const lowered *out, int64_t stride) {
    const graph_value *value = l->graph->value;
    byte_range block = {SPACE_DEVICE, -1, 0};
    int first = CONTROL_COUNT, last = -1;
    for (value_id v = 0; v < l->graph->values; v++) {
        if (value[v].role != ROLE_CONTROL) continue;
        int slot = value[v].control;
        int64_t base = lower_value(l, v).offset - slot * CONTROL_BYTES;
        if (last >= 0 && base != block.offset) {
            brim_fail(l->err, BRIM_GRAPH, "control values do not lie in one block");
            return;
        }
        block.offset = base;
        if (slot < first) first = slot;
        if (slot > last) last = slot;
    }
    if (last < 0) return;
    block.offset += first * CONTROL_BYTES;
    block.bytes = (last - first + 1) * CONTROL_BYTES;
    stage_in(l, out, out->control_offset + first * CONTROL_BYTES, block, stride, "control");
}

static void copy_inputs(lowering *l, const lowered *out) {
    int64_t stride = l->micro_batches > 1 ? out->slot_bytes : 0;
    for (int32_t i = 0; i < out->inputs; i++) {
        const staging_place *p = &out->input[i];
        stage_in(l, out, p->offset, lower_value(l, p->value).range, stride,
                 l->graph->value[p->value].name);
    }
    copy_control(l, out, stride);
}

static void copy_results(lowering *l, const lowered *out) {
    for (int32_t i = 0; i < out->results; i++) {
        const staging_place *p = &out->result[i];
        const graph_value *v = &l->graph->value[p->value];
        if (!layout_has_form(&l->layout->of[p->value], &v->shape, ACCESS_DENSE)) {
            brim_fail(l->err, BRIM_GRAPH, "named result \"%s\" is not dense",
                      v->name ? v->name : "");
            return;
        }
        lower_staged_copy(l, lower_value(l, p->value).range,
                          (byte_range){SPACE_HOST, out->staging + p->offset, p->bytes}, 0,
                          v->name);
    }
}

// ---- nodes --------------------------------------------------------------------------------------

// A step of one micro-batch runs LAST alone: what is due in the first or the last one belongs
// there.
static uint8_t sections_of(const lowering *l, const graph_node *n) {
    if (l->micro_batches > 1) return n->sections;
    return n->sections & (SECTION_FIRST | SECTION_LAST) ? SECTION_LAST : 0;
}

static void lower_node(lowering *l, node_id n) {
    l->node_index = n;
    l->node = &l->graph->node[n];
    l->sections = sections_of(l, l->node);
    const kernel_row *row = &kernel_table[l->node->op];
    if (l->sections) {
        if (row->lower)
            row->lower(l);
        else
            brim_fail(l->err, BRIM_UNSUPPORTED, "the op has no kernel");
        if (failed(l->err))
            brim_error_prefix(l->err, "lowering %s%s%s", op_table[l->node->op].name,
                              *l->node->scope ? " in " : "", l->node->scope);
    }
    l->node = NULL;
    l->node_index = -1;
}

static byte_range range_of(const storage_place *place) {
    return (byte_range){place->space, place->offset, place->bytes};
}

// The copies that are due before the node at a position, or after it.
static void lower_transfers(lowering *l, int32_t *next, int32_t position, bool after) {
    const memory_plan *plan = l->plan;
    for (; *next < plan->transfers && !failed(l->err); ++*next) {
        const transfer *t = &plan->transfer[*next];
        if (t->position != position || t->after != after) return;
        const graph_value *v = &l->graph->value[plan->stay[t->stay].storage];
        transfer_ends ends = memory_plan_ends(plan, t);
        l->sections = l->micro_batches > 1 ? t->sections : SECTION_LAST;
        lower_transfer(l, range_of(ends.from), range_of(ends.to),
                       v->name            ? v->name
                       : v->producer >= 0 ? op_table[l->graph->node[v->producer].op].name
                                          : "leaf");
    }
}

static void lower_nodes(lowering *l, const graph_schedule *schedule) {
    int32_t next = 0;
    for (int32_t i = 0; i < schedule->count && !failed(l->err); i++) {
        l->position = i;
        lower_transfers(l, &next, i, false);
        lower_node(l, schedule->order[i]);
        lower_transfers(l, &next, i, true);
    }
}

brim_status lower_graph(const brim_graph *g, const graph_layout *layout,
                        const graph_schedule *schedule, const memory_plan *plan,
                        int32_t micro_batches, const backend *b, backend_device *device,
                        lowered *out, brim_error *err) {
    *out = (lowered){0};
    if (failed(err)) return err->status;
    if (micro_batches < 1)
        return brim_fail(err, BRIM_ARGUMENT, "a step has %d micro-batches; at least 1 is needed",
                         micro_batches);
    if (program_create(&out->program, err)) return err->status;
    lowering l = {.graph = g,
                  .layout = layout,
                  .plan = plan,
                  .traits = b->traits(device),
                  .backend = b,
                  .device = device,
                  .program = out->program,
                  .node_index = -1,
                  .first_section = micro_batches > 1 ? SECTION_FIRST : SECTION_LAST,
                  .micro_batches = micro_batches,
                  .err = err};
    l.program->micro_batches = micro_batches;
    l.program->device_bytes = plan->peak_bytes[SPACE_DEVICE];
    l.program->file_bytes = plan->peak_bytes[SPACE_FILE];
    lay_out_staging(&l, out);
    l.sections = micro_batches > 1 ? SECTION_ALL : SECTION_LAST;
    if (!failed(err)) copy_inputs(&l, out);
    lower_nodes(&l, schedule);
    l.sections = SECTION_LAST;
    if (!failed(err)) copy_results(&l, out);
    program_order(out->program, err);
    program_verify(out->program, err);
    if (failed(err)) lowered_free(out);
    return err->status;
}

void lowered_free(lowered *l) {
    program_free(l->program);
    free(l->input);
    free(l->result);
    *l = (lowered){0};
}
