// The trainer's insides, shared by trainer.c (steps), tensors.c (access by name) and checkpoint.c
// (save and resume).
#ifndef BRIM_OPTIM_TRAINER_H
#define BRIM_OPTIM_TRAINER_H

#include <brim/train.h>
#include "core/arena.h"
#include "optim/compiled.h"
#include "optim/loss_scale.h"

struct brim_program {
    brim_trainer *trainer;
    compiled compiled;
    brim_program *next;
};

typedef struct attachment {
    const char *file, *text;
    struct attachment *next;
} attachment;
typedef struct note {
    const char *name;
    int64_t value;
    struct note *next;
} note;

// What a checkpoint holds beside tensors.
typedef struct training_progress {
    int64_t steps;   // done, skipped ones too
    int64_t updates; // applied: the exponent of AdamW's bias correction
    loss_scale scale;
} training_progress;

struct brim_trainer {
    brim_trainer_options options; // defaults filled in; strings live in memory
    arena memory;
    brim_builder build;    // of the training program, as given
    void *user;
    bool batch_chosen;     // the planner has chosen the micro-batch
    compile_target target; // for the training program
    brim_rates rates;      // of its device
    compiled training;
    brim_program *programs;
    bool prepared;
    training_progress progress;
    run_stalls measured; // of the latest step
    char not_finite[700]; // what brim_step_result.not_finite points to
    attachment *attachments;
    note *notes;
    int note_count;
    value_id *parameter; // ids in the training graph, in order of creation
    int parameters;
    double build_seconds, compile_seconds;
};

// explain.c: the work of a queue, in words.
extern const char *const queue_work[QUEUE_COUNT];

#endif
