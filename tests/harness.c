#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/lower.h"
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/layout.h"
#include "graph/pass_recompute.h"
#include "graph/passes.h"

enum {
    DEVICE_BYTES = 96 << 20,
    HOST_BYTES = 96 << 20,
    GUARD_BYTES = 256,
    FIRST_OFFSET = 4096,
    CHAIN_OPERANDS = 24,
};
// A NaN in f32, and two in bf16 and in f16; as an i32 no index of anything.
static const uint32_t poison = 0x7fc17fc1;

// What a run needs between its steps.
typedef struct run_state {
    harness *h;
    const brim_graph *source;
    brim_graph *graph; // after the passes
    graph_schedule schedule;
    graph_layout layout;
    memory_plan plan;
    lowered lowered;
    loaded_program *loaded;
    int32_t micro_batches;
    brim_error *err;
} run_state;

brim_status harness_open(harness *h, const char *device, const device_settings *settings,
                         brim_error *err) {
    return harness_open_with(h, device, settings, DEVICE_BYTES, HOST_BYTES, err);
}

brim_status harness_open_with(harness *h, const char *device, const device_settings *settings,
                              int64_t device_bytes, int64_t host_bytes, brim_error *err) {
    *h = (harness){.device_bytes = device_bytes, .host_bytes = host_bytes};
    device_settings own = settings ? *settings : (device_settings){0};
    // PoCL compiles a kernel once more when it is asked for its binary: much for one that runs
    // once.
    if (!own.cache_dir && strncmp(device, "cuda", 4) != 0) own.cache_dir = "";
    if (backend_open(device, &own, &h->backend, &h->device, err)) return err->status;
    memory_request request = {.device_bytes = device_bytes, .host_bytes = host_bytes};
    h->backend->reserve(h->device, &request, err);
    if (failed(err)) harness_close(h);
    return err->status;
}

void harness_close(harness *h) {
    if (h->device) h->backend->close(h->device);
    *h = (harness){0};
}

// Numbers ----------------------------------------------------------------------------------------

void harness_to_numbers(brim_dtype dtype, const void *elements, double *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (dtype == BRIM_I32) {
            out[i] = ((const int32_t *)elements)[i];
            continue;
        }
        float x;
        dtype_to_f32(dtype, (const char *)elements + (size_t)i * brim_dtype_bytes(dtype), &x, 1);
        out[i] = x;
    }
}

void harness_from_numbers(brim_dtype dtype, const double *numbers, void *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (dtype == BRIM_I32) {
            ((int32_t *)out)[i] = (int32_t)numbers[i];
            continue;
        }
        float x = (float)numbers[i];
        dtype_from_f32(dtype, &x, (char *)out + (size_t)i * brim_dtype_bytes(dtype), 1);
    }
}

static int64_t value_bytes(const brim_graph *g, value_id v) {
    return shape_elements(&g->value[v].shape) * (int64_t)brim_dtype_bytes(g->value[v].dtype);
}

// From graph to program --------------------------------------------------------------------------

static void replace(run_state *s, brim_graph *next) {
    brim_graph_free(s->graph);
    s->graph = next;
}

static void recompute(run_state *s, const harness_options *options) {
    bool *chosen = NULL;
    if (options->recompute) {
        chosen = brim_calloc_array((size_t)s->graph->values, sizeof *chosen, s->err);
        if (chosen) options->recompute(s->graph, chosen, options->user);
    }
    if (!failed(s->err)) replace(s, pass_recompute(s->graph, chosen, s->err));
    free(chosen);
}

static void run_passes(run_state *s, const harness_options *options) {
    s->graph = pass_prune(s->source, s->err);
    if (!failed(s->err)) replace(s, pass_densify(s->graph, s->err));
    if (!failed(s->err)) pass_sections(s->graph, s->micro_batches, s->err);
    if (!failed(s->err)) recompute(s, options);
    if (!failed(s->err)) replace(s, pass_fuse(s->graph, options->fuse, CHAIN_OPERANDS, s->err));
}

// An axis of the grid that no kernel of the file asks for would do everything again.
static void check_grids(const program *p, brim_error *err) {
    for (int32_t i = 0; i < p->records && !failed(err); i++) {
        const launch_record *l = &p->record[i].as.launch;
        if (p->record[i].kind != RECORD_LAUNCH) continue;
        const kernel_spec *k = &p->kernel[l->kernel];
        if ((l->grid[1] > 1 && !strstr(k->source, "group_id(1)")) ||
            (l->grid[2] > 1 && !strstr(k->source, "group_id(2)")))
            brim_fail(err, BRIM_GRAPH, "kernel %s of %s has a grid of %d x %d x %d", k->name,
                      k->file, l->grid[0], l->grid[1], l->grid[2]);
    }
}

static void make_program(run_state *s) {
    harness *h = s->h;
    const device_traits *traits = h->backend->traits(h->device);
    if (failed(s->err) || graph_schedule_make(s->graph, &s->schedule, s->err) ||
        graph_layout_make(s->graph, &s->schedule, &s->layout, s->err))
        return;
    workspace_request workspace = {
        .layout = &s->layout, .backend = h->backend, .device = h->device, .err = s->err};
    plan_request request = {
        .alignment = traits->alignment,
        .chunk_bytes = traits->chunk_bytes,
        .transient_base = {FIRST_OFFSET},
        .workspace = lower_workspace_bytes,
        .user = &workspace,
        .guard_bytes = GUARD_BYTES,
    };
    if (memory_plan_make(s->graph, &s->layout, &s->schedule, &request, &s->plan, s->err) ||
        lower_graph(s->graph, &s->layout, &s->schedule, &s->plan, s->micro_batches, h->backend,
                    h->device, &s->lowered, s->err) ||
        program_verify(s->lowered.program, s->err))
        return;
    check_grids(s->lowered.program, s->err);
    if (s->plan.peak_bytes[SPACE_DEVICE] + GUARD_BYTES > h->device_bytes ||
        s->lowered.program->host_bytes > h->host_bytes) {
        brim_fail(s->err, BRIM_MEMORY,
                  "the harness has %lld bytes of device memory, %lld are wanted",
                  (long long)h->device_bytes, (long long)s->plan.peak_bytes[SPACE_DEVICE]);
        return;
    }
    h->backend->load(h->device, s->lowered.program, &s->loaded, s->err);
}

// Data in ----------------------------------------------------------------------------------------

// The value of the source graph that has this role and name.
static value_id find_source(const run_state *s, value_role role, const char *name) {
    for (value_id v = 0; v < s->source->values; v++) {
        const graph_value *value = &s->source->value[v];
        if (value->role == role && value->name && strcmp(value->name, name) == 0) return v;
    }
    brim_fail(s->err, BRIM_GRAPH, "the passes made up a leaf named \"%s\"", name);
    return -1;
}

static void poison_memory(run_state *s) {
    int64_t bytes = s->plan.peak_bytes[SPACE_DEVICE] + GUARD_BYTES;
    uint32_t *pattern = brim_calloc_array((size_t)bytes / 4 + 1, 4, s->err);
    for (int64_t i = 0; pattern && i <= bytes / 4; i++) pattern[i] = poison;
    if (pattern) s->h->backend->write(s->h->device, 0, pattern, bytes, s->err);
    free(pattern);
    memset(s->h->backend->host_memory(s->h->device), 0x7f, (size_t)s->lowered.program->host_bytes);
}

static void write_variables(run_state *s, const leaf_values *leaves) {
    for (value_id v = 0; v < s->graph->values && !failed(s->err); v++) {
        const graph_value *value = &s->graph->value[v];
        if (!role_is_variable(value->role)) continue;
        value_id from = find_source(s, value->role, value->name);
        int64_t bytes = value_bytes(s->graph, v);
        void *data = from < 0 ? NULL : brim_calloc_array((size_t)bytes, 1, s->err);
        if (!data) return;
        harness_from_numbers(value->dtype, leaves->of[from], data, shape_elements(&value->shape));
        s->h->backend->write(s->h->device, s->plan.storage[v].offset, data, bytes, s->err);
        free(data);
    }
}

static void stage_inputs(run_state *s, const leaf_values *leaves) {
    uint8_t *host = s->h->backend->host_memory(s->h->device) + s->lowered.staging;
    for (int32_t m = 0; m < s->micro_batches && !failed(s->err); m++) {
        uint8_t *slot = host + m * s->lowered.slot_bytes;
        for (int32_t i = 0; i < s->lowered.inputs; i++) {
            const graph_value *value = &s->graph->value[s->lowered.input[i].value];
            value_id from = find_source(s, ROLE_INPUT, value->name);
            if (from < 0) return;
            harness_from_numbers(value->dtype, leaves[m].of[from],
                                 slot + s->lowered.input[i].offset, shape_elements(&value->shape));
        }
        for (value_id v = 0; v < s->source->values; v++) {
            const graph_value *value = &s->source->value[v];
            if (value->role != ROLE_CONTROL) continue;
            harness_from_numbers(value->dtype, leaves[m].of[v],
                                 slot + s->lowered.control_offset + 4 * value->control, 1);
        }
    }
}

static void run_sections(run_state *s) {
    for (int32_t m = 0; m < s->micro_batches && !failed(s->err); m++) {
        uint8_t section = m == s->micro_batches - 1 ? SECTION_LAST
                          : m == 0                  ? SECTION_FIRST
                                                    : SECTION_MIDDLE;
        s->h->backend->run(s->loaded, section, m, s->err);
    }
    if (!failed(s->err)) s->h->backend->wait(s->h->device, s->err);
}

// Data out ---------------------------------------------------------------------------------------

static void cover(uint8_t *covered, const storage_place *place) {
    if (place->offset >= 0 && place->bytes > 0)
        memset(covered + place->offset, 1, (size_t)place->bytes);
}

// What lies between storages is as it was.
static void check_guards(run_state *s) {
    int64_t bytes = s->plan.peak_bytes[SPACE_DEVICE] + GUARD_BYTES;
    uint8_t *covered = brim_calloc_array((size_t)bytes, 1, s->err);
    uint8_t *memory = brim_calloc_array((size_t)bytes, 1, s->err);
    if (covered && memory && !s->h->backend->read(s->h->device, 0, memory, bytes, s->err)) {
        for (int32_t v = 0; v < s->plan.values; v++) cover(covered, &s->plan.storage[v]);
        for (int32_t n = 0; n < s->plan.nodes; n++) cover(covered, &s->plan.workspace[n]);
        for (int64_t i = 0; i < bytes; i++) {
            if (covered[i] || memory[i] == (uint8_t)(poison >> 8 * (i % 4))) continue;
            brim_fail(s->err, BRIM_DEVICE, "byte %lld, which no storage covers, was written",
                      (long long)i);
            break;
        }
    }
    free(covered);
    free(memory);
}

static void take_results(run_state *s, const bool *wanted, harness_results *out) {
    const uint8_t *host = s->h->backend->host_memory(s->h->device) + s->lowered.staging;
    out->of = brim_calloc_array((size_t)s->source->values, sizeof *out->of, s->err);
    out->values = s->source->values;
    for (int32_t i = 0; i < s->lowered.results && !failed(s->err); i++) {
        const staging_place *place = &s->lowered.result[i];
        value_id v = (value_id)strtol(s->graph->value[place->value].name + 1, NULL, 10);
        out->of[v] = brim_calloc_array((size_t)place->bytes, 1, s->err);
        if (out->of[v]) memcpy(out->of[v], host + place->offset, (size_t)place->bytes);
    }
    for (value_id v = 0; v < s->graph->values && !failed(s->err); v++) {
        const graph_value *value = &s->graph->value[v];
        if (!role_is_variable(value->role)) continue;
        value_id to = find_source(s, value->role, value->name);
        if (to < 0 || !wanted[to]) continue;
        int64_t bytes = value_bytes(s->graph, v);
        out->of[to] = brim_calloc_array((size_t)bytes, 1, s->err);
        if (out->of[to])
            s->h->backend->read(s->h->device, s->plan.storage[v].offset, out->of[to], bytes,
                                s->err);
    }
}

void harness_results_free(harness_results *results) {
    for (int32_t v = 0; results->of && v < results->values; v++) free(results->of[v]);
    free(results->of);
    *results = (harness_results){0};
}

// A run ------------------------------------------------------------------------------------------

static void name_results(brim_graph *g, const bool *wanted) {
    for (value_id v = 0, count = g->values; v < count; v++) {
        char name[16];
        if (!wanted[v] || g->value[v].role != ROLE_RESULT) continue;
        snprintf(name, sizeof name, "v%d", v);
        brim_output(graph_value_of(g, v), name);
    }
}

static void forget_results(brim_graph *g) {
    for (int32_t i = 0; i < g->results; i++) g->value[g->result[i]].name = NULL;
    g->results = 0;
}

brim_status harness_run(harness *h, brim_graph *g, const leaf_values *leaves, const bool *wanted,
                        const harness_options *options, harness_results *out, brim_error *err) {
    *out = (harness_results){0};
    if (failed(err)) return err->status;
    run_state s = {.h = h,
                   .source = g,
                   .err = err,
                   .micro_batches = options->micro_batches ? options->micro_batches : 1};
    name_results(g, wanted);
    if (failed(g->err)) return brim_fail(err, g->err->status, "%s", g->err->text);
    run_passes(&s, options);
    make_program(&s);
    if (!failed(err)) poison_memory(&s);
    if (!failed(err)) write_variables(&s, leaves);
    if (!failed(err)) stage_inputs(&s, leaves);
    run_sections(&s);
    if (!failed(err)) check_guards(&s);
    if (!failed(err)) take_results(&s, wanted, out);
    if (s.loaded) h->backend->unload(s.loaded);
    lowered_free(&s.lowered);
    memory_plan_free(&s.plan);
    graph_layout_free(&s.layout);
    graph_schedule_free(&s.schedule);
    brim_graph_free(s.graph);
    forget_results(g);
    return err->status;
}
