#include "core/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/size.h"

enum { ALIGNMENT = alignof(max_align_t), FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

struct arena_block {
    struct arena_block *next;
    size_t used, capacity; // of data
    alignas(max_align_t) unsigned char data[];
};

typedef struct arena_block arena_block;

// Blocks double up to a bound, so that a small graph takes a page and a large one few calls. What
// is larger than a block gets one of its own.
static arena_block *add_block(arena *memory, size_t bytes, brim_error *err) {
    if (!memory->next_block) memory->next_block = FIRST_BLOCK;
    size_t capacity = bytes > memory->next_block ? bytes : memory->next_block;
    size_t whole;
    if (!size_add(capacity, sizeof(arena_block), &whole)) {
        brim_fail(err, BRIM_MEMORY, "%zu bytes are more than memory can address", capacity);
        return NULL;
    }
    arena_block *block = brim_calloc_array(whole, 1, err);
    if (!block) return NULL;
    block->capacity = capacity;
    block->next = memory->blocks;
    memory->blocks = block;
    if (memory->next_block < LARGEST_BLOCK) memory->next_block *= 2;
    return block;
}

void *arena_alloc(arena *memory, size_t bytes, brim_error *err) {
    if (failed(err)) return NULL;
    size_t aligned;
    if (!size_align(bytes, ALIGNMENT, &aligned)) {
        brim_fail(err, BRIM_MEMORY, "%zu bytes are more than memory can address", bytes);
        return NULL;
    }
    arena_block *block = memory->blocks;
    if (!block || aligned > block->capacity - block->used) block = add_block(memory, aligned, err);
    if (!block) return NULL;
    void *result = block->data + block->used;
    block->used += aligned;
    return result;
}

void *arena_array(arena *memory, size_t count, size_t size, brim_error *err) {
    size_t bytes;
    if (!size_mul(count, size, &bytes)) {
        brim_fail(err, BRIM_MEMORY, "%zu elements of %zu bytes are more than memory can address",
                  count, size);
        return NULL;
    }
    return arena_alloc(memory, bytes, err);
}

char *arena_strndup(arena *memory, const char *text, size_t length, brim_error *err) {
    const char *end = memchr(text, '\0', length);
    size_t used = end ? (size_t)(end - text) : length;
    char *copy =
        arena_alloc(memory, used + 1, err); // used + 1 cannot wrap: the text lies in memory
    if (copy) memcpy(copy, text, used);
    return copy;
}

char *arena_strdup(arena *memory, const char *text, brim_error *err) {
    return arena_strndup(memory, text, strlen(text), err);
}

char *arena_printf(arena *memory, brim_error *err, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = NULL;
    if (length < 0) {
        brim_fail(err, BRIM_ARGUMENT, "text format \"%s\" cannot be printed", format);
    } else {
        text = arena_alloc(memory, (size_t)length + 1, err);
    }
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void arena_free(arena *memory) {
    for (arena_block *block = memory->blocks; block;) {
        arena_block *next = block->next;
        free(block);
        block = next;
    }
    *memory = (arena){0};
}
