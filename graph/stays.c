#include "graph/stays.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/stay_times.h"

// A moment at a position: transfers come before its node and after it.
enum { BEFORE, AT, AFTER, MOMENTS };

// What happens to a storage in one space at one moment, in which sections.
typedef struct use {
    int32_t moment; // MOMENTS * position + BEFORE, AT or AFTER
    uint8_t reads, writes;
    memory_space space; // of the node
} use;

typedef struct maker {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const plan_request *request;
    memory_plan *plan;
    int32_t end;           // the last position
    uint8_t first_section; // that a step runs
    bool *persistent;      // by storage
    bool *invariant;       // by storage: written in a step's first micro-batch only, read in all
    int32_t
        *first_node_use; // by storage, and one more: nodes' uses are node_use[first_node_use[v]] ..
    use *node_use;
    int32_t *node_uses; // by storage: their number
    use *scratch;       // uses of one storage in one space
    size_t scratch_capacity, stay_capacity, transfer_capacity;
    brim_error *err;
} maker;

bool storage_is_persistent(const brim_graph *g, const graph_layout *layout, value_id storage) {
    value_role role = g->value[storage].role;
    if (role != ROLE_RESULT && role != ROLE_INPUT) return true;
    for (int32_t r = 0; r < g->results; r++)
        if (layout->of[g->result[r]].storage == storage) return true;
    return false;
}

static int32_t position_of(int32_t moment) {
    return moment / MOMENTS;
}

static uint8_t sections_of(const use *u) {
    return u->reads | u->writes;
}

// ---- what nodes use -----------------------------------------------------------------------------

static memory_space space_of_node(const maker *m, node_id n) {
    return m->plan->on_host[n] ? SPACE_HOST : SPACE_DEVICE;
}

// One use of storage v by the node at `position`; all of a node's are one.
static void add_use(maker *m, value_id v, int32_t position, uint8_t reads, uint8_t writes,
                    int32_t *count) {
    use *list = m->node_use + m->first_node_use[v];
    int32_t moment = MOMENTS * position + AT;
    if (!count[v] || list[count[v] - 1].moment != moment)
        list[count[v]++] =
            (use){.moment = moment, .space = space_of_node(m, m->schedule->order[position])};
    list[count[v] - 1].reads |= reads;
    list[count[v] - 1].writes |= writes;
}

// A step's first micro-batch begins a sum without reading what the last step left.
static uint8_t reading_sections(const graph_node *node, int32_t input) {
    bool sum = node->op == OP_ACCUMULATE && input == 0;
    return sum ? node->sections & (uint8_t)~SECTION_FIRST : node->sections;
}

static void list_node_uses(maker *m) {
    const brim_graph *g = m->g;
    int32_t *count = brim_calloc_array((size_t)g->values, sizeof *count, m->err);
    if (!count) return;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++)
            m->first_node_use[m->layout->of[node->input[i]].storage + 1]++;
        for (int32_t j = 0; j < node->outputs; j++)
            m->first_node_use[m->layout->of[node->first_output + j].storage + 1]++;
    }
    for (value_id v = 0; v < g->values; v++) m->first_node_use[v + 1] += m->first_node_use[v];
    m->node_use =
        brim_calloc_array((size_t)m->first_node_use[g->values], sizeof *m->node_use, m->err);
    for (int32_t at = 0; at < m->schedule->count && m->node_use; at++) {
        const graph_node *node = &g->node[m->schedule->order[at]];
        if (op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++)
            add_use(m, m->layout->of[node->input[i]].storage, at, reading_sections(node, i), 0,
                    count);
        for (int32_t j = 0; j < node->outputs; j++) {
            value_id s = m->layout->of[node->first_output + j].storage;
            add_use(m, s, at, 0, node->sections, count);
            m->invariant[s] |= node->sections == SECTION_FIRST;
        }
    }
    m->node_uses = count;
}

static int32_t node_uses(const maker *m, value_id v, const use **list) {
    *list = m->node_use + m->first_node_use[v];
    return m->node_uses[v];
}

// The first of a list's uses behind a moment.
static int32_t first_behind(const use *list, int32_t count, int32_t moment) {
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (list[middle].moment <= moment)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// ---- uses in one space --------------------------------------------------------------------------

static int by_moment(const void *x, const void *y) {
    const use *a = x, *b = y;
    return (a->moment > b->moment) - (a->moment < b->moment);
}

// Those of nodes there, and those of the stays nearer to the device: each is filled from here and
// written back to here.
static int32_t uses_in(maker *m, value_id v, memory_space space) {
    const use *list;
    int32_t uses = node_uses(m, v, &list), count = 0;
    const memory_plan *plan = m->plan;
    size_t most = (size_t)uses + 2 * (size_t)plan->stays;
    bool relays = space > SPACE_DEVICE && plan->storage[v].space >= space;
    if (!relays) most = (size_t)uses;
    if (!brim_grow((void **)&m->scratch, &m->scratch_capacity, most, sizeof *m->scratch, m->err))
        return 0;
    for (int32_t i = 0; i < uses; i++)
        if (list[i].space == space) m->scratch[count++] = list[i];
    for (int32_t i = plan->first_stay[v]; relays && i < plan->stays && plan->stay[i].storage == v;
         i++) {
        const stay *s = &plan->stay[i];
        if (s->place.space + 1 != space) continue;
        if (s->fetch)
            m->scratch[count++] = (use){MOMENTS * s->fetch_at + BEFORE, s->fetch, 0, space};
        if (s->store)
            m->scratch[count++] = (use){MOMENTS * s->store_at + AFTER, 0, s->store, space};
    }
    if (relays) qsort(m->scratch, (size_t)count, sizeof *m->scratch, by_moment);
    return count;
}

// ---- stays --------------------------------------------------------------------------------------

// Is a copy not worth keeping between two uses? It is, if fetching it again would take as long.
static bool idle_too_long(const maker *m, value_id v, memory_space space, const use *a,
                          const use *b) {
    const stream_times *t = m->request->times;
    int32_t from = position_of(a->moment), to = position_of(b->moment);
    if (!t) return to > from + 1;
    double rate = t->bytes_per_second[space + 1][space];
    double again = (double)m->plan->storage[v].bytes / rate;
    return t->start[to] - t->start[from + 1] > again;
}

// Does a node there use the storage at home, or nearer to its home than `space` is? What is further
// from home passes through `space` itself.
static bool on_the_side_of_home(const maker *m, value_id v, memory_space space, memory_space node) {
    return m->plan->storage[v].space < space ? node < space : node > space;
}

// Does a node on that side use it between two uses, so that one stay cannot hold both? It can where
// the node only reads, and nothing is written in the stay after that.
static bool used_at_home_between(const maker *m, value_id v, memory_space space, const use *a,
                                 const use *b, bool written_later) {
    const use *list;
    int32_t count = node_uses(m, v, &list);
    for (int32_t i = first_behind(list, count, a->moment); i < count && list[i].moment < b->moment;
         i++)
        if ((list[i].writes || written_later) && on_the_side_of_home(m, v, space, list[i].space))
            return true;
    return false;
}

// The sections in which uses first .. last - 1 of a list read or write.
static uint8_t sections_between(const use *list, int32_t first, int32_t last, bool writes) {
    uint8_t sections = 0;
    for (int32_t i = first; i < last; i++)
        sections |= writes ? list[i].writes : sections_of(&list[i]);
    return sections;
}

// Nodes' uses on the side of home, behind a moment.
static uint8_t used_later(const maker *m, value_id v, int32_t moment, memory_space space) {
    const use *list;
    int32_t count = node_uses(m, v, &list);
    uint8_t sections = 0;
    for (int32_t i = first_behind(list, count, moment); i < count; i++)
        if (on_the_side_of_home(m, v, space, list[i].space)) sections |= sections_of(&list[i]);
    return sections;
}

// In which sections the stay of uses first .. last - 1 must be filled: where its first use reads,
// or adds to what an earlier stay has written.
static uint8_t fetch_sections(const use *list, int32_t first, int32_t last) {
    uint8_t fetch = 0, seen = 0;
    for (int32_t i = first; i < last; i++) {
        fetch |= list[i].reads & (uint8_t)~seen;
        seen |= sections_of(&list[i]);
    }
    return fetch | (uint8_t)(seen & sections_between(list, 0, first, true));
}

// In which sections it must be written back: where it is written, and somebody reads that after it.
static uint8_t store_sections(const maker *m, value_id v, memory_space space, const use *list,
                              int32_t first, int32_t last, int32_t count) {
    value_role role = m->g->value[v].role;
    uint8_t written = sections_between(list, first, last, true);
    if (m->persistent[v] && role != ROLE_ACCUMULATOR) return written;
    uint8_t later =
        sections_between(list, last, count, false) | used_later(m, v, list[last - 1].moment, space);
    if (m->invariant[v]) // later micro-batches read it wherever this one does
        later |=
            (sections_between(list, 0, count, false) | used_later(m, v, -1, space)) > SECTION_FIRST
                ? SECTION_FIRST
                : 0;
    if (role == ROLE_ACCUMULATOR) later |= SECTION_FIRST | SECTION_MIDDLE; // the next micro-batch
    return written & later;
}

static void add_stay(maker *m, value_id v, memory_space space, const use *list, int32_t first,
                     int32_t last, int32_t count) {
    memory_plan *plan = m->plan;
    if (!brim_grow((void **)&plan->stay, &m->stay_capacity, (size_t)plan->stays + 1,
                   sizeof *plan->stay, m->err))
        return;
    stay s = {.storage = v,
              .first_use = position_of(list[first].moment),
              .last_use = position_of(list[last - 1].moment)};
    s.fetch_at = s.first_use;
    for (int32_t i = first; i < last; i++)
        if (list[i].writes) s.store_at = position_of(list[i].moment);
    s.place = (storage_place){space, -1, plan->storage[v].bytes, s.first_use, s.last_use};
    bool copied_out = plan->storage[v].space < space; // from the device, to be read on the host
    s.fetch =
        copied_out ? sections_between(list, first, last, false) : fetch_sections(list, first, last);
    if (copied_out) { // host updates still read it while the next step has begun
        s.place.first = 0;
        s.place.last = m->end;
    } else {
        s.store = store_sections(m, v, space, list, first, last, count);
    }
    plan->stay[plan->stays++] = s;
}

// What is made there stays there: only what outlives the step is filled, and written back.
static void last_for_the_step(const maker *m, stay *s, int32_t last_moment) {
    value_id v = s->storage;
    bool outlives = m->persistent[v] && m->g->value[v].role != ROLE_ACCUMULATOR;
    s->whole = true;
    s->place.first = 0;
    s->place.last = m->end;
    s->fetch = outlives && s->fetch ? m->first_section : 0;
    if (!outlives) s->store &= used_later(m, v, last_moment, SPACE_DEVICE);
}

// Is it to be there for the whole step? Not where its home is written while it is still used.
static bool is_whole(const maker *m, value_id v, memory_space space, const use *list,
                     int32_t count) {
    if (space != SPACE_DEVICE || !m->request->whole || !m->request->whole[v] || !count)
        return false;
    int32_t last_write = -1;
    for (int32_t i = 0; i < count; i++)
        if (list[i].writes) last_write = list[i].moment;
    const use *node;
    int32_t nodes = node_uses(m, v, &node);
    for (int32_t i = 0; i < nodes; i++) {
        if (!on_the_side_of_home(m, v, space, node[i].space)) continue;
        if (node[i].moment < last_write) return false;
        if (node[i].writes &&
            (node[i].writes != SECTION_LAST || node[i].moment < list[count - 1].moment))
            return false;
    }
    return true;
}

static void split_uses(maker *m, value_id v, memory_space space) {
    int32_t count = uses_in(m, v, space), first = 0;
    bool copied_out = m->plan->storage[v].space < space;
    use *list = m->scratch;
    bool whole = is_whole(m, v, space, list, count);
    int32_t last_write = count - 1;
    while (last_write >= 0 && !list[last_write].writes) last_write--;
    for (int32_t i = 1; i <= count && !failed(m->err); i++) {
        bool apart = i == count ||
                     used_at_home_between(m, v, space, &list[i - 1], &list[i], i <= last_write) ||
                     (!copied_out && !whole && idle_too_long(m, v, space, &list[i - 1], &list[i]));
        if (!apart) continue;
        add_stay(m, v, space, list, first, i, count);
        if (whole && !failed(m->err))
            last_for_the_step(m, &m->plan->stay[m->plan->stays - 1], list[i - 1].moment);
        first = i;
    }
}

// A value that needs its home in no section has one stay, which then is its home.
static void settle(maker *m, value_id v) {
    memory_plan *plan = m->plan;
    int32_t first = plan->first_stay[v];
    if (m->persistent[v] || m->invariant[v] || plan->stays != first + 1) return;
    const stay *s = &plan->stay[first];
    if (s->fetch || s->store || s->place.space > plan->storage[v].space) return;
    plan->storage[v].space = s->place.space;
    plan->stays--;
}

// ---- time ---------------------------------------------------------------------------------------

// The first position at which the stay may be fetched: behind its last write elsewhere.
static int32_t earliest_fetch(const maker *m, const stay *s, int32_t index) {
    const memory_plan *plan = m->plan;
    int32_t earliest = 0;
    if (index > plan->first_stay[s->storage] && plan->stay[index - 1].storage == s->storage &&
        plan->stay[index - 1].place.space == s->place.space)
        earliest = plan->stay[index - 1].last_use + 1;
    const use *list;
    int32_t count = node_uses(m, s->storage, &list);
    for (int32_t i = 0; i < count; i++) {
        int32_t at = position_of(list[i].moment);
        if (list[i].writes && at < s->first_use && at + 1 > earliest &&
            on_the_side_of_home(m, s->storage, s->place.space, list[i].space))
            earliest = at + 1;
    }
    return earliest;
}

static void spread_in_time(maker *m, int32_t first, memory_space space) {
    memory_plan *plan = m->plan;
    int32_t most = plan->stays - first, fetches = 0, stores = 0;
    timed_stay *fetch = brim_calloc_array((size_t)most, sizeof *fetch, m->err);
    timed_stay *store = brim_calloc_array((size_t)most, sizeof *store, m->err);
    for (int32_t i = first; i < plan->stays && !failed(m->err); i++) {
        stay *s = &plan->stay[i];
        if (plan->storage[s->storage].space <= space) continue; // copied out, to be read
        if (s->fetch)
            fetch[fetches++] = (timed_stay){s, i, s->first_use, earliest_fetch(m, s, i), 0};
        if (s->store) store[stores++] = (timed_stay){s, i, s->store_at, 0, 0};
    }
    if (!failed(m->err)) {
        stays_fetch_ahead(fetch, fetches, m->request->times, space, m->end);
        stays_hold_stored(store, stores, m->request->times, space, m->end);
    }
    free(fetch);
    free(store);
}

// ---- homes --------------------------------------------------------------------------------------

static void cover(storage_place *place, int32_t position) {
    if (position < place->first) place->first = position;
    if (position > place->last) place->last = position;
}

// What a host update still reads while the next step has begun must not be overwritten by that.
static bool outlives_its_step(const maker *m, value_id v) {
    const use *list;
    int32_t count = node_uses(m, v, &list);
    if (m->plan->storage[v].space == SPACE_DEVICE) return false;
    for (int32_t i = 0; i < count; i++)
        if (list[i].space == SPACE_HOST) return true;
    return false;
}

static void live_at_home(maker *m, value_id v) {
    storage_place *home = &m->plan->storage[v];
    int32_t count = uses_in(m, v, home->space);
    for (int32_t i = 0; i < count; i++) cover(home, position_of(m->scratch[i].moment));
    for (int32_t i = m->plan->first_stay[v]; i < m->plan->first_stay[v + 1]; i++)
        if (m->plan->stay[i].place.space > home->space) cover(home, m->plan->stay[i].fetch_at);
    if (m->g->value[v].producer < 0) cover(home, 0); // inputs arrive before the first node
    if (!m->persistent[v] && !m->invariant[v] && !outlives_its_step(m, v)) return;
    cover(home, 0);
    cover(home, m->end);
}

static int by_storage(const void *x, const void *y) {
    const stay *a = x, *b = y;
    if (a->storage != b->storage) return a->storage < b->storage ? -1 : 1;
    if (a->place.space != b->place.space) return a->place.space < b->place.space ? -1 : 1;
    return (a->first_use > b->first_use) - (a->first_use < b->first_use);
}

static void index_stays(maker *m) {
    memory_plan *plan = m->plan;
    bool sorted = true; // as those on the device are made
    for (int32_t k = 1; k < plan->stays && sorted; k++)
        sorted = by_storage(&plan->stay[k - 1], &plan->stay[k]) < 0;
    if (!sorted) qsort(plan->stay, (size_t)plan->stays, sizeof *plan->stay, by_storage);
    int32_t i = 0;
    for (value_id v = 0; v <= m->g->values; v++) {
        while (i < plan->stays && plan->stay[i].storage < v) i++;
        plan->first_stay[v] = i;
    }
}

// ---- transfers ----------------------------------------------------------------------------------

static void add_transfer(maker *m, transfer t) {
    memory_plan *plan = m->plan;
    if (!t.sections || !brim_grow((void **)&plan->transfer, &m->transfer_capacity,
                                  (size_t)plan->transfers + 1, sizeof t, m->err))
        return;
    plan->transfer[plan->transfers++] = t;
}

// At one moment, what comes from further out goes first, and what goes further out goes last.
typedef struct transfer_order {
    int64_t key;
    transfer t;
} transfer_order;

static int by_key(const void *x, const void *y) {
    const transfer_order *a = x, *b = y;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return (a->t.stay > b->t.stay) - (a->t.stay < b->t.stay);
}

static void order_transfers(maker *m) {
    memory_plan *plan = m->plan;
    transfer_order *list = brim_calloc_array((size_t)plan->transfers, sizeof *list, m->err);
    for (int32_t i = 0; i < plan->transfers && list; i++) {
        const transfer *t = &plan->transfer[i];
        const stay *s = &plan->stay[t->stay];
        bool copied_out = plan->storage[s->storage].space < s->place.space;
        int32_t nearness =
            t->after || copied_out ? (int32_t)s->place.space : SPACES - (int32_t)s->place.space;
        // What is needed first is fetched first.
        int64_t urgency = t->after ? 0 : s->first_use;
        list[i] =
            (transfer_order){(((int64_t)t->position * 2 + t->after) * (SPACES + 1) + nearness) *
                                     ((int64_t)m->end + 2) +
                                 urgency,
                             *t};
    }
    if (list && plan->transfers) qsort(list, (size_t)plan->transfers, sizeof *list, by_key);
    for (int32_t i = 0; i < plan->transfers && list; i++) plan->transfer[i] = list[i].t;
    free(list);
}

static void list_transfers(maker *m) {
    for (int32_t i = 0; i < m->plan->stays && !failed(m->err); i++) {
        const stay *s = &m->plan->stay[i];
        add_transfer(m, (transfer){i, false, s->fetch_at, false, s->fetch});
        add_transfer(m, (transfer){i, true, s->store_at, true, s->store});
    }
    if (!failed(m->err) && !m->request->estimate) order_transfers(m);
}

// ---- all of it ----------------------------------------------------------------------------------

static void refuse_home(maker *m, value_id v, const char *why) {
    const char *name = m->g->value[v].name;
    brim_fail(m->err, BRIM_ARGUMENT, "memory plan: value %d (%s) %s", v, name ? name : "", why);
}

// What the request may ask for.
static void check_request(maker *m) {
    const plan_request *r = m->request;
    const brim_graph *g = m->g;
    for (node_id n = 0; r->on_host && n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (!r->on_host[n]) continue;
        if (op_table[node->op].family != FAMILY_UPDATE)
            brim_fail(m->err, BRIM_ARGUMENT, "memory plan: node %d (%s) cannot run on the host", n,
                      op_table[node->op].name);
        for (int32_t j = 0; j < node->outputs && !failed(m->err); j++) {
            value_id s = m->layout->of[node->first_output + j].storage;
            if (!r->home || r->home[s] == SPACE_DEVICE)
                refuse_home(m, s, "is updated on the host; its home must be there, or on disk");
        }
    }
    for (value_id v = 0; r->home && v < g->values && !failed(m->err); v++) {
        if (m->layout->of[v].storage != v || r->home[v] == SPACE_DEVICE) continue;
        value_role role = g->value[v].role;
        bool fixed =
            role == ROLE_INPUT || role == ROLE_CONTROL || (role == ROLE_RESULT && m->persistent[v]);
        if ((unsigned)r->home[v] >= SPACES || fixed)
            refuse_home(m, v, "must have its home on the device");
        else if (r->home[v] == SPACE_FILE && !m->persistent[v])
            refuse_home(m, v, "does not outlive its step, and cannot have its home on disk");
    }
}

// Stays of one space, for each storage whose home is elsewhere.
static void make_stays(maker *m, memory_space space) {
    memory_plan *plan = m->plan;
    int32_t before = plan->stays;
    for (value_id v = 0; v < m->g->values && !failed(m->err); v++) {
        if (m->layout->of[v].storage != v || plan->storage[v].space == space) continue;
        if (plan->storage[v].space < space && space != SPACE_HOST) continue;
        if (space == SPACE_DEVICE) plan->first_stay[v] = plan->stays;
        split_uses(m, v, space);
        if (space == SPACE_DEVICE) settle(m, v);
    }
    if (m->request->times && !failed(m->err)) spread_in_time(m, before, space);
    if (!failed(m->err)) index_stays(m);
}

static void make(maker *m) {
    const brim_graph *g = m->g;
    memory_plan *plan = m->plan;
    for (value_id v = 0; v < g->values; v++)
        m->persistent[v] = storage_is_persistent(g, m->layout, v);
    uint8_t used = 0;
    for (node_id n = 0; n < g->nodes; n++) used |= g->node[n].sections;
    m->first_section = used & SECTION_FIRST ? SECTION_FIRST : SECTION_LAST;
    check_request(m);
    if (!failed(m->err)) list_node_uses(m);
    for (value_id v = 0; v < g->values; v++) {
        if (m->request->home) plan->storage[v].space = m->request->home[v];
        plan->storage[v].first = INT32_MAX;
        plan->storage[v].last = -1;
    }
    for (memory_space space = SPACE_DEVICE; space < SPACE_FILE && !failed(m->err); space++)
        make_stays(m, space);
    for (value_id v = 0; v < g->values && !failed(m->err); v++)
        if (m->layout->of[v].storage == v) live_at_home(m, v);
    if (!failed(m->err)) list_transfers(m);
}

brim_status stays_make(const brim_graph *g, const graph_layout *layout,
                       const graph_schedule *schedule, const plan_request *request,
                       memory_plan *plan, brim_error *err) {
    size_t values = (size_t)g->values;
    maker m = {.g = g,
               .layout = layout,
               .schedule = schedule,
               .request = request,
               .plan = plan,
               .end = schedule->count ? schedule->count - 1 : 0,
               .err = err};
    m.persistent = brim_calloc_array(values, sizeof *m.persistent, err);
    m.invariant = brim_calloc_array(values, sizeof *m.invariant, err);
    m.first_node_use = brim_calloc_array(values + 1, sizeof *m.first_node_use, err);
    plan->first_stay = brim_calloc_array(values + 1, sizeof *plan->first_stay, err);
    if (!failed(err)) make(&m);
    free(m.persistent);
    free(m.invariant);
    free(m.first_node_use);
    free(m.node_use);
    free(m.node_uses);
    free(m.scratch);
    return err->status;
}
