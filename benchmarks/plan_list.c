#include "benchmarks/plan_list.h"

static bool open_forced(plan_run *r, const start_options *o, const forced_plan *plan,
                        brim_error *err) {
    start_options forced = *o;
    forced.forced = plan;
    return plan_run_open(r, &forced, err) == BRIM_OK;
}

plan_extent plan_extent_find(const start_options *o, brim_error *err) {
    static const forced_plan least = {INT32_MAX, {0}}, whole = {0};
    plan_extent e = {0};
    plan_run r = {0};
    homes h = {0};
    if (open_forced(&r, o, &least, err)) e.level = r.run.compiled.choice.level;
    plan_run_close(&r);
    if (failed(err)) return e;
    const compiled *c = &r.run.compiled;
    if (open_forced(&r, o, &whole, err) && !homes_make(c->graph, &c->layout, &h, err)) {
        e.units = h.units;
        e.activations = h.activations;
        e.device_bytes = c->plan.peak_bytes[SPACE_DEVICE];
        homes_free(&h);
    }
    plan_run_close(&r);
    return e;
}

int plan_list_make(const plan_extent *e, bool halves, forced_plan plans[MOST_PLANS]) {
    enum { LEVELS = 4, NUMBERS = 3 };
    const int32_t level[LEVELS] = {0, 1, 1 + e->level / 2, e->level};
    const int32_t units[NUMBERS] = {0, e->units / 2, e->units};
    const int32_t activations[NUMBERS] = {0, e->activations / 2, e->activations};
    int count = 0, each = NUMBERS * NUMBERS * NUMBERS;
    for (int i = 0; i < 2 * LEVELS * each; i++) {
        bool on_device = i % 2;
        int at = i / 2 / each, hosted = i / 2 % NUMBERS, streamed = i / 2 / NUMBERS % NUMBERS;
        int offloaded = i / 2 / NUMBERS / NUMBERS % NUMBERS;
        if (on_device && !hosted) continue; // says nothing
        if (!halves && (at == 2 || hosted == 1 || streamed == 1 || offloaded == 1)) continue;
        plans[count++] = (forced_plan){level[at],
                                       {.hosted = units[hosted],
                                        .streamed = units[streamed],
                                        .offloaded = activations[offloaded],
                                        .device_updates = on_device}};
    }
    return count;
}
