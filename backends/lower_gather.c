// Rules for embeddings and rotary positions. Operands are dense.
#include "backends/lower_rules.h"

#include <math.h>
#include "backends/lower_split.h"

void lower_embedding(lowering *l) {
    operand table = lower_input(l, 0), ids = lower_input(l, 1), y = lower_output(l, 0);
    int64_t count = shape_elements(&ids.shape), width = last_extent(&table.shape);
    row_split split = split_rows(l->traits, count, width);
    const operand *vectors[] = {&table, &y};
    int kernel = lower_kernel(l, "embedding", "embedding", split.group, "-DBACKWARD=0 -DT=%s -DALIGNED=%d",
                              brim_dtype_name(table.dtype), vectors_aligned(l->traits, vectors, 2, width));
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&table), arg_read(&ids), arg_write(&y), arg_i64(count),
                 arg_i32(width), arg_i32(split.per), arg_i32(table.shape.dim[0]));
}

void lower_embedding_backward(lowering *l) {
    operand ids = lower_input(l, 0), dy = lower_input(l, 1), gradient = lower_output(l, 0);
    int64_t count = shape_elements(&ids.shape), width = last_extent(&gradient.shape), rows = gradient.shape.dim[0];
    row_split split = split_rows(l->traits, rows, width);
    const operand *vectors[] = {&dy, &gradient};
    int kernel = lower_kernel(l, "embedding", "embedding_backward", split.group,
                              "-DBACKWARD=1 -DT=%s -DTABLE_T=%s -DALIGNED=%d", brim_dtype_name(dy.dtype),
                              brim_dtype_name(gradient.dtype), vectors_aligned(l->traits, vectors, 2, width));
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&ids), arg_read(&dy), arg_write(&gradient), arg_i64(count),
                 arg_i32(width), arg_i32(split.per), arg_i32(rows));
}

void lower_rotary(lowering *l) {
    operand x = lower_input(l, 0), positions = lower_input(l, l->node->inputs > 1 ? 1 : 0), y = lower_output(l, 0);
    bool given = l->node->inputs > 1;
    const int64_t *dim = x.shape.dim;
    double base = l->node->attr.rotary.base;
    row_split split = split_rows(l->traits, dim[0] * dim[1], dim[2] * dim[3]);
    int kernel = lower_kernel(l, "rotary", "rotary", split.group, "-DT=%s -DPOSITIONS=%d", brim_dtype_name(x.dtype), given);
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&x), given ? arg_read(&positions) : arg_null(), arg_write(&y),
                 arg_i64(dim[0] * dim[1]), arg_i32(split.per), arg_i32(dim[1]), arg_i32(dim[2]), arg_i32(dim[3] / 2),
                 arg_f32(-2 * log2(base) / (double)dim[3]), arg_f32(l->node->attr.rotary.inverse ? -1 : 1));
}
