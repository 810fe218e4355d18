#include "tests/random_homes.h"

#include <stdlib.h>
#include "graph/stays.h"
#include "tests/sandbox.h"

static memory_space random_home(const planned *p, value_id v, uint64_t *random) {
    value_role role = p->g->value[v].role;
    bool persistent = storage_is_persistent(p->g, &p->layout, v);
    if (p->layout.of[v].storage != v || role == ROLE_INPUT || role == ROLE_CONTROL ||
        (role == ROLE_RESULT && persistent))
        return SPACE_DEVICE;
    return (memory_space)sandbox_below(random, persistent ? SPACES : SPACE_FILE);
}

static bool may_run_on_host(const planned *p, const random_homes *h, const graph_node *node) {
    if (op_table[node->op].family != FAMILY_UPDATE) return false;
    for (int j = 0; j < node->outputs; j++)
        if (h->home[p->layout.of[node->first_output + j].storage] == SPACE_DEVICE) return false;
    return true;
}

static void random_times(random_homes *h, int32_t count, uint64_t *random) {
    h->start = calloc((size_t)count + 2, sizeof *h->start);
    for (int32_t i = 0; i <= count; i++)
        h->start[i + 1] = h->start[i] + (double)sandbox_below(random, 100);
    h->times.start = h->start;
    for (int from = 0; from < SPACES; from++) {
        h->times.ahead[from] = 1 + sandbox_below(random, 20000);
        for (int to = 0; to < SPACES; to++)
            h->times.bytes_per_second[from][to] = 0.1 + (double)sandbox_below(random, 50);
    }
}

void random_homes_make(random_homes *h, planned *p, uint64_t seed) {
    uint64_t random = seed;
    *h = (random_homes){.home = calloc((size_t)p->g->values, sizeof *h->home),
                        .on_host = calloc((size_t)p->g->nodes, sizeof *h->on_host),
                        .whole = calloc((size_t)p->g->values, sizeof *h->whole)};
    for (value_id v = 0; v < p->g->values; v++) {
        h->home[v] = random_home(p, v, &random);
        h->away += h->home[v] != SPACE_DEVICE;
        h->whole[v] = sandbox_below(&random, 3) == 0;
    }
    for (node_id n = 0; n < p->g->nodes; n++) {
        h->on_host[n] = sandbox_below(&random, 2) && may_run_on_host(p, h, &p->g->node[n]);
        h->hosts += h->on_host[n];
    }
    random_times(h, p->schedule.count, &random);
    p->request.home = h->home;
    p->request.on_host = h->on_host;
    p->request.whole = h->whole;
    p->request.times = sandbox_below(&random, 3) ? &h->times : NULL;
}

void random_homes_free(random_homes *h) {
    free(h->home);
    free(h->on_host);
    free(h->whole);
    free(h->start);
}
