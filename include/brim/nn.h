// Layers: ops that own named parameters. Names follow the current scope (see brim_scope_push).
#ifndef BRIM_NN_H
#define BRIM_NN_H

#include <brim/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum brim_weight_layout {
    BRIM_OUT_IN, // weight [out, in], as torch.nn.Linear
    BRIM_IN_OUT  // weight [in, out], as Hugging Face's Conv1D in GPT-2
} brim_weight_layout;

typedef struct brim_linear_options {
    bool no_bias;
    brim_weight_layout layout;
    brim_init init; // of the weight, and the bias is zeros; left out: both uniform in +-1/sqrt(in), as torch.nn.Linear.
                    // (brim_init){BRIM_ZEROS, 1} asks for zeros.
} brim_linear_options;

// x [.., in] -> [.., out]. Parameters NAME.weight and NAME.bias [out]. options may be NULL.
BRIM_API brim_value brim_linear_with(brim_value x, const char *name, int64_t out,
                                     const brim_linear_options *options);
#define brim_linear(x, name, out) brim_linear_with(x, name, out, NULL)

// ids i32 [..] -> [.., width]. Parameter NAME.weight [rows, width]; zero init: normal with standard deviation 1.
BRIM_API brim_value brim_embedding(brim_value ids, const char *name, int64_t rows, int64_t width,
                                   brim_init init);

// Over the last axis. Parameters NAME.weight (ones) and, for layer norm, NAME.bias (zeros). eps 0: 1e-5.
BRIM_API brim_value brim_layer_norm(brim_value x, const char *name, double eps);
BRIM_API brim_value brim_rms_norm(brim_value x, const char *name, double eps);

typedef struct brim_self_attention_options {
    int64_t kv_heads;    // 0: as many as heads
    int64_t head_size;   // 0: C / heads
    double rotary_base;  // 0: no rotary embedding
    brim_rotary_scaling rotary_scaling;
    double dropout;      // on the result
    brim_linear_options qkv, projection;
    const char *qkv_name, *projection_name; // NULL: "qkv", "proj"
    const char *q_name, *k_name, *v_name;   // all three: a projection each instead of the packed one, as in Llama
    bool qk_norm;        // RMS norm of each head of q and of k before the rotary embedding, as in Qwen3
    double qk_norm_eps;  // 0: 1e-5
    brim_attention_options attention;
} brim_self_attention_options;

// x [B, T, C] -> [B, T, C]: one packed projection to q, k, v (or three), attention, and a projection back. Parameters
// NAME.QKV.weight, NAME.QKV.bias, NAME.PROJ.weight, NAME.PROJ.bias; with qk_norm NAME.q_norm.weight and
// NAME.k_norm.weight [head size]. options may be NULL.
BRIM_API brim_value brim_self_attention(brim_value x, const char *name, int64_t heads,
                                        const brim_self_attention_options *options);

#ifdef __cplusplus
}
#endif
#endif
