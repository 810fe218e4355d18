#include "optim/plan_search.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <brim/report.h>
#include "core/alloc.h"
#include "graph/cost.h"
#include "graph/recompute_levels.h"
#include "optim/variant.h"

// Candidates are kept by how fast they look. A number is found up to a share of its range.
enum { MOST_CANDIDATES = 5, MOST_LEVELS = 6, GRAIN = 24, PACK_TRIES = 4 };

typedef struct candidate {
    int32_t level;
    homes_choice choice;
    int64_t ahead;
    double seconds; // of a step, at least
} candidate;

// What a choice needs and what it moves.
typedef struct estimate {
    int64_t bytes[SPACES];
    double seconds;
} estimate;

typedef struct search {
    const brim_graph *g;
    const compile_target *target;
    int64_t micro_batches;
    recompute_levels levels;
    variant *variant;      // by level, made when it is first looked at
    int64_t limit[SPACES]; // of lower bounds; INT64_MAX: none
    candidate best[MOST_CANDIDATES];
    int bests;
    int64_t whole_bytes; // of the device, with everything there
    // What comes closest to fitting: of plans that fit the device the one with the least host
    // memory, else the one with the least device memory.
    candidate nearest;
    estimate nearest_needs;
    brim_error *err;
} search;

// ---- variants -----------------------------------------------------------------------------------

static variant *variant_at(search *s, int32_t level) {
    variant *v = &s->variant[level];
    if (v->graph || failed(s->err)) return v;
    bool *recompute = brim_calloc_array((size_t)s->g->values, sizeof *recompute, s->err);
    if (recompute && !recompute_level(s->g, &s->levels, level, recompute, s->err))
        variant_make(v, s->g, recompute, s->target, s->err);
    free(recompute);
    return v;
}

// ---- estimates ----------------------------------------------------------------------------------

// How often a step runs something.
static double runs(const search *s, uint8_t sections) {
    if (s->micro_batches == 1) return 1; // everything is in LAST
    double middle = sections & SECTION_MIDDLE ? (double)s->micro_batches - 2 : 0;
    return middle + ((sections & SECTION_FIRST) != 0) + ((sections & SECTION_LAST) != 0);
}

// What a step does in the forward pass of its first micro-batch, beside which the host finishes the
// updates of the step before; then until all gradients are known; and in the device's own updates.
enum { BESIDE_UPDATES, GRADIENTS, UPDATES, WINDOWS };
typedef struct window {
    double compute, host;         // seconds
    double moved[SPACES][SPACES]; // bytes
} window;

// The positions of the first node that is not of the forward pass, and of the first optimizer's.
typedef struct borders {
    int32_t backward, updates;
} borders;

static bool is_optimizer(const graph_node *node) {
    return op_table[node->op].family == FAMILY_UPDATE && node->op != OP_ACCUMULATE;
}

static borders find_borders(const variant *v) {
    borders b = {-1, v->schedule.count};
    for (int32_t i = v->schedule.count - 1; i >= 0; i--) {
        const graph_node *node = &v->graph->node[v->schedule.order[i]];
        if (is_optimizer(node)) b.updates = i;
        if (node->phase == PHASE_FORWARD && !node->recomputed && b.backward < 0) b.backward = i + 1;
    }
    return b;
}

// How often something at a position runs in each window.
static void runs_in_windows(const search *s, int32_t position, const borders *b, uint8_t sections,
                            double times[WINDOWS]) {
    uint8_t first = s->micro_batches > 1 ? SECTION_FIRST : SECTION_LAST;
    times[BESIDE_UPDATES] = position < b->backward && sections & first ? 1 : 0;
    times[UPDATES] = position >= b->updates && sections & SECTION_LAST ? 1 : 0;
    times[GRADIENTS] = runs(s, sections) - times[BESIDE_UPDATES] - times[UPDATES];
}

static void find_work(const search *s, const variant *v, const memory_plan *plan,
                      bool device_updates, window w[WINDOWS]) {
    const brim_rates *r = s->target->rates;
    borders b = find_borders(v);
    double times[WINDOWS];
    for (int32_t i = 0; i < v->schedule.count; i++) {
        node_id n = v->schedule.order[i];
        const graph_node *node = &v->graph->node[n];
        if (plan->on_host[n]) {
            w[BESIDE_UPDATES].host +=
                runs(s, node->sections) * node_bytes(v->graph, node) / r->host;
            continue;
        }
        runs_in_windows(s, i, &b, node->sections, times);
        double seconds = v->start[i + 1] - v->start[i];
        for (int k = 0; k < WINDOWS; k++) w[k].compute += times[k] * seconds;
    }
    for (int32_t i = 0; i < plan->transfers; i++) {
        const transfer *t = &plan->transfer[i];
        transfer_ends ends = memory_plan_ends(plan, t);
        memory_space from = ends.from->space, to = ends.to->space;
        runs_in_windows(s, t->position, &b, t->sections, times);
        bool file = from == SPACE_FILE || to == SPACE_FILE;
        if (file && !device_updates) // for the host's updates
            times[BESIDE_UPDATES] += times[UPDATES], times[UPDATES] = 0;
        for (int k = 0; k < WINDOWS; k++) w[k].moved[from][to] += times[k] * (double)ends.to->bytes;
    }
}

// Every queue as if it never waited.
static double window_seconds(const search *s, const window *w) {
    const brim_rates *r = s->target->rates;
    double in = w->moved[SPACE_HOST][SPACE_DEVICE], out = w->moved[SPACE_DEVICE][SPACE_HOST];
    double read = w->moved[SPACE_FILE][SPACE_HOST], write = w->moved[SPACE_HOST][SPACE_FILE];
    double link = fmax(fmax(in / r->link_in, out / r->link_out), (in + out) / r->link_both);
    double disk = r->disk_read > 0 ? fmax(read / r->disk_read, write / r->disk_write) : 0;
    double host = w->host + (in + out + read + write) / r->host;
    if (s->target->backend->traits(s->target->device)->cpu) // all of it on the same cores
        return w->compute + w->host + (in + out) / r->link_in + disk;
    return fmax(fmax(w->compute, link), fmax(disk, host));
}

static bool estimate_choice(search *s, int32_t level, const homes_choice *c, int64_t ahead,
                            estimate *out) {
    variant *v = variant_at(s, level);
    memory_plan plan;
    if (failed(s->err) || variant_plan(v, s->target, c, ahead, true, &plan, s->err)) return false;
    window w[WINDOWS] = {0};
    find_work(s, v, &plan, c->device_updates, w);
    memcpy(out->bytes, plan.peak_bytes, sizeof out->bytes);
    out->seconds = 0;
    for (int k = 0; k < WINDOWS; k++) out->seconds += window_seconds(s, &w[k]);
    memory_plan_free(&plan);
    return true;
}

static bool fits(const search *s, const estimate *e, memory_space space) {
    return e->bytes[space] <= s->limit[space];
}

// ---- turning the numbers ------------------------------------------------------------------------

// Numbers of a homes_choice, in the orders in which a search turns each of them up as far as it
// must.
typedef size_t knob;
#define KNOB(field) offsetof(homes_choice, field)
enum { KNOBS = 4 };
typedef struct knob_order {
    bool spares_host; // what leaves the device first needs little main memory
    knob knob[KNOBS];
} knob_order;
static const knob_order orders[] = {
    {false, {KNOB(hosted), KNOB(gradients), KNOB(streamed), KNOB(offloaded)}},
    {false, {KNOB(streamed), KNOB(hosted), KNOB(gradients), KNOB(offloaded)}},
    {false, {KNOB(offloaded), KNOB(hosted), KNOB(gradients), KNOB(streamed)}},
    {false, {KNOB(offloaded), KNOB(streamed), KNOB(hosted), KNOB(gradients)}},
    {true, {KNOB(streamed), KNOB(gradients), KNOB(hosted), KNOB(offloaded)}},
};
enum { ORDERS = sizeof orders / sizeof *orders };

static int32_t *at(homes_choice *c, knob k) {
    return (int32_t *)((char *)c + k);
}

// With a single micro-batch a gradient goes to a host update at once.
static homes_choice settled(const search *s, const homes_choice *c) {
    homes_choice full = *c;
    if (s->micro_batches == 1 && !c->device_updates && full.gradients < full.hosted)
        full.gradients = full.hosted;
    return full;
}

static bool try_choice(search *s, int32_t level, const homes_choice *c, int64_t ahead,
                       memory_space space, estimate *e) {
    homes_choice full = settled(s, c);
    return estimate_choice(s, level, &full, ahead, e) && fits(s, e, space);
}

// The least value of one number for which the choice fits into a space; false if none does.
static bool turn(search *s, int32_t level, homes_choice *c, int64_t ahead, knob k, int32_t most,
                 memory_space space, estimate *e) {
    int32_t low = *at(c, k), high = most;
    if (try_choice(s, level, c, ahead, space, e)) return true;
    *at(c, k) = most;
    if (low >= most || !try_choice(s, level, c, ahead, space, e)) return false;
    int32_t grain = most / GRAIN + 1;
    while (low + grain < high && !failed(s->err)) { // high fits, low does not
        int32_t middle = low + (high - low) / 2;
        *at(c, k) = middle;
        if (try_choice(s, level, c, ahead, space, e))
            high = middle;
        else
            low = middle;
    }
    *at(c, k) = high;
    return try_choice(s, level, c, ahead, space, e);
}

static bool same_choice(const homes_choice *a, const homes_choice *b) {
    return a->hosted == b->hosted && a->streamed == b->streamed && a->gradients == b->gradients &&
           a->filed == b->filed && a->offloaded == b->offloaded &&
           a->device_updates == b->device_updates;
}

static void keep_candidate(search *s, const candidate *c) {
    for (int i = 0; i < s->bests; i++) // two orders may lead to the same
        if (s->best[i].level == c->level && same_choice(&s->best[i].choice, &c->choice)) return;
    int at = s->bests < MOST_CANDIDATES ? s->bests++ : MOST_CANDIDATES;
    for (; at > 0 && s->best[at - 1].seconds > c->seconds; at--)
        if (at < MOST_CANDIDATES) s->best[at] = s->best[at - 1];
    if (at < MOST_CANDIDATES) s->best[at] = *c;
}

// Remembers what misses the budget least.
static void note_nearest(search *s, const candidate *c, const estimate *e) {
    bool both = fits(s, e, SPACE_DEVICE) && fits(s, &s->nearest_needs, SPACE_DEVICE);
    memory_space by = both ? SPACE_HOST : SPACE_DEVICE;
    if (e->bytes[by] >= s->nearest_needs.bytes[by]) return;
    s->nearest = *c;
    s->nearest_needs = *e;
}

// Moves what must leave the device, in one order; then what must leave the host. False where it
// does not fit.
static bool try_order(search *s, int32_t level, int64_t ahead, const knob_order *order,
                      bool device_updates) {
    const homes *h = &variant_at(s, level)->homes;
    homes_choice c = {.device_updates = device_updates};
    estimate e = {0};
    bool fit = false;
    for (int i = 0; i < KNOBS && !fit && !failed(s->err); i++) {
        knob k = order->knob[i];
        int32_t most = k == KNOB(offloaded) ? h->activations : h->units;
        fit = turn(s, level, &c, ahead, k, most, SPACE_DEVICE, &e);
    }
    if (failed(s->err)) return false;
    if (fit && !fits(s, &e, SPACE_HOST) && s->limit[SPACE_FILE] > 0)
        turn(s, level, &c, ahead, KNOB(filed), c.hosted, SPACE_HOST, &e);
    if (failed(s->err)) return false;
    candidate found = {level, settled(s, &c), ahead, e.seconds};
    note_nearest(s, &found, &e);
    if (!fit || !fits(s, &e, SPACE_HOST) || !fits(s, &e, SPACE_FILE)) return false;
    keep_candidate(s, &found);
    return true;
}

// Two slots of the largest thing that comes and goes.
static int64_t usual_ahead(const search *s, const variant *v) {
    int64_t largest = 0;
    for (int32_t i = 0; i < v->homes.units; i++)
        if (v->homes.unit[i].bytes > largest) largest = v->homes.unit[i].bytes;
    int64_t eighth = s->limit[SPACE_DEVICE] / 8;
    return largest < eighth ? largest : eighth;
}

static void try_orders(search *s, int32_t level, bool ahead, bool device_updates) {
    int64_t bytes = ahead ? usual_ahead(s, variant_at(s, level)) : 0;
    bool any = false;
    for (int i = 0; i < ORDERS && !failed(s->err); i++)
        if (!orders[i].spares_host || !any)
            any |= try_order(s, level, bytes, &orders[i], device_updates);
}

static bool host_is_exact(const search *s) {
    return s->target->backend->traits(s->target->device)->exact_f32;
}

// Nothing recomputed, what is cheap, everything, and some between. Where the host can update, the
// level of the best of that is tried with updates on the device, too.
static void try_levels(search *s, bool ahead) {
    int32_t last = s->levels.count - 1, tried = -1;
    for (int i = 0; i < MOST_LEVELS && !failed(s->err); i++) {
        int32_t level = i ? 1 + (last - 1) * (i - 1) / (MOST_LEVELS - 2) : 0;
        if (level == tried || level > last) continue;
        tried = level;
        try_orders(s, level, ahead, !host_is_exact(s));
    }
    if (host_is_exact(s) && !failed(s->err))
        try_orders(s, s->bests ? s->best[0].level : last, ahead, true);
}

// ---- full plans ---------------------------------------------------------------------------------

static void expect(search *s, const variant *v, compiled *out) {
    const compile_target *t = s->target;
    const program *p = out->lowered.program;
    double *seconds = brim_calloc_array((size_t)p->records, sizeof *seconds, s->err);
    if (!seconds) return;
    program_seconds(p, v->graph, t->rates, seconds);
    program_simulate(p, seconds, t->rates, t->backend->traits(t->device), &out->choice.expected,
                     s->err);
    free(seconds);
}

// Plans, lowers and (where rates are known) simulates; false where the packing needs more than the
// budget.
static bool complete(search *s, const candidate *c, compiled *out) {
    const compile_target *t = s->target;
    variant *v = variant_at(s, c->level);
    if (variant_plan(v, t, &c->choice, c->ahead, false, &out->plan, s->err) ||
        !memory_plan_is_within(&out->plan, s->target->budget))
        return false;
    if (lower_graph(v->graph, &v->layout, &v->schedule, &out->plan, (int32_t)s->micro_batches,
                    t->backend, t->device, &out->lowered, s->err))
        return false;
    out->choice.level = c->level;
    out->choice.homes = c->choice;
    if (t->rates) expect(s, v, out);
    return !failed(s->err);
}

static void forget(compiled *c) {
    lowered_free(&c->lowered);
    memory_plan_free(&c->plan);
}

// The fastest of the candidates; false where none of them can be packed.
static bool choose(search *s, compiled *out) {
    bool found = false;
    compiled best = {0};
    for (int i = 0; i < s->bests && !failed(s->err); i++) {
        if (found && s->best[i].seconds > best.choice.expected.seconds) break; // cannot be faster
        compiled next = {0};
        if (complete(s, &s->best[i], &next) &&
            (!found || next.choice.expected.seconds < best.choice.expected.seconds)) {
            forget(&best);
            best = next;
            found = true;
        } else {
            forget(&next);
        }
    }
    if (!found || failed(s->err)) {
        forget(&best);
        return false;
    }
    out->plan = best.plan;
    out->lowered = best.lowered;
    out->choice = best.choice;
    out->choice.whole_bytes = s->whole_bytes;
    return true;
}

static void hand_over(search *s, compiled *out) {
    variant *v = &s->variant[out->choice.level];
    out->graph = v->graph;
    out->schedule = v->schedule;
    out->layout = v->layout;
    v->graph = NULL;
    v->schedule = (graph_schedule){0};
    v->layout = (graph_layout){0};
}

// ---- all of it ----------------------------------------------------------------------------------

static brim_shortfall shortfall_of(const compile_target *t, const int64_t peak[SPACES]) {
    int64_t missing[SPACES];
    for (int space = 0; space < SPACES; space++) {
        bool enough = !t->budget[space] || peak[space] <= t->budget[space];
        missing[space] = enough ? 0 : peak[space] - t->budget[space];
    }
    return (brim_shortfall){.vram_missing = missing[SPACE_DEVICE],
                            .ram_missing = missing[SPACE_HOST],
                            .disk_missing = missing[SPACE_FILE],
                            .vram_bytes = peak[SPACE_DEVICE] + t->overhead_bytes,
                            .ram_bytes = peak[SPACE_HOST],
                            .disk_bytes = peak[SPACE_FILE]};
}

// Plans what comes closest, so that the budget that is named works.
static void complain(search *s) {
    static const char *const names[SPACES] = {"device memory", "main memory", "disk"};
    const compile_target *t = s->target;
    memory_plan plan;
    if (variant_plan(variant_at(s, s->nearest.level), t, &s->nearest.choice, s->nearest.ahead,
                     false, &plan, s->err))
        return;
    const int64_t *peak = plan.peak_bytes;
    if (t->shortfall) *t->shortfall = shortfall_of(t, peak);
    int missing = SPACE_DEVICE; // the first space that is too small
    while (missing < SPACE_FILE && (!t->budget[missing] || peak[missing] <= t->budget[missing]))
        missing++;
    int64_t device = peak[SPACE_DEVICE] + t->overhead_bytes;
    char needs[3][32], file[96] = "";
    for (int space = 0; space < SPACES; space++)
        brim_bytes_text(space == SPACE_DEVICE ? device : peak[space], needs[space],
                        sizeof needs[space]);
    if (peak[SPACE_FILE] > 0)
        snprintf(file, sizeof file, " and %s (%" PRId64 " bytes) of disk", needs[SPACE_FILE],
                 peak[SPACE_FILE]);
    brim_fail(s->err, BRIM_MEMORY,
              "the step does not fit: %" PRId64
              " bytes of %s are missing, whatever is recomputed or "
              "streamed; the nearest budget that works is %s (%" PRId64
              " bytes) of device memory and %s (%" PRId64 " bytes) of main memory%s",
              peak[missing] - t->budget[missing], names[missing], needs[SPACE_DEVICE], device,
              needs[SPACE_HOST], peak[SPACE_HOST], file);
    memory_plan_free(&plan);
}

static void search_all(search *s, compiled *out) {
    // Packing rarely reaches the bound: where it misses the budget, the bound is asked to stay
    // lower.
    for (int i = 0; i < PACK_TRIES && !failed(s->err); i++) {
        s->bests = 0;
        try_levels(s, true);
        if (choose(s, out)) return;
        s->bests = 0;
        try_levels(s, false);
        if (choose(s, out)) return;
        if (!s->bests) break; // not even the bound fits
        for (int space = 0; space < SPACES; space++)
            if (s->limit[space] < INT64_MAX) s->limit[space] -= s->limit[space] / 50;
    }
    if (!failed(s->err)) complain(s);
}

// Everything on the device, and as the script marked.
static bool take_whole(search *s, compiled *out) {
    if (failed(s->err) || !variant_at(s, 0)->graph) return false;
    if (complete(s, &(candidate){0}, out)) return true;
    s->whole_bytes = out->plan.peak_bytes[SPACE_DEVICE];
    forget(out);
    return false;
}

// Within the budget, as if it had been found.
static void take_forced(search *s, compiled *out) {
    const forced_plan *f = s->target->forced;
    int32_t last = s->levels.count - 1, level = f->level < last ? f->level : last;
    if (failed(s->err) || !variant_at(s, level)->graph) return;
    candidate c = {.level = level,
                   .choice = settled(s, &f->homes),
                   .ahead = usual_ahead(s, variant_at(s, level))};
    if (complete(s, &c, out) || failed(s->err)) return;
    brim_fail(s->err, BRIM_MEMORY,
              "the forced plan needs %" PRId64 " bytes on the device and %" PRId64
              " on the host, more than the budget",
              out->plan.peak_bytes[SPACE_DEVICE], out->plan.peak_bytes[SPACE_HOST]);
    forget(out);
}

brim_status plan_search(compiled *out, const brim_graph *g, const compile_target *target,
                        brim_error *err) {
    search s = {.g = g, .target = target, .micro_batches = out->micro_batches, .err = err};
    for (int space = 0; space < SPACES; space++) {
        int64_t budget = target->budget[space];
        s.limit[space] = budget > 0 ? budget : space == SPACE_FILE ? 0 : INT64_MAX;
        s.nearest_needs.bytes[space] = INT64_MAX;
    }
    if (!recompute_levels_make(g, &s.levels, err))
        s.variant = brim_calloc_array((size_t)s.levels.count, sizeof *s.variant, err);
    if (target->forced)
        take_forced(&s, out);
    else if (!failed(err) && !take_whole(&s, out))
        search_all(&s, out);
    if (!failed(err)) hand_over(&s, out);
    for (int32_t i = 0; s.variant && i < s.levels.count; i++) variant_free(&s.variant[i]);
    free(s.variant);
    recompute_levels_free(&s.levels);
    return err->status;
}
