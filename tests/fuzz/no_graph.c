// What the builders of models call. Here models are described and never built, so the graph and all
// that is behind it are left out.
#include "tests/fuzz/fuzz.h"

#define LEFT_OUT(name)                                                                             \
    void name(void);                                                                               \
    void name(void) {                                                                              \
        FUZZ_CHECK(false, #name " was called");                                                    \
    }

LEFT_OUT(brim_add)
LEFT_OUT(brim_cast)
LEFT_OUT(brim_dropout)
LEFT_OUT(brim_gather)
LEFT_OUT(brim_gelu)
LEFT_OUT(brim_input_dims)
LEFT_OUT(brim_layer_norm)
LEFT_OUT(brim_linear_cross_entropy)
LEFT_OUT(brim_linear_with)
LEFT_OUT(brim_matmul_t)
LEFT_OUT(brim_mul)
LEFT_OUT(brim_output)
LEFT_OUT(brim_parameter_dims)
LEFT_OUT(brim_reshape_dims)
LEFT_OUT(brim_rms_norm)
LEFT_OUT(brim_scope_pop)
LEFT_OUT(brim_scope_push)
LEFT_OUT(brim_self_attention)
LEFT_OUT(brim_silu)
LEFT_OUT(brim_slice)
