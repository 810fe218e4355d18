// Heap memory with checked sizes. What these return is freed with free().
//
//   1. thing *things = brim_calloc_array(count, sizeof *things, err);      NULL on failure, else
//   zeroed
//   2. if (!brim_grow((void **)&g->nodes, &g->capacity, g->count + 1, sizeof *g->nodes, err))
//   return;
//      g->nodes[g->count++] = node;
#ifndef BRIM_CORE_ALLOC_H
#define BRIM_CORE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include "core/error.h"

// count elements of size bytes each, zeroed. Never NULL for a count of 0. NULL, with err set, where
// the product overflows or memory is short, and where err already holds an error.
void *brim_calloc_array(size_t count, size_t size, brim_error *err);

// One thing of that size, in the same way.
static inline void *brim_calloc(size_t size, brim_error *err) {
    return brim_calloc_array(1, size, err);
}

// Makes *array (elements of size bytes; NULL at first) hold at least wanted elements; *capacity is
// what it holds. It grows by half at least, so that appending one at a time takes linear time. New
// elements are zeroed. False, with err set and array and capacity as they were, where it cannot,
// and where err already holds an error.
bool brim_grow(void **array, size_t *capacity, size_t wanted, size_t size, brim_error *err);

// A copy on the heap; NULL on failure.
char *brim_strdup(const char *text, brim_error *err);

#endif
