// Plans of the same step beside each other, and beside what was expected of them. See --help.
#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "benchmarks/option_size.h"
#include "benchmarks/plan_costs.h"
#include "optim/budget.h"
#include "optim/measure.h"

const char *argp_program_version = "bench_plans (Brim) 0.1.0";

static const char description[] =
    "Runs plans of the same training step in turn, and compares them.\v"
    "Without --grid and --reach: each way to save device memory, of a GPT and a Llama, beside "
    "everything resident and beside the time that the planner expects. With --grid: the planner's "
    "choice for small models and budgets beside all plans of a coarse grid that keep to the same "
    "budget. With --reach: models in the budgets that Brim is made for, all at a small scale, "
    "planned, run, and compared with everything resident. All losses must have the same bits.";

// X(name, key, where it goes, least, most, help)
#define SIZE_OPTIONS(X)                                                                            \
    X("batch", 'B', batch, 1, 1000000, "sequences in a step (default 4)")                          \
    X("seq", 'T', length, 1, 10000000, "tokens in a sequence (default 256)")                       \
    X("rounds", 'r', rounds, 1, MOST_ROUNDS, "measured rounds (default 9)")                        \
    X("steps", 's', steps, 1, 1000, "steps that are timed together in a round (default 1)")        \
    X("cases", 'c', cases, 1, 1000, "of --grid (default 10)")

static const struct argp_option option_list[] = {
    {"device", 'd', "D", 0, "cuda, cuda:1, opencl:0, cpu, ... (default: the best found)", 0},
    {"disk", 'D', "DIR", 0, "a folder for states (default /tmp)", 0},
    {"grid", 'g', 0, 0, "the planner beside a grid of plans", 0},
    {"reach", 'R', 0, 0, "large models in small memory, at a small scale", 0},
    {"json", 'j', "FILE", 0, "write the figures as JSON, too", 0},
#define X(name, key, field, least, most, help) {name, key, "N", 0, help, 0},
    SIZE_OPTIONS(X)
#undef X
        {0},
};

static error_t parse_option(int key, char *text, struct argp_state *state) {
    plans_options *o = state->input;
    switch (key) {
    case 'd':
        o->device = text;
        return 0;
    case 'D':
        o->disk = text;
        return 0;
    case 'g':
        o->grid = true;
        return 0;
    case 'R':
        o->reach = true;
        return 0;
    case 'j':
        o->json = text;
        return 0;
#define X(name, letter, field, least, most, help)                                                  \
    case letter:                                                                                   \
        o->field = parse_size(text, name, least, most, state);                                     \
        return 0;
        SIZE_OPTIONS(X)
#undef X
    }
    return ARGP_ERR_UNKNOWN;
}

// As the trainer measures them.
static void find_rates(plans_options *o, report *r, brim_error *err) {
    const backend *api;
    backend_device *device;
    if (backend_open(o->device, &(device_settings){0}, &api, &device, err)) return;
    brim_rates usual = budget_usual_rates(api->traits(device));
    print_machine(api->traits(device), api->matmul_library(device));
    report_machine(r, api->traits(device), api->matmul_library(device));
    api->close(device);
    measure_rates(o->device, &usual, 0, &o->rates, err);
    measure_disk(o->disk, &o->rates, err);
    const struct {
        const char *name;
        double rate;
    } rates[] = {{"memory", o->rates.memory},
                 {"matmul_32", o->rates.matmul_32},
                 {"matmul_16", o->rates.matmul_16},
                 {"link_in", o->rates.link_in},
                 {"link_out", o->rates.link_out},
                 {"link_both", o->rates.link_both},
                 {"host", o->rates.host},
                 {"disk_read", o->rates.disk_read},
                 {"disk_write", o->rates.disk_write}};
    report_open(r, "rates", '{');
    printf("rates in 1e9:");
    for (size_t i = 0; i < sizeof rates / sizeof *rates && !failed(err); i++) {
        printf(" %s %.3g", rates[i].name, rates[i].rate * 1e-9);
        report_number(r, rates[i].name, rates[i].rate);
    }
    printf("\n");
    report_close(r, '}');
    fflush(stdout);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    plans_options o = {.device = "auto",
                       .disk = "/tmp",
                       .rounds = 9,
                       .steps = 1,
                       .cases = 10,
                       .batch = 4,
                       .length = 256};
    argp_parse(&(struct argp){option_list, parse_option, NULL, description, 0, 0, 0}, argc, argv, 0,
               0, &o);
    report r = report_begin(o.json, &err);
    if (!failed(&err)) find_rates(&o, &r, &err);
    if (!failed(&err) && o.grid) plan_grid(&o, &r, &err);
    if (!failed(&err) && o.reach) plan_reach(&o, &r, &err);
    if (!failed(&err) && !o.grid && !o.reach) plan_costs(&o, &r, &err);
    report_end(&r);
    return brim_error_report(&err);
}
