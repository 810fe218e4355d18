// Products that no library serves: our own kernel.
#include "backends/lower_rules.h"

void lower_matmul_kernel(lowering *l, const matmul_shape *shape, const operand *a, const operand *b,
                         const operand *c) {
    (void)shape, (void)a, (void)b, (void)c;
    brim_fail(l->err, BRIM_UNSUPPORTED, "no library serves this product");
}

int64_t workspace_matmul_kernel(const lowering *l, const matmul_shape *shape) {
    (void)l, (void)shape;
    return 0;
}
