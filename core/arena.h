// Memory for many small things that live and die together: graph nodes, names, lists.
//
//   1. arena memory = {0};
//   2. node *n = arena_alloc(&memory, sizeof *n, err);                zeroed
//   3. n->name = arena_printf(&memory, err, "h.%d.%s", layer, name);
//   4. arena_free(&memory);                                           everything at once; memory is
//   {0} again
//
// Nothing moves: pointers stay valid until arena_free.
#ifndef BRIM_CORE_ARENA_H
#define BRIM_CORE_ARENA_H

#include <stddef.h>
#include "core/error.h"

typedef struct arena {
    struct arena_block *blocks; // the newest first
    size_t next_block;          // bytes of the block to allocate next
} arena;

// bytes of zeroed memory, aligned for any type. NULL, with err set, where memory is short, and
// where err already holds an error. 0 bytes give a pointer that is not to be written to.
void *arena_alloc(arena *memory, size_t bytes, brim_error *err);

// The same for count elements of size bytes, with the product checked.
void *arena_array(arena *memory, size_t count, size_t size, brim_error *err);

// Copies of text (of its first bytes, up to length); NUL-terminated.
char *arena_strdup(arena *memory, const char *text, brim_error *err);
char *arena_strndup(arena *memory, const char *text, size_t length, brim_error *err);

char *arena_printf(arena *memory, brim_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void arena_free(arena *memory);

#endif
