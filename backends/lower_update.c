// Rules for updates of variables in place, and for dropout. Operands are dense.
#include "backends/lower_rules.h"

#include <stdio.h>
#include "backends/lower_split.h"

// The range of a group is one row: its length matters only where groups begin inside it, at
// multiples of a vector.
static int all_aligned(const lowering *l, const operand *const *vectors, int count) {
    return vectors_aligned(l->traits, vectors, count, l->traits->vec);
}

enum { HOST_NAME = 48 };

// The host's kernels by the device's name and the dtypes that tell them apart.
static const char *host_name(char name[HOST_NAME], const char *entry, brim_dtype dtype,
                             brim_dtype gradient) {
    bool plain = dtype == BRIM_F32, wide = gradient == BRIM_F32;
    snprintf(name, HOST_NAME, "%s%s%s%s%s", entry, plain ? "" : "_",
             plain ? "" : brim_dtype_name(dtype), wide ? "" : "_from_",
             wide ? "" : brim_dtype_name(gradient));
    return name;
}

static void accumulate_on_host(lowering *l, const char *entry, const operand *sum,
                               const operand *x) {
    char name[HOST_NAME];
    LOWER_HOST(l, host_name(name, entry, sum->dtype, BRIM_F32), arg_write(sum), arg_read(x),
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
        int64_t count = shape_elements(&sum.shape);
        row_split split = split_elements(l->traits, count);
        int kernel = lower_kernel(l, "accumulate", "accumulate", split.group, "-DT=%s -DALIGNED=%d",
                                  brim_dtype_name(sum.dtype), all_aligned(l, vectors, 2));
        LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_write(&sum), arg_read(&x), arg_i64(count),
                     arg_i32(split.per));
    }
    l->sections = all;
}

enum { UPDATE_TENSORS = 7, UPDATE_ARGUMENTS = 24 };

// A kernel of optimizer.k.
typedef struct update_kernel {
    const char *entry, *defines;
    bool blocks; // its groups take blocks of states, not elements
    int constants;
    double constant[6];
} update_kernel;

// Where the states are blocks, a group's work-items share one: a word for each.
static row_split split_update(const lowering *l, const update_kernel *k, int64_t count) {
    if (!k->blocks) return split_elements(l->traits, count);
    row_split s = split_rows(l->traits, state_blocks(count), STATE_BLOCK);
    if (s.group > STATE_BLOCK_WORDS) s.group = STATE_BLOCK_WORDS;
    return s;
}

// The arguments' order: the variables, the last of them a copy of the parameter in the forms that
// write one; the gradient; scalars in memory; then what is constant.
static void lower_optimizer(lowering *l, const update_kernel *k) {
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
    bool host = lower_on_host(l);
    int64_t elements = shape_elements(&x[0].shape);
    row_split split = split_update(l, k, elements);
    argument[count++] = arg_i64(elements);
    if (!host) argument[count++] = arg_i32(split.per);
    for (int i = 0; i < k->constants; i++) argument[count++] = arg_f32(k->constant[i]);
    brim_dtype copy = x[node->outputs - 1].dtype; // f32, that of a state, where there is none
    brim_dtype gradient = x[node->outputs].dtype;
    if (host) {
        char name[HOST_NAME];
        lower_host(l, host_name(name, k->entry, copy, gradient), argument, count);
        return;
    }
    int aligned = k->blocks ? 0 : all_aligned(l, vectors, node->outputs + 1);
    bool copies = copy != BRIM_F32, narrow = gradient != BRIM_F32;
    int kernel =
        lower_kernel(l, "optimizer", k->entry, split.group, "%s -DALIGNED=%d%s%s%s%s", k->defines,
                     aligned, copies ? " -DCOPY=" : "", copies ? brim_dtype_name(copy) : "",
                     narrow ? " -DGRAD=" : "", narrow ? brim_dtype_name(gradient) : "");
    lower_launch(l, kernel, (const int64_t[]){split.groups, 1, 1}, argument, count);
}

static void lower_adamw_kernel(lowering *l, const char *entry, const char *defines, bool blocks) {
    const brim_attr *a = &l->node->attr;
    double beta1 = a->optimizer.beta1, beta2 = a->optimizer.beta2;
    update_kernel k = {
        entry,
        defines,
        blocks,
        6,
        {1 - beta1, beta2, 1 - beta2, a->optimizer.eps, a->optimizer.decay, a->optimizer.lr_scale}};
    lower_optimizer(l, &k);
}

void lower_adamw(lowering *l) {
    lower_adamw_kernel(l, "adamw", "-DADAMW=1", false);
}

void lower_adamw_q8(lowering *l) {
    lower_adamw_kernel(l, "adamw_q8", "-DADAMW=1 -DQ8", true);
}

void lower_sgd(lowering *l) {
    const brim_attr *a = &l->node->attr;
    update_kernel k = {"sgd",
                       "-DADAMW=0",
                       false,
                       3,
                       {a->optimizer.beta1, a->optimizer.decay, a->optimizer.lr_scale}};
    lower_optimizer(l, &k);
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
