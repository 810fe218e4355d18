// The language models that the examples train: one description of their sizes, and builders.
//
// Parameters have the names and layouts of Hugging Face's models, and config.json is read and
// written in its form: a checkpoint opens there with from_pretrained, and one from there opens
// here.
//
//   model_config config = {0};
//   model_config_read("llama/config.json", &config, &err);
//   brim_trainer *t = brim_trainer_create(model_build, &config, &options, &err);
#ifndef EXAMPLES_MODEL_H
#define EXAMPLES_MODEL_H

#include <brim/brim.h>

typedef enum model_architecture {
    MODEL_GPT2, // learned positions, layer norm, GELU, biases; head tied to the token embedding
    MODEL_LLAMA // rotary positions, RMS norm, SwiGLU, grouped heads; Qwen2 and Qwen3 are variants
} model_architecture;

typedef struct model_config {
    model_architecture architecture;
    int64_t vocabulary, positions, width, layers, heads;
    double norm_eps;
    double
        dropout; // after the embedding and each residual branch; no part of config.json for Llama
    // What follows says nothing of GPT-2, whose ffn is 4 width.
    int64_t kv_heads;                   // 0: as many as heads
    int64_t head_size;                  // 0: width / heads
    int64_t ffn;                        // width between the two products of a feed-forward block
    double rotary_base;                 // "rope_theta"
    brim_rotary_scaling rotary_scaling; // "rope_type": "llama3", as Llama has it from 3.1 on
    bool tied;                          // the head is the token embedding
    bool qkv_bias;                      // Qwen2: q, k, v have biases
    bool qk_norm;                       // Qwen3: RMS norm over each head of q and k
} model_config;

// Builders; user is a model_config. Inputs "tokens" and "targets", i32 [batch, length].
brim_loss model_build(brim_graph *g, int64_t batch, int64_t length, void *user);

// For sampling: inputs "tokens" [batch, length] and "last" i32 [batch], the row in [0, batch *
// length) whose next token is wanted; output "logits" [batch, vocabulary]. No loss.
brim_loss model_build_next(brim_graph *g, int64_t batch, int64_t length, void *user);

// Elements of all parameters.
int64_t model_parameters(const model_config *config);

// "gpt2", "llama".
const char *model_architecture_name(model_architecture architecture);

// What some files leave away from the names of parameters: "transformer.", "model.".
const char *model_prefix(const model_config *config);

// Reads sizes from a config.json in Hugging Face's form, of GPT2LMHeadModel, LlamaForCausalLM,
// Qwen2ForCausalLM or Qwen3ForCausalLM; an error names the file and the field.
brim_status model_config_read(const char *file, model_config *out, brim_error *err);
// The text of such a file; the caller frees it. NULL on error.
char *model_config_text(const model_config *config, brim_error *err);

// Sizes that are 0 filled in: a small model's, so that a few options describe one. The vocabulary
// must be there; a Llama's head is tied.
model_config model_config_complete(const model_config *config);

// An error, with the sizes named, if they make no sense together.
brim_status model_config_check(const model_config *config, brim_error *err);

#endif
