#include "model.h"

#include <stddef.h>
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
    return (size_t)architecture < sizeof kinds / sizeof *kinds ? kinds[architecture].name : NULL;
}

const char *model_prefix(const model_config *config) {
    return kinds[config->architecture].prefix;
}
