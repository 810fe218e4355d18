// GPT-2 as a Brim model: learned positions, pre-norm blocks, GELU (tanh form), and a head tied to
// the token embedding.
//
// Parameters have the names and layouts of Hugging Face's GPT2LMHeadModel
// ("transformer.h.0.attn.c_attn.weight" is [in, out]), so that a checkpoint opens there with
// from_pretrained, and one from there opens here.
#ifndef EXAMPLES_GPT_H
#define EXAMPLES_GPT_H

#include <brim/brim.h>

typedef struct gpt_config {
    int64_t vocabulary, positions, width, layers, heads;
    double dropout, norm_eps;
} gpt_config;

// Builders; user is a gpt_config. Inputs "tokens" and "targets", i32 [batch, length].
brim_loss gpt_build(brim_graph *g, int64_t batch, int64_t length, void *user);

// For sampling: inputs "tokens" [batch, length] and "last" i32 [batch], the row in [0, batch *
// length) whose next token is wanted; output "logits" [batch, vocabulary]. No loss.
brim_loss gpt_build_next(brim_graph *g, int64_t batch, int64_t length, void *user);

// Elements of all parameters.
int64_t gpt_parameters(const gpt_config *config);

// Reads sizes from a config.json in Hugging Face's form; an error names the file and the field.
brim_status gpt_config_read(const char *file, gpt_config *out, brim_error *err);
// The text of such a file; the caller frees it. NULL on error.
char *gpt_config_text(const gpt_config *config, brim_error *err);

// False, with the option or field named, if the sizes make no sense together.
brim_status gpt_config_check(const gpt_config *config, brim_error *err);

#endif
