#include "gpt.h"

#include <math.h>

static const brim_init small = {BRIM_NORMAL, 0.02f};

// Radford et al. 2019: what adds to the residual stream starts smaller with depth.
static brim_init residual_init(const model_config *c) {
    return (brim_init){BRIM_NORMAL, (float)(0.02 / sqrt(2.0 * (double)c->layers))};
}

static brim_value block(brim_value x, const model_config *c) {
    brim_linear_options in = {.layout = BRIM_IN_OUT, .init = small};
    brim_linear_options out = {.layout = BRIM_IN_OUT, .init = residual_init(c)};
    brim_self_attention_options attention = {.dropout = c->dropout,
                                             .qkv = in,
                                             .projection = out,
                                             .qkv_name = "c_attn",
                                             .projection_name = "c_proj"};

    brim_value h = brim_layer_norm(x, "ln_1", c->norm_eps);
    x = brim_add(x, brim_self_attention(h, "attn", c->heads, &attention));

    h = brim_layer_norm(x, "ln_2", c->norm_eps);
    h = brim_gelu(brim_linear_with(h, "mlp.c_fc", 4 * c->width, &in));
    h = brim_linear_with(h, "mlp.c_proj", c->width, &out);
    return brim_add(x, brim_dropout(h, c->dropout));
}

static brim_value token_embedding(brim_graph *g, const model_config *c) {
    return brim_parameter(g, "wte.weight", small, c->vocabulary, c->width);
}

// tokens [batch, length] to the normed residual stream [batch, length, width].
static brim_value body(brim_graph *g, brim_value tokens, int64_t length, const model_config *c) {
    brim_value wpe = brim_parameter(g, "wpe.weight", small, c->positions, c->width);
    brim_value x = brim_gather(token_embedding(g, c), tokens);
    x = brim_add(x, brim_slice(wpe, 0, 0, length));
    x = brim_dropout(x, c->dropout);
    for (int i = 0; i < c->layers; i++) {
        brim_scope_push(g, "h.%d", i);
        x = block(x, c);
        brim_scope_pop(g);
    }
    return brim_layer_norm(x, "ln_f", c->norm_eps);
}

brim_loss gpt_build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const model_config *c = user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_scope_push(g, "transformer");
    brim_value x = body(g, tokens, length, c);
    brim_loss loss = brim_linear_cross_entropy(x, token_embedding(g, c), targets, -100);
    brim_scope_pop(g);
    return loss;
}

brim_loss gpt_build_next(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const model_config *c = user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value last = brim_input(g, "last", BRIM_I32, batch);
    brim_scope_push(g, "transformer");
    brim_value x = brim_reshape(body(g, tokens, length, c), batch * length, c->width);
    brim_value logits = brim_matmul_t(brim_gather(x, last), false, token_embedding(g, c), true);
    brim_scope_pop(g);
    brim_output(brim_cast(logits, BRIM_F32), "logits");
    return (brim_loss){0};
}

int64_t gpt_parameters(const model_config *c) {
    int64_t w = c->width, block_size = 12 * w * w + 13 * w;
    return (c->vocabulary + c->positions) * w + c->layers * block_size + 2 * w;
}
