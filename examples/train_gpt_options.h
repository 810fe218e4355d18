// The command line of train_gpt.
#ifndef EXAMPLES_TRAIN_GPT_OPTIONS_H
#define EXAMPLES_TRAIN_GPT_OPTIONS_H

#include <brim/brim.h>
#include "command_line.h"
#include "model.h"

typedef struct train_options {
    const char **files;
    int file_count;
    int architecture;                      // a model_architecture; -1: not given
    model_config sizes;                    // those given; the others are 0
    int64_t sequence;                      // 0: not given
    int64_t batch, accumulate, step_batch; // 0: not given
    memory_budget vram;
    int64_t ram; // bytes; 0: what is free
    disk_share disk;
    int64_t steps, epochs; // 0: not given
    int64_t warmup, save_every, eval_every, sample;
    double lr, min_lr, weight_decay, beta1, beta2, eps, clip, dropout, temperature, top_p;
    int64_t seed;
    int schedule, precision, states,
        on_nan; // a brim_schedule_kind, ..._precision, ..._states, ..._on_nan
    const char *device, *out, *init, *log, *prompt;
    bool resume, sequential, plan, explain;
} train_options;

// Reads the command line; prints help and exits by itself where asked to. Values are checked one by
// one and against each other.
brim_status train_options_parse(int argc, char **argv, train_options *out, brim_error *err);

#endif
