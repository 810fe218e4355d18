// Rules for updates of variables in place, and for dropout. Operands are dense.
#include "backends/lower_rules.h"

#include <stdio.h>
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

// The host's kernels by the device's name and the dtype that tells them apart.
static const char *host_name(char name[32], const char *entry, brim_dtype dtype) {
    bool plain = dtype == BRIM_F32;
    snprintf(name, 32, "%s%s%s", entry, plain ? "" : "_", plain ? "" : brim_dtype_name(dtype));
    return name;
}

static void accumulate_on_host(lowering *l, const char *entry, const operand *sum,
                               const operand *x) {
    char name[32];
    LOWER_HOST(l, host_name(name, entry, sum->dtype), arg_write(sum), arg_read(x),
               arg_i64(shape_elements(&sum->shape)));
}

// A step's first micro-batch begins the sum: x itself, without reading what the last step left.
void lower_accumulate(lowering *l) {
    bool host = lower_on_host(l);
    operand sum = lower_input(l, 0), x = lower_input(l, 1);
    uint8_t all = l->sections;
    l->sections = all & l->first_section;
    if (l->sections && host) accumulate_on_host(l, "assign", &sum, &x);
    if (l->sections && !host) lower_copy(l, x.range, sum.range);
    l->sections = all & ~l->first_section;
    if (l->sections && host) accumulate_on_host(l, "accumulate", &sum, &x);
    if (l->sections && !host) {
        const operand *vectors[] = {&sum, &x};
        flat f = flat_of(l, &sum, vectors, 2);
        int kernel = lower_kernel(l, "accumulate", "accumulate", f.split.group,
                                  "-DT=%s -DALIGNED=%d", brim_dtype_name(sum.dtype), f.aligned);
        LOWER_LAUNCH(l, kernel, f.split.groups, 1, 1, arg_write(&sum), arg_read(&x),
                     arg_i64(f.count), arg_i32(f.split.per));
    }
    l->sections = all;
}

enum { UPDATE_TENSORS = 5, UPDATE_ARGUMENTS = 20 };

// Of ADAMW, SGD, and their forms that write a copy of the parameter as their last variable: the
// variables, the gradient, and scalars in memory; then what is constant.
static void lower_optimizer(lowering *l, const char *entry, int adamw, const double *constants,
                            int constant_count) {
    const graph_node *node = l->node;
    operand x[UPDATE_TENSORS];
    const operand *vectors[UPDATE_TENSORS];
    launch_argument argument[UPDATE_ARGUMENTS];
    int count = 0;
    for (int i = 0; i <= node->outputs; i++) {
        x[i] = lower_input(l, i);
        vectors[i] = &x[i];
        argument[count++] = i < node->outputs ? arg_write(&x[i]) : arg_read(&x[i]);
    }
    for (int i = node->outputs + 1; i < node->inputs; i++) {
        operand scalar = lower_input(l, i);
        argument[count++] = arg_read(&scalar);
    }
    flat f = flat_of(l, &x[0], vectors, node->outputs + 1);
    bool host = lower_on_host(l);
    argument[count++] = arg_i64(f.count);
    if (!host) argument[count++] = arg_i32(f.split.per);
    for (int i = 0; i < constant_count; i++) argument[count++] = arg_f32(constants[i]);
    brim_dtype copy = x[node->outputs - 1].dtype; // f32, that of a state, where there is none
    bool copies = copy != BRIM_F32;
    if (host) {
        char name[32];
        lower_host(l, host_name(name, entry, copy), argument, count);
        return;
    }
    int kernel =
        lower_kernel(l, "optimizer", entry, f.split.group, "-DADAMW=%d -DALIGNED=%d%s%s", adamw,
                     f.aligned, copies ? " -DCOPY=" : "", copies ? brim_dtype_name(copy) : "");
    lower_launch(l, kernel, (const int64_t[]){f.split.groups, 1, 1}, argument, count);
}

void lower_adamw(lowering *l) {
    const brim_attr *a = &l->node->attr;
    double beta1 = a->optimizer.beta1, beta2 = a->optimizer.beta2;
    const double constants[] = {
        1 - beta1, beta2, 1 - beta2, a->optimizer.eps, a->optimizer.decay, a->optimizer.lr_scale};
    lower_optimizer(l, "adamw", 1, constants, 6);
}

void lower_sgd(lowering *l) {
    const brim_attr *a = &l->node->attr;
    const double constants[] = {a->optimizer.beta1, a->optimizer.decay, a->optimizer.lr_scale};
    lower_optimizer(l, "sgd", 0, constants, 3);
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
