#include "benchmarks/plan_runs.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/clock.h"

brim_status plan_run_open(plan_run *r, const start_options *o, brim_error *err) {
    start_times times;
    *r = (plan_run){.seconds = brim_calloc_array(MOST_ROUNDS, sizeof *r->seconds, err)};
    if (failed(err)) return err->status;
    return start_up(o, &r->run, &times, err);
}

void plan_run_close(plan_run *r) {
    if (r->run.target.device) r->run.target.backend->finish(r->run.target.device, &(brim_error){0});
    training_run_free(&r->run);
    free(r->seconds);
    *r = (plan_run){0};
}

static void time_steps(plan_run *r, int steps, brim_error *err) {
    const compile_target *t = &r->run.target;
    double submitted, seconds, start = 0;
    for (int i = 0; i <= steps && !failed(err); i++) {
        training_step(&r->run, &submitted, &seconds, err);
        if (i == 0) start = clock_seconds();
    }
    if (r->rounds < MOST_ROUNDS) r->seconds[r->rounds++] = (clock_seconds() - start) / steps;
    t->backend->finish(t->device, err);
    const float *loss = compiled_result(&r->run.compiled, t, "loss.sum", NULL);
    if (!failed(err)) memcpy(&r->loss, loss, sizeof r->loss);
}

brim_status plan_runs_round(plan_run *r, int count, int steps, brim_error *err) {
    for (int i = 0; i < count && !failed(err); i++) {
        time_steps(&r[i], steps, err);
        if (!failed(err) && memcmp(&r[i].loss, &r[0].loss, sizeof r->loss) != 0)
            brim_fail(err, BRIM_GRAPH, "plan %d comes to a loss of %.9g, plan 0 to %.9g", i,
                      (double)r[i].loss, (double)r[0].loss);
    }
    return err->status;
}

static int by_size(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *x, int count) {
    qsort(x, (size_t)count, sizeof *x, by_size);
    return count ? (x[count / 2] + x[(count - 1) / 2]) / 2 : 0;
}

double plan_run_median(const plan_run *r) {
    double seconds[MOST_ROUNDS];
    memcpy(seconds, r->seconds, (size_t)r->rounds * sizeof *seconds);
    return median(seconds, r->rounds);
}

double plan_run_ratio(const plan_run *r, const plan_run *base) {
    double ratio[MOST_ROUNDS];
    for (int i = 0; i < r->rounds; i++) ratio[i] = r->seconds[i] / base->seconds[i];
    return median(ratio, r->rounds);
}

double plan_run_least(const plan_run *r) {
    double least = r->rounds ? r->seconds[0] : 0;
    for (int i = 1; i < r->rounds; i++)
        if (r->seconds[i] < least) least = r->seconds[i];
    return least;
}

double plan_run_expected(const plan_run *r) {
    return r->run.compiled.choice.expected.seconds;
}
