// GPT-2: learned positions, pre-norm blocks, GELU (tanh form), and a head tied to the token
// embedding.
//
// Parameters are those of Hugging Face's GPT2LMHeadModel ("transformer.h.0.attn.c_attn.weight" is
// [in, out]).
#ifndef EXAMPLES_GPT_H
#define EXAMPLES_GPT_H

#include "model.h"

// As model_build and its companions, for models of MODEL_GPT2.
brim_loss gpt_build(brim_graph *g, int64_t batch, int64_t length, void *user);
brim_loss gpt_build_next(brim_graph *g, int64_t batch, int64_t length, void *user);
int64_t gpt_parameters(const model_config *config);

#endif
