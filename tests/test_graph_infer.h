// What the suites of shape rules share: types written as text, and attributes.
#ifndef BRIM_TEST_GRAPH_INFER_H
#define BRIM_TEST_GRAPH_INFER_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/dtype.h"
#include "graph/infer.h"
#include "graph/shape.h"

enum { MOST_TYPES = 16 };

#define NO_ATTR                                                                                    \
    {                                                                                              \
        .scalar = { 0 }                                                                            \
    }
#define SCALARS(...)                                                                               \
    {                                                                                              \
        .scalar = { __VA_ARGS__ }                                                                  \
    }
#define AXES(...)                                                                                  \
    {                                                                                              \
        .axes = { __VA_ARGS__ }                                                                    \
    }
#define START(...)                                                                                 \
    {                                                                                              \
        .start = { __VA_ARGS__ }                                                                   \
    }
#define MATMUL(a, b)                                                                               \
    {                                                                                              \
        .matmul = { a, b }                                                                         \
    }
#define REDUCE(set, keep_)                                                                         \
    {                                                                                              \
        .reduce = { set, keep_ }                                                                   \
    }
#define ATTEND(causal_, scale_)                                                                    \
    {                                                                                              \
        .attention = { causal_, scale_ }                                                           \
    }
#define OPTIMIZER(...)                                                                             \
    {                                                                                              \
        .optimizer = { __VA_ARGS__ }                                                               \
    }

#define CHUNKED(chunk_)                                                                            \
    {                                                                                              \
        .chunked_targets = { -100, chunk_ }                                                        \
    }

// Reads "f32[2,3] i32[]"; returns how many.
static inline int read_types(const char *text, tensor_type *types) {
    int count = 0;
    while (*text) {
        char name[8];
        tensor_type *t = &types[count++];
        int length = 0;
        *t = (tensor_type){0};
        ck_assert_int_le(count, MOST_TYPES);
        ck_assert_int_eq(sscanf(text, "%7[a-z0-9]%n", name, &length), 1);
        ck_assert_msg(dtype_from_name(name, &t->dtype), "%s", text);
        text += length;
        if (*text == '[') {
            text++;
            while (*text != ']') {
                char *end;
                t->shape.dim[t->shape.rank++] = strtoll(text, &end, 10);
                ck_assert_msg(end != text, "%s", text);
                text = end + (*end == ',');
            }
            text++;
        }
        text += *text == ' ';
    }
    return count;
}

#endif
