#include "model.h"

#include "gpt.h"
#include "llama.h"

typedef struct model_kind {
    const char *name, *prefix;
    brim_builder build, build_next;
    int64_t (*parameters)(const model_config *config);
} model_kind;

static const model_kind kinds[] = {
    [MODEL_GPT2] = {"gpt2", "transformer.", gpt_build, gpt_build_next, gpt_parameters},
    [MODEL_LLAMA] = {"llama", "model.", llama_build, llama_build_next, llama_parameters},
};

brim_loss model_build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    return kinds[((const model_config *)user)->architecture].build(g, batch, length, user);
}

brim_loss model_build_next(brim_graph *g, int64_t batch, int64_t length, void *user) {
    return kinds[((const model_config *)user)->architecture].build_next(g, batch, length, user);
}

int64_t model_parameters(const model_config *config) {
    return kinds[config->architecture].parameters(config);
}

const char *model_architecture_name(model_architecture architecture) {
    return kinds[architecture].name;
}

const char *model_prefix(const model_config *config) {
    return kinds[config->architecture].prefix;
}

// The usual width of SwiGLU: two thirds of 4 width, for as many parameters as two products would
// have, in whole multiples of what kernels like.
static int64_t usual_ffn(int64_t width) {
    enum { UNIT = 64 };
    return (8 * width / 3 + UNIT - 1) / UNIT * UNIT;
}

static void or_else(int64_t *size, int64_t otherwise) {
    if (*size == 0) *size = otherwise;
}

model_config model_config_complete(const model_config *config) {
    model_config c = *config;
    or_else(&c.positions, 256);
    or_else(&c.width, 384);
    or_else(&c.layers, 6);
    or_else(&c.heads, 6);
    if (c.norm_eps == 0) c.norm_eps = 1e-5;
    if (c.architecture == MODEL_GPT2) return c;
    or_else(&c.kv_heads, c.heads);
    or_else(&c.ffn, usual_ffn(c.width));
    if (c.rotary_base == 0) c.rotary_base = 10000;
    c.tied = true;
    return c;
}
