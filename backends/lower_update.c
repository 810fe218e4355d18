// Rules for updates of variables in place, and for dropout. Operands are dense.
#include "backends/lower_rules.h"

#include "backends/lower_split.h"

// A launch over the elements of `x`.
typedef struct flat {
    int64_t count;
    row_split split;
    int aligned;
} flat;

static flat flat_of(const lowering *l, const operand *x, const operand *const *vectors,
                    int vector_count) {
    flat f = {.count = shape_elements(&x->shape)};
    f.split = split_elements(l->traits, f.count);
    // The range is one row: its length matters only where groups begin inside it, at multiples of a
    // vector.
    f.aligned = vectors_aligned(l->traits, vectors, vector_count, l->traits->vec);
    return f;
}

// A step's first micro-batch begins the sum: x itself, without reading what the last step left.
void lower_accumulate(lowering *l) {
    operand sum = lower_input(l, 0), x = lower_input(l, 1);
    uint8_t all = l->sections;
    l->sections = all & l->first_section;
    if (l->sections) lower_copy(l, x.range, sum.range);
    l->sections = all & ~l->first_section;
    if (l->sections) {
        const operand *vectors[] = {&sum, &x};
        flat f = flat_of(l, &sum, vectors, 2);
        int kernel = lower_kernel(l, "accumulate", "accumulate", f.split.group,
                                  "-DT=%s -DALIGNED=%d", brim_dtype_name(sum.dtype), f.aligned);
        LOWER_LAUNCH(l, kernel, f.split.groups, 1, 1, arg_write(&sum), arg_read(&x),
                     arg_i64(f.count), arg_i32(f.split.per));
    }
    l->sections = all;
}

void lower_adamw(lowering *l) {
    operand p = lower_input(l, 0), m = lower_input(l, 1), v = lower_input(l, 2),
            g = lower_input(l, 3);
    operand scale = lower_input(l, 4), lr = lower_input(l, 5), c1 = lower_input(l, 6),
            c2 = lower_input(l, 7);
    operand keep = lower_input(l, 8);
    const operand *vectors[] = {&p, &m, &v, &g};
    flat f = flat_of(l, &p, vectors, 4);
    double beta1 = l->node->attr.optimizer.beta1, beta2 = l->node->attr.optimizer.beta2;
    int kernel =
        lower_kernel(l, "optimizer", "adamw", f.split.group, "-DADAMW=1 -DALIGNED=%d", f.aligned);
    LOWER_LAUNCH(l, kernel, f.split.groups, 1, 1, arg_write(&p), arg_write(&m), arg_write(&v),
                 arg_read(&g), arg_read(&scale), arg_read(&lr), arg_read(&c1), arg_read(&c2),
                 arg_read(&keep), arg_i64(f.count), arg_i32(f.split.per), arg_f32(1 - beta1),
                 arg_f32(beta2), arg_f32(1 - beta2), arg_f32(l->node->attr.optimizer.eps),
                 arg_f32(l->node->attr.optimizer.decay), arg_f32(l->node->attr.optimizer.lr_scale));
}

void lower_sgd(lowering *l) {
    operand p = lower_input(l, 0), m = lower_input(l, 1), g = lower_input(l, 2);
    operand scale = lower_input(l, 3), lr = lower_input(l, 4), keep = lower_input(l, 5);
    const operand *vectors[] = {&p, &m, &g};
    flat f = flat_of(l, &p, vectors, 3);
    int kernel =
        lower_kernel(l, "optimizer", "sgd", f.split.group, "-DADAMW=0 -DALIGNED=%d", f.aligned);
    LOWER_LAUNCH(l, kernel, f.split.groups, 1, 1, arg_write(&p), arg_write(&m), arg_read(&g),
                 arg_read(&scale), arg_read(&lr), arg_read(&keep), arg_i64(f.count),
                 arg_i32(f.split.per), arg_f32(l->node->attr.optimizer.beta1),
                 arg_f32(l->node->attr.optimizer.decay), arg_f32(l->node->attr.optimizer.lr_scale));
}

void lower_dropout(lowering *l) {
    operand x = lower_input(l, 0), seed = lower_input(l, 1), step = lower_input(l, 2),
            micro = lower_input(l, 3);
    operand y = lower_output(l, 0);
    int64_t count = shape_elements(&x.shape);
    row_split split = split_elements(l->traits, count);
    double p = l->node->attr.dropout.p;
    int aligned = vectors_aligned(l->traits, (const operand *const[]){&x, &y}, 2, count);
    int kernel = lower_kernel(l, "dropout", "dropout", split.group, "-DT=%s -DALIGNED=%d",
                              brim_dtype_name(x.dtype), aligned);
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&x), arg_read(&seed), arg_read(&step),
                 arg_read(&micro), arg_write(&y), arg_i64(count), arg_i32(split.per),
                 arg_i32((int32_t)l->node->attr.dropout.stream), arg_f32(p), arg_f32(1 / (1 - p)));
}
