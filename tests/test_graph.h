// What the suites of graph share: a graph for the length of a test, and its text form.
#ifndef BRIM_TEST_GRAPH_H
#define BRIM_TEST_GRAPH_H

#include <brim/brim.h>
#include <stdlib.h>
#include "graph/graph.h"
#include "test_core.h"

// Declares err and g; FREE_GRAPH ends what it begins.
#define MAKE_GRAPH                                                                                 \
    brim_error err = {0};                                                                          \
    brim_graph *g = brim_graph_create(&err);                                                       \
    ck_assert_ptr_nonnull(g)
#define FREE_GRAPH brim_graph_free(g)

// The call before stuck this error, word for word; it is cleared.
#define ASSERT_REFUSED(expected_status, expected_text)                                             \
    do {                                                                                           \
        ck_assert_str_eq(err.text, expected_text);                                                 \
        ck_assert_int_eq(err.status, expected_status);                                             \
        err = (brim_error){0};                                                                     \
    } while (0)

// Gives the graph's lists no more room than they need: the address sanitizer sees what reads
// beyond.
static inline void fit_graph(brim_graph *g) {
    if (g->values) g->value = realloc(g->value, (size_t)g->values * sizeof *g->value);
    if (g->nodes) g->node = realloc(g->node, (size_t)g->nodes * sizeof *g->node);
    if (g->results) g->result = realloc(g->result, (size_t)g->results * sizeof *g->result);
    g->value_capacity = g->values, g->node_capacity = g->nodes, g->result_capacity = g->results;
}

static inline bool has_shape(brim_value v, int rank, const int64_t *dims) {
    if (v.id < 0 || brim_rank(v) != rank) return false;
    for (int i = 0; i < rank; i++) {
        if (brim_dim(v, i) != dims[i]) return false;
    }
    return true;
}
#define ASSERT_SHAPE(v, ...)                                                                       \
    ck_assert(has_shape(v, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__)))

// The graph as text; the caller frees it.
static inline char *graph_text(const brim_graph *g) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    brim_graph_print(g, out);
    fclose(out);
    return text;
}

// The graph's text is this one; the first line that differs is shown.
static inline void assert_text(const brim_graph *g, const char *expected) {
    char *text = graph_text(g);
    const char *a = text, *b = expected;
    while (*a && strcspn(a, "\n") == strcspn(b, "\n") && !strncmp(a, b, strcspn(a, "\n"))) {
        a += strcspn(a, "\n");
        b += strcspn(b, "\n");
        a += *a == '\n';
        b += *b == '\n';
    }
    ck_assert_msg(!*a && !*b, "\"%.*s\", expected \"%.*s\"", (int)strcspn(a, "\n"), a,
                  (int)strcspn(b, "\n"), b);
    free(text);
}

#endif
