#include "backends/stalls.h"

#include <stdlib.h>
#include "core/alloc.h"

// ---- spans --------------------------------------------------------------------------------------

static void add(stall_log *log, stall_span span) {
    if (span.begin < 0) span.begin = 0;
    if (!(span.end > span.begin)) return;
    if (!brim_grow((void **)&log->span, &log->capacity, log->spans + 1, sizeof *log->span,
                   &log->error))
        return;
    log->span[log->spans++] = span;
}

void stall_log_work(stall_log *log, queue_id queue, double begin, double end) {
    add(log, (stall_span){begin, end, queue, false});
}

void stall_log_wait(stall_log *log, queue_id queue, double begin, double end) {
    add(log, (stall_span){begin, end, queue, true});
}

void stall_log_take(stall_log *log, stall_log *from, double behind) {
    for (size_t i = 0; i < from->spans; i++) {
        stall_span span = from->span[i];
        span.begin -= behind;
        span.end -= behind;
        add(log, span);
    }
    if (failed(&from->error)) brim_fail(&log->error, from->error.status, "%s", from->error.text);
    from->spans = 0;
}

void stall_log_free(stall_log *log) {
    free(log->span);
    *log = (stall_log){0};
}

// ---- sums ---------------------------------------------------------------------------------------

typedef struct turn { // a span begins or ends
    double at;
    const stall_span *span;
    int change;
} turn;

static int by_time(const void *a, const void *b) {
    double x = ((const turn *)a)->at, y = ((const turn *)b)->at;
    return (x > y) - (x < y);
}

typedef struct state {
    int works[QUEUE_COUNT], waits[QUEUE_COUNT]; // spans that are open
} state;

// The queue that kernels stand still for; -1: none. Once the last kernel is done, the device's next
// work waits for the copies that are still under way.
static int stands_for(const state *s) {
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (s->waits[q]) return q;
    if (s->works[QUEUE_COMPUTE]) return -1;
    return s->works[QUEUE_OUT] ? QUEUE_OUT : s->works[QUEUE_IN] ? QUEUE_IN : -1;
}

static void account(const state *s, double passed, run_stalls *out) {
    int awaited = stands_for(s);
    bool kernels = s->works[QUEUE_COMPUTE] && awaited < 0;
    bool streams = s->works[QUEUE_IN] || s->works[QUEUE_OUT];
    if (kernels) out->busy[QUEUE_COMPUTE] += passed;
    for (int q = QUEUE_COMPUTE + 1; q < QUEUE_COUNT; q++)
        if (s->works[q]) out->busy[q] += passed;
    if (awaited >= 0) out->waited[awaited] += passed;
    if (kernels || awaited >= 0) out->seconds += passed;
    if (streams) out->streaming += passed;
    if (streams && kernels) out->hidden += passed;
}

brim_status stall_log_sum(stall_log *log, run_stalls *out, brim_error *err) {
    *out = (run_stalls){0};
    if (failed(&log->error)) brim_fail(err, log->error.status, "%s", log->error.text);
    size_t turns = 2 * log->spans;
    turn *turn_at = brim_calloc_array(turns, sizeof *turn_at, err);
    for (size_t i = 0; turn_at && i < log->spans; i++) {
        turn_at[2 * i] = (turn){log->span[i].begin, &log->span[i], 1};
        turn_at[2 * i + 1] = (turn){log->span[i].end, &log->span[i], -1};
    }
    if (turn_at) qsort(turn_at, turns, sizeof *turn_at, by_time);
    state s = {0};
    for (size_t i = 0; turn_at && i < turns; i++) {
        if (i) account(&s, turn_at[i].at - turn_at[i - 1].at, out);
        const stall_span *span = turn_at[i].span;
        (span->waits ? s.waits : s.works)[span->queue] += turn_at[i].change;
    }
    free(turn_at);
    log->spans = 0;
    return err->status;
}
