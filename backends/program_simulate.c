#include "backends/program_simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/cost.h"

// The third step is measured: its predecessors have filled the queues. Of many equal micro-batches
// two are run, and what the second one adds stands for the others.
enum { STEPS = 3, MOST_MICRO_BATCHES = 4 };

// ---- each record alone --------------------------------------------------------------------------

static double access_bytes(const program_record *r) {
    double bytes = 0;
    for (int32_t i = 0; i < r->accesses; i++) bytes += (double)r->access[i].range.bytes;
    return bytes;
}

static double copy_seconds(const program_record *r, const brim_rates *rates) {
    double bytes = (double)r->as.copy.from.bytes;
    const double rate[QUEUE_COUNT] = {
        [QUEUE_COMPUTE] = rates->memory / 2, [QUEUE_IN] = rates->link_in,
        [QUEUE_OUT] = rates->link_out,       [QUEUE_READ] = rates->disk_read,
        [QUEUE_WRITE] = rates->disk_write,
    };
    bool on_device = r->as.copy.from.space == SPACE_DEVICE && r->as.copy.to.space == SPACE_DEVICE;
    queue_id queue = r->queue;
    if (queue == QUEUE_COMPUTE && !on_device) // inputs and results
        queue = r->as.copy.from.space == SPACE_HOST ? QUEUE_IN : QUEUE_OUT;
    return rate[queue] > 0 ? bytes / rate[queue] : 0;
}

static double product_seconds(const matmul_shape *s, double bytes, const brim_rates *rates) {
    double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k * (double)s->batch;
    return fmax(flops / (s->in == BRIM_F32 ? rates->matmul_32 : rates->matmul_16),
                bytes / rates->memory) +
           rates->launch;
}

// A node's operations are shared by its launches, where it is not its products that do them.
static double launch_seconds(const program_record *r, double node_operations,
                             const brim_rates *rates) {
    return fmax(access_bytes(r) / rates->memory, node_operations / rates->matmul_16) +
           rates->launch;
}

void program_seconds(const program *p, const brim_graph *g, const brim_rates *rates, double *out) {
    for (int32_t i = 0; i < p->records; i++) {
        const program_record *r = &p->record[i];
        double operations = 0;
        if (r->kind == RECORD_LAUNCH && r->node >= 0 &&
            op_table[g->node[r->node].op].family == FAMILY_ATTENTION) {
            int32_t launches = 1;
            for (int32_t j = i - 1; j >= 0 && p->record[j].node == r->node; j--) launches++;
            for (int32_t j = i + 1; j < p->records && p->record[j].node == r->node; j++) launches++;
            operations = node_flops(g, &g->node[r->node]) / launches;
        }
        out[i] = r->kind == RECORD_COPY ? copy_seconds(r, rates)
                 : r->kind == RECORD_MATMUL
                     ? product_seconds(&r->as.matmul.shape, access_bytes(r), rates)
                 : r->kind == RECORD_HOST ? node_bytes(g, &g->node[r->node]) / rates->host
                                          : launch_seconds(r, operations, rates);
    }
}

// ---- the queues ---------------------------------------------------------------------------------

typedef struct run {
    int32_t record, step;
    int32_t first_wait; // into waits; up to the next run's
} run;

typedef struct line { // the runs of one queue, in order
    int32_t *run;
    int32_t count, next;
    bool active;
    double left; // seconds of the active run, at full speed
} line;

typedef struct simulator {
    const program *p;
    const double *seconds;
    const brim_rates *rates;
    const device_traits *traits;
    run *run;
    int32_t *wait; // runs
    bool *done;    // by run
    size_t runs, run_capacity, waits, wait_capacity;
    line line[QUEUE_COUNT];
    int32_t left_on_device[STEPS]; // runs of the device's queues that are not done
    double ended[STEPS];           // when a step was done on the device
    double now;
    simulation measured;
    brim_error *err;
} simulator;

// On which line a record stands in for its queue.
static queue_id line_of(const simulator *s, int32_t record) {
    queue_id q = s->p->record[record].queue;
    return s->traits->one_queue && q < DEVICE_QUEUES ? QUEUE_COMPUTE : q;
}

// The queue that the active run of a line is of; -1: none.
static int active_queue(const simulator *s, int q) {
    const line *l = &s->line[q];
    return l->active ? (int)s->p->record[s->run[l->run[l->next]].record].queue : -1;
}

static void add_run(simulator *s, int32_t record, int step, int32_t *latest) {
    const program_record *r = &s->p->record[record];
    if (!brim_grow((void **)&s->run, &s->run_capacity, s->runs + 2, sizeof *s->run, s->err)) return;
    s->run[s->runs] = (run){record, step, (int32_t)s->waits};
    for (int32_t i = 0; i < r->waits; i++) {
        if (latest[r->wait[i]] < 0) continue;
        if (!brim_grow((void **)&s->wait, &s->wait_capacity, s->waits + 1, sizeof *s->wait, s->err))
            return;
        s->wait[s->waits++] = latest[r->wait[i]];
    }
    latest[record] = (int32_t)s->runs++;
    s->run[s->runs] = (run){.first_wait = (int32_t)s->waits};
    s->line[line_of(s, record)].count++;
    if (r->queue < DEVICE_QUEUES) s->left_on_device[step]++;
}

static void unroll(simulator *s, int32_t micro_batches) {
    int32_t *latest = brim_calloc_array((size_t)s->p->records, sizeof *latest, s->err);
    for (int32_t i = 0; i < s->p->records && latest; i++) latest[i] = -1;
    for (int step = 0; step < STEPS && latest; step++)
        for (int32_t m = 0; m < micro_batches; m++) {
            uint8_t section = m == micro_batches - 1 ? SECTION_LAST
                              : m == 0               ? SECTION_FIRST
                                                     : SECTION_MIDDLE;
            for (int32_t i = 0; i < s->p->records && !failed(s->err); i++)
                if (s->p->record[i].sections & section) add_run(s, i, step, latest);
        }
    free(latest);
}

static void fill_lines(simulator *s) {
    for (int q = 0; q < QUEUE_COUNT; q++) {
        s->line[q].run = brim_calloc_array((size_t)s->line[q].count, sizeof(int32_t), s->err);
        s->line[q].count = 0;
    }
    for (size_t i = 0; i < s->runs && !failed(s->err); i++) {
        line *l = &s->line[line_of(s, s->run[i].record)];
        l->run[l->count++] = (int32_t)i;
    }
    s->done = brim_calloc_array(s->runs, sizeof *s->done, s->err);
}

// What keeps the queue's next run from starting: a queue, or -1.
static int held_up_by(const simulator *s, queue_id q) {
    const line *l = &s->line[q];
    const run *r = &s->run[l->run[l->next]];
    for (int32_t i = r->first_wait; i < (r + 1)->first_wait; i++)
        if (!s->done[s->wait[i]]) return (int)s->p->record[s->run[s->wait[i]].record].queue;
    if (q < DEVICE_QUEUES && r->step > 0 && s->left_on_device[r->step - 1] > 0)
        return QUEUE_COMPUTE;
    return -1;
}

static void start_what_can(simulator *s) {
    for (queue_id q = 0; q < QUEUE_COUNT; q++) {
        line *l = &s->line[q];
        if (l->active || l->next == l->count || held_up_by(s, q) >= 0) continue;
        l->active = true;
        l->left = s->seconds[s->run[l->run[l->next]].record];
    }
}

// Who asks for less of the host's memory than an equal share gets that; the others share the rest
// equally (max-min fairness, as memory controllers aim at).
static void share_host_memory(double rate, const double full[QUEUE_COUNT],
                              double speed[QUEUE_COUNT]) {
    double left = rate;
    int asking = 0;
    bool served[QUEUE_COUNT] = {false};
    for (int q = 0; q < QUEUE_COUNT; q++) asking += speed[q] * full[q] > 0;
    for (bool any = true; any && asking > 0;) {
        any = false;
        for (int q = 0; q < QUEUE_COUNT; q++) {
            double asked = speed[q] * full[q];
            if (served[q] || asked <= 0 || asked > left / asking) continue;
            left -= asked;
            asking--;
            served[q] = any = true;
        }
    }
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (!served[q] && speed[q] * full[q] > 0) speed[q] = left / asking / full[q];
}

// How fast each active queue goes: the link has less for both ways together than for each, and host
// memory less than all that may ask for it.
static void find_speeds(const simulator *s, double speed[QUEUE_COUNT]) {
    const brim_rates *r = s->rates;
    const double full[QUEUE_COUNT] = {[QUEUE_IN] = r->link_in,
                                      [QUEUE_OUT] = r->link_out,
                                      [QUEUE_HOST] = r->host,
                                      [QUEUE_READ] = r->disk_read,
                                      [QUEUE_WRITE] = r->disk_write};
    for (int q = 0; q < QUEUE_COUNT; q++) speed[q] = s->line[q].active;
    if (s->traits->cpu && speed[QUEUE_COMPUTE] > 0 && speed[QUEUE_HOST] > 0)
        speed[QUEUE_COMPUTE] = speed[QUEUE_HOST] = 0.5;
    if (speed[QUEUE_IN] > 0 && speed[QUEUE_OUT] > 0) {
        double both = fmin(1, r->link_both / (r->link_in + r->link_out));
        speed[QUEUE_IN] = speed[QUEUE_OUT] = both;
    }
    share_host_memory(r->host, full, speed);
}

static void account(simulator *s, double passed) {
    const line *compute = &s->line[QUEUE_COMPUTE];
    simulation *m = &s->measured;
    if (s->left_on_device[STEPS - 2] > 0 || s->left_on_device[STEPS - 1] == 0) return;
    bool streams = false;
    for (int q = 0; q < QUEUE_COUNT; q++) {
        int at_work = active_queue(s, q);
        if (at_work >= 0) m->busy[at_work] += passed;
        streams |= at_work == QUEUE_IN || at_work == QUEUE_OUT;
    }
    if (streams) m->streaming += passed;
    if (streams && active_queue(s, QUEUE_COMPUTE) == QUEUE_COMPUTE) m->hidden += passed;
    if (compute->active || compute->next == compute->count) return;
    int by = held_up_by(s, QUEUE_COMPUTE);
    if (by >= 0) m->waited[by] += passed;
}

static bool advance(simulator *s) {
    double speed[QUEUE_COUNT], least = INFINITY;
    find_speeds(s, speed);
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (s->line[q].active) least = fmin(least, s->line[q].left / speed[q]);
    if (least == INFINITY) return false;
    account(s, least);
    s->now += least;
    for (int q = 0; q < QUEUE_COUNT; q++) {
        line *l = &s->line[q];
        if (!l->active) continue;
        l->left -= least * speed[q];
        if (l->left > 1e-15) continue;
        int32_t r = l->run[l->next++], step = s->run[r].step;
        l->active = false;
        s->done[r] = true;
        if (q < DEVICE_QUEUES && --s->left_on_device[step] == 0) s->ended[step] = s->now;
    }
    return true;
}

static void run_all(simulator *s) {
    do start_what_can(s);
    while (advance(s));
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (s->line[q].next < s->line[q].count && !failed(s->err))
            brim_fail(s->err, BRIM_GRAPH, "simulation: queue %s waits for what never ends",
                      queue_name((queue_id)q));
}

static void simulate(const program *p, const double *seconds, const brim_rates *rates,
                     const device_traits *traits, int32_t micro_batches, simulation *out,
                     brim_error *err) {
    simulator s = {.p = p, .seconds = seconds, .rates = rates, .traits = traits, .err = err};
    unroll(&s, micro_batches);
    if (!failed(err)) fill_lines(&s);
    if (!failed(err)) run_all(&s);
    *out = s.measured;
    out->seconds = s.ended[STEPS - 1] - s.ended[STEPS - 2];
    free(s.run);
    free(s.wait);
    free(s.done);
    for (int q = 0; q < QUEUE_COUNT; q++) free(s.line[q].run);
}

brim_status program_simulate(const program *p, const double *seconds, const brim_rates *rates,
                             const device_traits *traits, simulation *out, brim_error *err) {
    *out = (simulation){0};
    if (failed(err)) return err->status;
    int32_t all = p->micro_batches;
    simulate(p, seconds, rates, traits, all < MOST_MICRO_BATCHES ? all : MOST_MICRO_BATCHES, out,
             err);
    if (all <= MOST_MICRO_BATCHES || failed(err)) return err->status;
    simulation less;
    simulate(p, seconds, rates, traits, MOST_MICRO_BATCHES - 1, &less, err);
    _Static_assert(sizeof less == (3 + 2 * QUEUE_COUNT) * sizeof(double), "all of it is seconds");
    double more = all - MOST_MICRO_BATCHES;
    double *sum = (double *)out;
    const double *of_less = (const double *)&less;
    for (size_t i = 0; i < sizeof less / sizeof *sum; i++) sum[i] += more * (sum[i] - of_less[i]);
    return err->status;
}
