#include "llama.h"

#include <math.h>

static const brim_init small = {BRIM_NORMAL, 0.02f};

// As in gpt.c: what adds to the residual stream starts smaller with depth.
static brim_init residual_init(const model_config *c) {
    return (brim_init){BRIM_NORMAL, (float)(0.02 / sqrt(2.0 * (double)c->layers))};
}

static brim_value attention(brim_value x, const model_config *c) {
    brim_self_attention_options o = {
        .kv_heads = c->kv_heads,
        .head_size = c->head_size,
        .rotary_base = c->rotary_base,
        .rotary_scaling = c->rotary_scaling,
        .dropout = c->dropout,
        // Zeros for Qwen2's biases, as there.
        .qkv = {.no_bias = !c->qkv_bias, .init = small},
        .projection = {.no_bias = true, .init = residual_init(c)},
        .q_name = "q_proj",
        .k_name = "k_proj",
        .v_name = "v_proj",
        .projection_name = "o_proj",
        .qk_norm = c->qk_norm,
        .qk_norm_eps = c->norm_eps,
    };
    return brim_self_attention(x, "self_attn", c->heads, &o);
}

// SwiGLU (Shazeer 2020).
static brim_value feed_forward(brim_value x, const model_config *c) {
    brim_linear_options in = {.no_bias = true, .init = small};
    brim_linear_options out = {.no_bias = true, .init = residual_init(c)};
    brim_value gate = brim_silu(brim_linear_with(x, "mlp.gate_proj", c->ffn, &in));
    brim_value up = brim_linear_with(x, "mlp.up_proj", c->ffn, &in);
    return brim_linear_with(brim_mul(gate, up), "mlp.down_proj", c->width, &out);
}

static brim_value block(brim_value x, const model_config *c) {
    brim_value h = brim_rms_norm(x, "input_layernorm", c->norm_eps);
    x = brim_add(x, attention(h, c));
    h = brim_rms_norm(x, "post_attention_layernorm", c->norm_eps);
    return brim_add(x, brim_dropout(feed_forward(h, c), c->dropout));
}

static brim_value token_embedding(brim_graph *g, const model_config *c) {
    return brim_parameter(g, "model.embed_tokens.weight", small, c->vocabulary, c->width);
}

static brim_value head(brim_graph *g, const model_config *c) {
    return c->tied ? token_embedding(g, c)
                   : brim_parameter(g, "lm_head.weight", small, c->vocabulary, c->width);
}

// tokens [batch, length] to the normed residual stream [batch, length, width].
static brim_value body(brim_graph *g, brim_value tokens, const model_config *c) {
    brim_value x = brim_dropout(brim_gather(token_embedding(g, c), tokens), c->dropout);
    for (int i = 0; i < c->layers; i++) {
        brim_scope_push(g, "model.layers.%d", i);
        x = block(x, c);
        brim_scope_pop(g);
    }
    return brim_rms_norm(x, "model.norm", c->norm_eps);
}

brim_loss llama_build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const model_config *c = user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    brim_value x = body(g, tokens, c);
    return brim_linear_cross_entropy(x, head(g, c), targets, -100);
}

brim_loss llama_build_next(brim_graph *g, int64_t batch, int64_t length, void *user) {
    const model_config *c = user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value last = brim_input(g, "last", BRIM_I32, batch);
    brim_value x = brim_reshape(body(g, tokens, c), batch * length, c->width);
    brim_value logits = brim_matmul_t(brim_gather(x, last), false, head(g, c), true);
    brim_output(brim_cast(logits, BRIM_F32), "logits");
    return (brim_loss){0};
}

int64_t llama_parameters(const model_config *c) {
    int64_t w = c->width, size = c->head_size ? c->head_size : w / c->heads;
    int64_t q = c->heads * size, kv = (c->kv_heads ? c->kv_heads : c->heads) * size;
    int64_t block_size = 2 * w * (q + kv) + 3 * w * c->ffn + 2 * w;
    if (c->qkv_bias) block_size += q + 2 * kv;
    if (c->qk_norm) block_size += 2 * size;
    return (c->tied ? 1 : 2) * c->vocabulary * w + c->layers * block_size + w;
}
