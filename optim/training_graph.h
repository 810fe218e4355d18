// The graph of a whole training step: forward, backward, and every parameter's update.
//
// Leaves that this adds are named after the parameter: "NAME/m", "NAME/v" (optimizer state; as 8-bit
// blocks "NAME/m.codes", "NAME/m.scales" and so on), "NAME/grad" (accumulator, where a step has
// several micro-batches). The step's results are
// "loss.sum", "loss.count", "grad_norm" and "applied".
#ifndef BRIM_OPTIM_TRAINING_GRAPH_H
#define BRIM_OPTIM_TRAINING_GRAPH_H

#include <brim/train.h>
#include "graph/graph.h"

// Results of a step, in this order, before any that the script named.
enum { STEP_LOSS_SUM, STEP_LOSS_COUNT, STEP_GRAD_NORM, STEP_APPLIED, STEP_RESULTS };

// The options with defaults filled in; an error names the field that is out of range.
brim_trainer_options training_options(const brim_trainer_options *given, brim_error *err);

// How the options treat one parameter.
typedef struct parameter_rule {
    bool frozen;
    float lr_scale, decay;
} parameter_rule;
parameter_rule training_parameter_rule(const brim_trainer_options *options, const char *name,
                                       int rank);

// The op that updates a parameter, and its states, in the order of the op's operands.
typedef enum state_form { STATE_LIKE_PARAMETER, STATE_CODES, STATE_SCALES } state_form;
typedef struct optimizer_layout {
    op_id op;
    int states;
    struct {
        const char *suffix; // of the name
        state_form form;
    } state[4];
} optimizer_layout;
optimizer_layout optimizer_states(const brim_optimizer *optimizer, int64_t elements);

// Calls the builder and applies the precision. Only a graph for training must have a loss. NULL on
// error.
brim_graph *forward_graph(brim_builder build, void *user, int64_t batch, int64_t length,
                          bool training, brim_precision precision, brim_error *err);

// The whole step. NULL on error.
brim_graph *training_graph(brim_builder build, void *user, const brim_trainer_options *options,
                           brim_error *err);

#endif
