#include "graph/homes.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/cost.h"
#include "graph/passes.h"
#include "graph/stays.h"

// What is smaller than this leaves only after all that is larger: it frees little, and costs a
// copy.
enum { SMALL_BYTES = 64 << 10 };

// ---- what there is ------------------------------------------------------------------------------

// The inputs of an update that are variables: the parameter, its states, and where there is one its
// copy, which comes last.
static void take_update(const brim_graph *g, const graph_layout *layout, node_id n, home_unit *u) {
    const graph_node *node = &g->node[n];
    u->update = n;
    for (int32_t j = 1; j < node->outputs; j++) {
        value_id v = node->input[j];
        if (g->value[v].role == ROLE_STATE)
            u->state[u->states++] = v;
        else
            u->copy = v;
    }
    u->gradient = layout->of[node->input[node->outputs]].storage;
}

static home_unit unit_of(const brim_graph *g, const graph_layout *layout, value_id parameter) {
    home_unit u = {.parameter = parameter, .copy = -1, .gradient = -1, .update = -1};
    u.bytes = (int64_t)value_bytes(g, parameter);
    value_id updated = g->value[parameter].update;
    if (updated >= 0)
        take_update(g, layout, g->value[updated].producer, &u);
    else
        u.copy = compute_copy_of(g, parameter);
    return u;
}

// Large before small, and then the last first.
static int by_leaving(const void *x, const void *y) {
    const home_unit *a = x, *b = y;
    bool small_a = a->bytes < SMALL_BYTES, small_b = b->bytes < SMALL_BYTES;
    if (small_a != small_b) return small_a - small_b;
    return (a->parameter < b->parameter) - (a->parameter > b->parameter);
}

static void list_units(const brim_graph *g, const graph_layout *layout, homes *h) {
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].role == ROLE_PARAMETER) h->unit[h->units++] = unit_of(g, layout, v);
    if (h->units) qsort(h->unit, (size_t)h->units, sizeof *h->unit, by_leaving);
}

// Transient storages that both passes use, but for those of gradients.
static void list_activations(const brim_graph *g, const graph_layout *layout, homes *h,
                             uint8_t *phases) {
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (op_is_view(node->op)) continue;
        uint8_t phase = node->phase == PHASE_FORWARD && !node->recomputed ? 1 : 2;
        for (int32_t i = 0; i < node->inputs; i++)
            phases[layout->of[node->input[i]].storage] |= phase;
        for (int32_t j = 0; j < node->outputs; j++)
            phases[layout->of[node->first_output + j].storage] |=
                node->sections == SECTION_FIRST ? 4 : phase;
    }
    for (int32_t i = 0; i < h->units; i++)
        if (h->unit[i].gradient >= 0) phases[h->unit[i].gradient] = 0;
    for (int small = 0; small < 2; small++)
        for (value_id v = 0; v < g->values; v++)
            if (layout->of[v].storage == v && phases[v] == 3 && g->value[v].role == ROLE_RESULT &&
                !storage_is_persistent(g, layout, v) &&
                (value_bytes(g, v) < SMALL_BYTES) == (bool)small)
                h->activation[h->activations++] = v;
}

brim_status homes_make(const brim_graph *g, const graph_layout *layout, homes *out,
                       brim_error *err) {
    *out = (homes){.values = g->values, .nodes = g->nodes};
    size_t values = (size_t)g->values, nodes = (size_t)g->nodes;
    out->unit = brim_calloc_array(values, sizeof *out->unit, err);
    out->activation = brim_calloc_array(values, sizeof *out->activation, err);
    out->home = brim_calloc_array(values, sizeof *out->home, err);
    out->whole = brim_calloc_array(values, sizeof *out->whole, err);
    out->on_host = brim_calloc_array(nodes, sizeof *out->on_host, err);
    uint8_t *phases = brim_calloc_array(values, sizeof *phases, err);
    if (!failed(err)) {
        list_units(g, layout, out);
        list_activations(g, layout, out, phases);
    }
    free(phases);
    if (failed(err)) homes_free(out);
    return err->status;
}

void homes_free(homes *h) {
    free(h->unit);
    free(h->activation);
    free(h->home);
    free(h->whole);
    free(h->on_host);
    *h = (homes){0};
}

// ---- where it goes ------------------------------------------------------------------------------

static void choose_unit(homes *h, const home_unit *u, int32_t place, const homes_choice *c) {
    bool hosted = place < c->hosted, streamed = place < c->streamed;
    bool host_update = hosted && u->update >= 0 && !c->device_updates;
    memory_space away = place < c->filed ? SPACE_FILE : SPACE_HOST;
    bool idle_master = u->copy >= 0; // the forward pass uses the copy
    value_id used = idle_master ? u->copy : u->parameter;
    for (int32_t i = 0; hosted && i < u->states; i++) h->home[u->state[i]] = away;
    if (host_update || (hosted && idle_master)) h->home[u->parameter] = away;
    if (host_update || streamed) {
        if (h->home[used] == SPACE_DEVICE) h->home[used] = SPACE_HOST;
        h->whole[used] = !streamed;
    }
    if (u->update < 0) return;
    h->on_host[u->update] = host_update;
    if (place < c->gradients) h->home[u->gradient] = SPACE_HOST;
}

void homes_choose(homes *h, const homes_choice *choice) {
    memset(h->home, 0, (size_t)h->values * sizeof *h->home);
    memset(h->whole, 0, (size_t)h->values * sizeof *h->whole);
    memset(h->on_host, 0, (size_t)h->nodes * sizeof *h->on_host);
    for (int32_t i = 0; i < h->units; i++) choose_unit(h, &h->unit[i], i, choice);
    for (int32_t i = 0; i < choice->offloaded && i < h->activations; i++)
        h->home[h->activation[i]] = SPACE_HOST;
}
