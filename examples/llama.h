// Llama and its relatives: rotary positions, pre-norm blocks with RMS norm, grouped key-value
// heads, SwiGLU, and a head that may be tied to the token embedding. With qkv_bias it is Qwen2,
// with qk_norm Qwen3.
//
// Parameters are those of Hugging Face's LlamaForCausalLM
// ("model.layers.0.self_attn.q_proj.weight" is [out, in]).
#ifndef EXAMPLES_LLAMA_H
#define EXAMPLES_LLAMA_H

#include "model.h"

// As model_build and its companions, for models of MODEL_LLAMA.
brim_loss llama_build(brim_graph *g, int64_t batch, int64_t length, void *user);
brim_loss llama_build_next(brim_graph *g, int64_t batch, int64_t length, void *user);
int64_t llama_parameters(const model_config *config);

#endif
