#include "optim/budget.h"

#include <inttypes.h>
#include <string.h>
#include "backends/host_memory.h"

// What a desktop needs beside us, at least and as a share; what modules and libraries take on a GPU
// beside the arena; and how much of free main memory may be taken.
static const int64_t desktop_bytes = 256ll << 20, module_bytes = 96ll << 20;
static const double desktop_share = 0.03, host_share = 0.9;
// Where the driver tells only what is free of a whole device, up to this much of the rest may be
// our own context.
static const int64_t most_context_bytes = 640ll << 20;

// ---- the device ---------------------------------------------------------------------------------

// A reservation is rounded up to whole units, and one more.
static int64_t rounding_of(const device_traits *t) {
    return 2 * t->alignment;
}

static int64_t whole_units(const device_traits *t, int64_t bytes) {
    return bytes > rounding_of(t) ? bytes - rounding_of(t) : 1;
}

// What the device loses to us beside the arena.
static int64_t overhead_of(const device_traits *t, const brim_rates *paper) {
    if (paper) return paper->overhead_bytes;
    if (t->free_bytes < 0 || strcmp(t->backend, "cuda") != 0) return 0;
    int64_t used = t->memory_bytes - t->free_bytes;
    return (used < most_context_bytes ? used : most_context_bytes) + module_bytes;
}

static int64_t free_arena(const device_traits *t, const brim_rates *paper) {
    if (paper) return t->memory_bytes - paper->overhead_bytes;
    if (t->free_bytes <= 0) return 0;
    if (t->cpu) return whole_units(t, t->free_bytes);
    int64_t reserve = (int64_t)((double)t->memory_bytes * desktop_share);
    reserve = (reserve > desktop_bytes ? reserve : desktop_bytes) + module_bytes;
    return whole_units(t, t->free_bytes - reserve);
}

static void set_device(compile_target *target, const brim_trainer_options *o, brim_error *err) {
    const device_traits *t = target->backend->traits(target->device);
    int64_t there = free_arena(t, o->paper), overhead = overhead_of(t, o->paper);
    target->overhead_bytes = overhead + rounding_of(t);
    if (!o->vram_bytes) {
        target->budget[SPACE_DEVICE] = there;
        return;
    }
    int64_t memory = t->memory_bytes > 0 ? t->memory_bytes : INT64_MAX;
    if (o->vram_bytes > memory)
        brim_fail(err, BRIM_ARGUMENT,
                  "a budget of %" PRId64 " bytes of device memory, where %s has %" PRId64,
                  o->vram_bytes, t->name, memory);
    else if (o->vram_bytes <= overhead)
        brim_fail(err, BRIM_ARGUMENT,
                  "a budget of %" PRId64 " bytes of device memory, of which %s takes %" PRId64
                  " before a plan begins",
                  o->vram_bytes, t->name, overhead);
    target->budget[SPACE_DEVICE] = whole_units(t, o->vram_bytes - overhead);
}

// ---- main memory --------------------------------------------------------------------------------

static void set_host(compile_target *target, const brim_trainer_options *o, brim_error *err) {
    const device_traits *t = target->backend->traits(target->device);
    // A machine on paper has what it is said to.
    int64_t there = o->paper ? -1 : host_memory_available(), share = 0;
    if (there >= 0) share = 1 + (int64_t)((double)there * host_share); // 0 would be no limit
    if (o->ram_bytes && there >= 0 && o->ram_bytes > there)
        brim_fail(err, BRIM_ARGUMENT,
                  "a budget of %" PRId64 " bytes of main memory, of which %" PRId64
                  " are available",
                  o->ram_bytes, there);
    target->budget[SPACE_HOST] = o->ram_bytes ? o->ram_bytes : share;
    // Where the device is the host, both budgets are of the same memory.
    if (!o->ram_bytes && t->cpu && o->vram_bytes && target->budget[SPACE_HOST] > o->vram_bytes)
        target->budget[SPACE_HOST] -= o->vram_bytes;
}

brim_status budget_set(compile_target *target, const brim_trainer_options *options,
                       brim_error *err) {
    if (failed(err)) return err->status;
    set_device(target, options, err);
    set_host(target, options, err);
    target->budget[SPACE_FILE] = options->disk ? options->disk_bytes : 0;
    return err->status;
}

// ---- rates --------------------------------------------------------------------------------------

brim_rates budget_usual_rates(const device_traits *t) {
    brim_rates cpu = {.memory = 15e9,
                      .matmul_16 = 100e9,
                      .matmul_32 = 150e9,
                      .link_in = 8e9,
                      .link_out = 8e9,
                      .link_both = 8e9,
                      .host = 15e9,
                      .launch = 5e-6};
    brim_rates gpu = {.memory = 300e9,
                      .matmul_16 = 30e12,
                      .matmul_32 = 10e12,
                      .link_in = 12e9,
                      .link_out = 12e9,
                      .link_both = 20e9,
                      .host = 30e9,
                      .launch = 4e-6};
    brim_rates r = t->cpu ? cpu : gpu;
    r.disk_read = 1.5e9;
    r.disk_write = 1e9;
    r.memory_bytes = t->memory_bytes;
    snprintf(r.name, sizeof r.name, "%.63s", t->name);
    return r;
}
