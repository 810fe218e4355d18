// The plan in words and figures: what lies where, what takes how long, and what limits a step.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <brim/report.h>
#include "graph/pass_recompute.h"
#include "optim/trainer.h"

enum { CLASS_MASTERS, CLASS_COPIES, CLASS_STATES, CLASS_GRADIENTS, CLASS_REST, CLASSES };
static const char *const class_names[] = {"parameters", "compute copies", "optimizer states",
                                          "summed gradients", "activations and the rest"};

typedef struct shares { // bytes
    int64_t of[CLASSES][SPACES], all[SPACES];
} shares;

static int class_of(value_role role) {
    static const int classes[] = {
        [ROLE_PARAMETER] = CLASS_MASTERS, [ROLE_COPY] = CLASS_COPIES,
        [ROLE_STATE] = CLASS_STATES,      [ROLE_ACCUMULATOR] = CLASS_GRADIENTS,
        [ROLE_RESULT] = CLASS_REST,       [ROLE_INPUT] = CLASS_REST,
        [ROLE_CONTROL] = CLASS_REST};
    return classes[role];
}

// What comes and goes shares its bytes with others: it is what the named classes leave of the peak.
static shares shares_of(const compiled *c) {
    const memory_plan *plan = &c->plan;
    shares s = {0};
    for (value_id v = 0; v < plan->values; v++) {
        const storage_place *home = &plan->storage[v];
        int class = class_of(c->graph->value[v].role);
        if (home->offset >= 0 && class != CLASS_REST) s.of[class][home->space] += home->bytes;
    }
    for (int32_t i = 0; i < plan->stays; i++) {
        const stay *x = &plan->stay[i];
        int class = class_of(c->graph->value[x->storage].role);
        if (x->whole && class != CLASS_REST) s.of[class][x->place.space] += x->place.bytes;
    }
    for (int space = 0; space < SPACES; space++) {
        s.all[space] = s.of[CLASS_REST][space] = plan->peak_bytes[space];
        for (int class = 0; class < CLASS_REST; class ++)
            s.of[CLASS_REST][space] -= s.of[class][space];
    }
    return s;
}

static void print_cell(int64_t bytes, FILE *out) {
    char text[32] = "-";
    if (bytes > 0) brim_bytes_text(bytes, text, sizeof text);
    fprintf(out, "%14s", text);
}

static void print_shares(const shares *s, FILE *out) {
    bool file = s->all[SPACE_FILE] > 0;
    fprintf(out, "%-26s%14s%14s%s\n", "", "device", "host", file ? "          disk" : "");
    for (int class = 0; class <= CLASSES; class ++) {
        const int64_t *row = class < CLASSES ? s->of[class] : s->all;
        if (!row[SPACE_DEVICE] && !row[SPACE_HOST] && !row[SPACE_FILE]) continue;
        fprintf(out, "  %-24s", class < CLASSES ? class_names[class] : "all");
        for (int space = 0; space < (file ? SPACES : SPACE_FILE); space++)
            print_cell(row[space], out);
        fprintf(out, "\n");
    }
}

static void print_whole(const compiled *c, FILE *out) {
    char text[32];
    int64_t whole = c->choice.whole_bytes, taken = c->plan.peak_bytes[SPACE_DEVICE];
    if (whole <= taken) return;
    fprintf(out, "with everything on the device, a step would need %s there: %.1f times as much\n",
            brim_bytes_text(whole, text, sizeof text), (double)whole / (double)taken);
}

static int count_on_host(const compiled *c) {
    int count = 0;
    for (node_id n = 0; n < c->graph->nodes; n++) count += c->plan.on_host[n];
    return count;
}

static int count_recomputed(const compiled *c) {
    int count = 0;
    for (node_id n = 0; n < c->graph->nodes; n++) {
        const graph_node *node = &c->graph->node[n];
        count += node->recomputed && recompute_cost_of(node) != RECOMPUTE_FREE;
    }
    return count;
}

static void print_treatment(const brim_trainer *t, FILE *out) {
    const compiled *c = &t->training;
    const homes_choice *h = &c->choice.homes;
    int host = count_on_host(c), again = count_recomputed(c);
    if (again) fprintf(out, "recomputed: %d kernels run again in the backward pass\n", again);
    if (h->streamed)
        fprintf(out, "streamed: the weights of %d parameters, for each use\n", h->streamed);
    if (h->offloaded)
        fprintf(out, "offloaded: %d activations, to the host and back\n", h->offloaded);
    if (host)
        fprintf(out, "updates: %d parameters by the CPU, beside the next forward pass\n", host);
    else if (h->hosted)
        fprintf(out, "updates: %d parameters by the device, from states that are streamed to it\n",
                h->hosted);
    if (!again && !h->streamed && !h->offloaded && !h->hosted)
        fprintf(out, "all of it stays on the device\n");
}

// Seconds in the most readable unit.
static void print_seconds(double seconds, FILE *out) {
    if (seconds >= 1)
        fprintf(out, "%.2f s", seconds);
    else
        fprintf(out, "%.3g ms", seconds * 1e3);
}

const char *const queue_work[QUEUE_COUNT] = {
    [QUEUE_COMPUTE] = "the kernels",        [QUEUE_IN] = "copies to the device",
    [QUEUE_OUT] = "copies from the device", [QUEUE_HOST] = "updates by the CPU",
    [QUEUE_READ] = "reading from disk",     [QUEUE_WRITE] = "writing to disk",
};

// The queue that kernels wait for longest, if that is a tenth of the step; else their own.
static int limit_of(const simulation *s) {
    int most = QUEUE_COMPUTE;
    for (int q = QUEUE_COMPUTE + 1; q < QUEUE_COUNT; q++)
        if (s->waited[q] > s->waited[most] || most == QUEUE_COMPUTE) most = q;
    return s->waited[most] >= 0.1 * s->seconds ? most : QUEUE_COMPUTE;
}

static int64_t written_bytes(const compiled *c) {
    int64_t bytes = 0;
    const program *p = c->lowered.program;
    for (int32_t i = 0; p && i < p->records; i++)
        if (p->record[i].queue == QUEUE_WRITE) bytes += p->record[i].as.copy.to.bytes;
    return bytes;
}

static void print_disk(const compiled *c, double seconds, FILE *out) {
    int64_t step = written_bytes(c);
    char text[32], day[32];
    if (!step) return;
    brim_bytes_text(step, text, sizeof text);
    brim_bytes_text((int64_t)((double)step * 86400 / seconds), day, sizeof day);
    fprintf(out, "the disk is written %s each step: %s a day, by which an SSD wears\n", text, day);
}

static void print_time(const brim_trainer *t, FILE *out) {
    const compiled *c = &t->training;
    const simulation *s = &c->choice.expected;
    const brim_trainer_options *o = &t->options;
    if (s->seconds <= 0) return;
    double tokens = (double)(o->batch * o->accumulate * (o->length > 0 ? o->length : 1));
    fprintf(out, "expected: ");
    print_seconds(s->seconds, out);
    fprintf(out, " a step, %.4g tokens a second\n", tokens / s->seconds);
    for (int q = 0; q < QUEUE_COUNT; q++) {
        if (s->busy[q] < 0.005 * s->seconds) continue;
        fprintf(out, "  %-24s %3.0f%% of the time", queue_work[q], 100 * s->busy[q] / s->seconds);
        if (q != QUEUE_COMPUTE && s->waited[q] > 0.005 * s->seconds)
            fprintf(out, "; kernels wait %.0f%% for them", 100 * s->waited[q] / s->seconds);
        fprintf(out, "\n");
    }
    if (s->streaming > 0)
        fprintf(out, "  %.0f%% of the streaming is hidden behind kernels\n",
                100 * s->hidden / s->streaming);
    fprintf(out, "what limits the step: %s\n", queue_work[limit_of(s)]);
    print_disk(c, s->seconds, out);
}

void brim_trainer_explain(const brim_trainer *t, FILE *out) {
    if (!t) return;
    const brim_trainer_options *o = &t->options;
    shares s = shares_of(&t->training);
    fprintf(out, "plan: %lld micro-batch%s of %lld in a step\n", (long long)o->accumulate,
            o->accumulate == 1 ? "" : "es", (long long)o->batch);
    print_shares(&s, out);
    print_whole(&t->training, out);
    print_treatment(t, out);
    print_time(t, out);
}
