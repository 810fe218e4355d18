// The trainer: a builder, options, and a step.
//
// 1. brim_trainer_create calls the builder, differentiates, adds the optimizer and prepares one program for a whole step.
// 2. Each step: brim_trainer_feed every input, then brim_trainer_step.
// 3. brim_trainer_save writes a checkpoint that brim_trainer_resume continues from, to the same bits.
//
// Further programs over the same parameters (evaluation at another size, sampling) are added before the first step.
#ifndef BRIM_TRAIN_H
#define BRIM_TRAIN_H

#include <brim/device.h>
#include <brim/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum brim_precision {
    BRIM_PRECISION_F32,
    BRIM_PRECISION_BF16, // f32 parameters and states; bf16 compute copies, activations and their gradients
    BRIM_PRECISION_F16   // the same with f16, and dynamic loss scaling
} brim_precision;

typedef enum brim_optimizer_kind { BRIM_ADAMW, BRIM_SGD } brim_optimizer_kind;

// How AdamW keeps m and v. Q8 takes 2.03 bytes for each parameter instead of 8 and changes results: blocks of 256 elements
// of 8 bits with a scale (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"). Tensors of fewer than
// 4096 elements keep f32. With Q8, bf16 precision and one micro-batch in a step, the gradients of the same tensors are
// rounded to bf16, once, when they are made: 2 bytes for each parameter on the way to its update instead of 4. The
// gradient norm is that of the rounded ones. (Several micro-batches add their gradients in f32; so does f16 precision
// keep them.)
typedef enum brim_states { BRIM_STATES_F32, BRIM_STATES_Q8 } brim_states;

typedef struct brim_optimizer {
    brim_optimizer_kind kind;
    float lr;           // 0: 1e-3 (AdamW), 1e-2 (SGD)
    float beta1, beta2; // AdamW; 0: 0.9, 0.999
    float eps;          // AdamW; 0: 1e-8
    float momentum;     // SGD
    float weight_decay; // on tensors of two or more axes unless a group says otherwise
    float clip;         // limit of the global gradient norm; 0: none
    brim_states states; // AdamW
} brim_optimizer;

typedef enum brim_schedule_kind { BRIM_CONSTANT, BRIM_LINEAR, BRIM_COSINE } brim_schedule_kind;

// The learning rate of step s = 1, 2, ...: rises as s / warmup, then goes from lr to min_lr at `steps`, and stays.
typedef struct brim_schedule {
    brim_schedule_kind kind;
    int64_t warmup, steps;
    float min_lr;
} brim_schedule;

BRIM_API double brim_schedule_lr(const brim_schedule *schedule, double lr, int64_t step);

// Parameters whose names match `pattern` (a shell pattern: "h.0.*", "*.bias"). The last group that matches counts.
typedef struct brim_parameter_group {
    const char *pattern;
    bool frozen;             // never changed; costs no gradient and no optimizer state
    float lr_scale;          // factor on the learning rate; 0: 1
    bool set_weight_decay;   // use the next field instead of the optimizer's rule
    float weight_decay;
} brim_parameter_group;

// What a step does whose loss or gradients are infinite or NaN. It changes nothing in any case, and the first tensor that
// went bad is looked for: the step is run once more, and all its tensors are read, under any plan. (With f16, gradients
// that overflow under a finite loss are no accident: the step is skipped, and the loss scale halves.)
typedef enum brim_on_nan {
    BRIM_NAN_STOP, // brim_trainer_step fails with BRIM_NOT_FINITE and names step and tensor; the step does not count, and
                   // the trainer can be saved, or go on with another step
    BRIM_NAN_SKIP  // the step counts, as result.skipped, and result.not_finite names the tensor
} brim_on_nan;

// What a step lacks where no plan fits.
typedef struct brim_shortfall {
    int64_t vram_missing, ram_missing, disk_missing; // bytes; 0: there is enough of it
    int64_t vram_bytes, ram_bytes, disk_bytes;       // the nearest budget that works
} brim_shortfall;

typedef struct brim_trainer_options {
    int64_t batch;      // sequences (or samples) in a micro-batch; 0: 1
    int64_t length;     // tokens in a sequence, as given to the builder
    int64_t accumulate; // micro-batches in a step; 0: 1
    // Sequences in a step. Where it is given, and batch and accumulate are not, the planner chooses them (the size of a
    // micro-batch changes rounding; nothing else in a plan does). 0: batch * accumulate.
    int64_t step_batch;
    const char *device; // "cuda", "opencl:1", "cpu"; NULL: the best found
    brim_precision precision;
    brim_optimizer optimizer;
    brim_schedule schedule;
    const brim_parameter_group *groups;
    int group_count;
    uint64_t seed; // of parameters and dropout
    brim_on_nan on_nan;
    // Budgets, in bytes: all that the device's memory and main memory lose to the trainer, what a driver takes beside our
    // own data included. 0: what is free, less something for the desktop. Where a step needs more than the device may
    // give, the planner decides what is recomputed, what is kept in main memory or in a file on disk and streamed, and
    // what is updated by the CPU. All plans give the same bits.
    int64_t vram_bytes, ram_bytes;
    const char *disk;   // a folder for the file; NULL: none
    int64_t disk_bytes; // of it that may be used
    // Plans for a device that is not there: the trainer can be described and explained, and cannot step. `device` then
    // says how the card would be driven: "cuda" (NULL too) or "opencl". Copied.
    const brim_rates *paper;
    // What plans are compared by; NULL: measured where a choice depends on it, once for each device, and kept. Copied.
    const brim_rates *rates;
    brim_shortfall *shortfall; // filled in where brim_trainer_create fails with BRIM_MEMORY since no plan fits; may be NULL
    // For tests and comparisons: results have the same bits with and without.
    bool no_fusion;
} brim_trainer_options;

typedef struct brim_trainer brim_trainer;

// NULL on error. `user` must live as long as the trainer.
BRIM_API brim_trainer *brim_trainer_create(brim_builder build, void *user,
                                           const brim_trainer_options *options, brim_error *err);
BRIM_API void brim_trainer_free(brim_trainer *trainer);

// Copies a whole step's data for one input: `accumulate` times the input's bytes, micro-batch after micro-batch.
BRIM_API brim_status brim_trainer_feed(brim_trainer *trainer, const char *input, const void *data,
                                       size_t bytes, brim_error *err);

typedef struct brim_step_result {
    int64_t step;      // 1 for the first
    double loss;       // mean over the step's targets
    double targets;    // how many there were
    double grad_norm;  // of the mean loss, before clipping
    double lr;
    double loss_scale; // 1 unless f16
    bool skipped;      // the loss or the gradients were not finite: nothing was changed
    const char *not_finite; // skipped: the first tensor that went bad, in words, until the next step; NULL where the loss
                            // scale was too large
    double seconds;    // from call to return
    // What streaming cost, as the device measured it. Zeros where nothing is streamed and nothing is updated by the CPU.
    double streaming_seconds; // something was on its way to the device or from it
    double hidden_seconds;    // of them: kernels ran meanwhile
    double waited_seconds;    // kernels stood still for copies, for updates by the CPU, or for the disk
    const char *waited_for;   // for what longest, as a static text such as "updates by the CPU"; NULL: for nothing
} brim_step_result;

// One step. Every input must have been fed once since the last step. result may be NULL.
BRIM_API brim_status brim_trainer_step(brim_trainer *trainer, brim_step_result *result, brim_error *err);

// Programs without a backward pass -------------------------------------------------------------------------------------

typedef struct brim_program brim_program;

// Adds a program over the trainer's parameters, with dropout off, before the first step. The builder is called with
// `batch` and `length`; it may be the trainer's. Belongs to the trainer. NULL on error.
BRIM_API brim_program *brim_trainer_program(brim_trainer *trainer, brim_builder build, void *user,
                                            int64_t batch, int64_t length, brim_error *err);
BRIM_API brim_status brim_program_feed(brim_program *program, const char *input, const void *data,
                                       size_t bytes, brim_error *err);
// Runs once; sum and count of the builder's loss go to loss_sum and loss_count (either may be NULL).
BRIM_API brim_status brim_program_run(brim_program *program, double *loss_sum, double *loss_count,
                                      brim_error *err);
// The value of the last run that the builder named with brim_output, as f32.
BRIM_API brim_status brim_program_read(brim_program *program, const char *output, float *data,
                                       size_t count, brim_error *err);

// Tensors by name ----------------------------------------------------------------------------------------------------

typedef struct brim_tensor_info {
    const char *name;
    int rank;
    int64_t dim[BRIM_MAX_DIMS];
    int64_t elements;
    bool frozen;
} brim_tensor_info;

BRIM_API int brim_trainer_tensor_count(const brim_trainer *trainer);
// False if index is out of range. The name lives as long as the trainer.
BRIM_API bool brim_trainer_tensor_info(const brim_trainer *trainer, int index, brim_tensor_info *out);

// f32 values of a parameter, or with "NAME/m" and "NAME/v" of its optimizer state ("NAME/m" alone for SGD; none as 8-bit blocks).
BRIM_API brim_status brim_trainer_read(brim_trainer *trainer, const char *name, float *data,
                                       size_t count, brim_error *err);
BRIM_API brim_status brim_trainer_write(brim_trainer *trainer, const char *name, const float *data,
                                        size_t count, brim_error *err);

// Checkpoints ----------------------------------------------------------------------------------------------------------
//
// DIR/step-N/model.safetensors, training_state.safetensors and attached files; DIR/latest names the newest. Each is
// written to a temporary name, synced and renamed, so DIR always holds its last good checkpoint.

// A text file that every checkpoint holds (a model's config.json).
BRIM_API brim_status brim_trainer_attach(brim_trainer *trainer, const char *file, const char *text,
                                         brim_error *err);
// A number that checkpoints keep and resume brings back (a data position). Reading an unknown one gives `otherwise`.
// At most 1,000, with names of at most 200 bytes.
BRIM_API brim_status brim_trainer_note(brim_trainer *trainer, const char *name, int64_t value, brim_error *err);
BRIM_API int64_t brim_trainer_noted(const brim_trainer *trainer, const char *name, int64_t otherwise);

BRIM_API brim_status brim_trainer_save(brim_trainer *trainer, const char *dir, brim_error *err);
// From DIR/latest (where that is missing, from the highest step), or from a step's directory itself. Everything must
// match the trainer: names, shapes, optimizer.
BRIM_API brim_status brim_trainer_resume(brim_trainer *trainer, const char *dir, brim_error *err);
// The micro-batch that a checkpoint was trained with.
BRIM_API brim_status brim_checkpoint_micro_batch(const char *dir, int64_t *batch, brim_error *err);
// Where a checkpoint's file is: DIR is a run's folder or a step's own.
BRIM_API brim_status brim_checkpoint_file(char *path, size_t size, const char *dir, const char *file, brim_error *err);
// Parameters alone, from a safetensors file in F32, F16 or BF16. A parameter that the file lacks is an error; further
// tensors are ignored. The names in the file may have, or lack, a prefix (NULL: none).
BRIM_API brim_status brim_trainer_load_model(brim_trainer *trainer, const char *file, const char *prefix,
                                             brim_error *err);

// What the trainer runs on ---------------------------------------------------------------------------------------------

typedef struct brim_trainer_info {
    const char *device, *backend;
    const char *warning;      // once the trainer is prepared: what its user should know, such as a kernel cache that others
                              // may write to and that is not used therefore; else NULL
    int64_t parameters;       // elements
    int64_t trained;          // of them not frozen
    int64_t device_bytes;     // the arena: all device memory that the trainer uses
    int64_t overhead_bytes;   // what the device loses to it beside that, as far as is known
    int64_t persistent_bytes; // of it: parameters, states, accumulators
    int64_t batch, accumulate; // as given, or as the planner chose them
    int64_t host_bytes;       // main memory that the plan takes, staging of inputs and results included
    int64_t staging_bytes;    // of it: inputs and results
    int64_t pinned_bytes;     // of it, once the trainer is prepared: what the device reaches by itself; copies of the rest
                              // pass through small buffers
    int64_t file_bytes;       // on disk
    int records, kernels;     // of the training step
    int recomputed;           // nodes of its forward pass that run once more in the backward pass
    int64_t steps;            // done so far
    double expected_seconds;  // of a step, as the plan was simulated; 0 where no rates are known
    double build_seconds;     // from create to ready: graph, passes, plan
    double compile_seconds;   // of it: kernels
} brim_trainer_info;

// Prepares everything if that has not happened yet (the first step does too).
BRIM_API brim_status brim_trainer_prepare(brim_trainer *trainer, brim_error *err);
BRIM_API brim_trainer_info brim_trainer_describe(const brim_trainer *trainer);
// The plan for people: what lies where, the time of a step and what limits it.
BRIM_API void brim_trainer_explain(const brim_trainer *trainer, FILE *out);
// What more device memory, more main memory, or larger steps would give: plans for each, so it takes as long as three
// of them. Prints nothing where no time is expected.
BRIM_API void brim_trainer_compare(const brim_trainer *trainer, FILE *out);
// The training step's memory plan, then its records, as text.
BRIM_API void brim_trainer_print(const brim_trainer *trainer, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
