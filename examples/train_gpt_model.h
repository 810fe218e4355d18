// Which model a run of train_gpt trains: that of its command line, or of the folder that --init or
// --resume goes on from.
#ifndef EXAMPLES_TRAIN_GPT_MODEL_H
#define EXAMPLES_TRAIN_GPT_MODEL_H

#include "model.h"
#include "train_gpt_options.h"

enum { TRAIN_PATH = 4096 }; // bytes of a file's name

// text: the data are bytes, and their vocabulary is. An error where the command line contradicts
// what is gone on from, or where the output folder holds another run.
brim_status train_model_choose(const train_options *options, bool text, model_config *out,
                               brim_error *err);

// A file of a model's folder, or of the newest checkpoint in a run's.
brim_status train_model_file(char out[TRAIN_PATH], const char *dir, const char *file,
                             brim_error *err);

#endif
