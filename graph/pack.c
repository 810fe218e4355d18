#include "graph/pack.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/size.h"

// Sums of sizes below this cannot overflow in what follows.
#define PACK_LIMIT ((int64_t)1 << 60)

typedef struct sized_block {
    int64_t bytes, size; // size: with guard, aligned
    int64_t offset, end;
    int32_t first, last;
    int32_t index;
} sized_block;

typedef struct packer {
    const pack_rules *rules;
    int64_t base; // aligned, behind the guard
    sized_block *block;
    sized_block *placed; // by offset
    int64_t *offset;     // by index: the best packing so far
    int32_t count;
} packer;

brim_status pack_size(const pack_rules *rules, int64_t bytes, int64_t *size, brim_error *err) {
    if (bytes < 0 || !i64_add(bytes, rules->guard, size) ||
        !i64_align(*size, rules->alignment, size) || *size > PACK_LIMIT)
        return brim_fail(err, BRIM_MEMORY, "%lld bytes in one piece are more than any device has",
                         (long long)bytes);
    if (rules->chunk && bytes > rules->chunk)
        return brim_fail(err, BRIM_MEMORY,
                         "%lld bytes in one piece; the device allocates at most %lld in one piece",
                         (long long)bytes, (long long)rules->chunk);
    if (*size == 0) *size = rules->alignment;
    return BRIM_OK;
}

int64_t pack_fit(const pack_rules *rules, int64_t from, int64_t bytes) {
    int64_t at = (from + rules->alignment - 1) & ~(rules->alignment - 1);
    if (rules->chunk && bytes > 0 && at / rules->chunk != (at + bytes - 1) / rules->chunk)
        at = (at / rules->chunk + 1) * rules->chunk;
    return at;
}

// Orders ------------------------------------------------------------------------------------------

static int compare(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}

static int by_size(const void *x, const void *y) {
    const sized_block *a = x, *b = y;
    int order = compare(b->size, a->size);
    if (!order) order = compare((int64_t)b->last - b->first, (int64_t)a->last - a->first);
    if (!order) order = compare(a->first, b->first);
    return order ? order : compare(a->index, b->index);
}

static int by_area(const void *x, const void *y) {
    const sized_block *a = x, *b = y;
    double area_a = (double)a->size * (a->last - a->first + 1.0);
    double area_b = (double)b->size * (b->last - b->first + 1.0);
    return area_a != area_b ? (area_a > area_b ? -1 : 1) : by_size(x, y);
}

static int by_length(const void *x, const void *y) {
    const sized_block *a = x, *b = y;
    int order = compare((int64_t)b->last - b->first, (int64_t)a->last - a->first);
    return order ? order : by_size(x, y);
}

static int by_start(const void *x, const void *y) {
    const sized_block *a = x, *b = y;
    int order = compare(a->first, b->first);
    return order ? order : by_size(x, y);
}

static const struct {
    int (*order)(const void *, const void *);
    bool best_fit; // else the lowest gap
} strategies[] = {
    {by_size, true}, {by_size, false}, {by_length, false}, {by_area, false}, {by_start, false}};
enum { STRATEGIES = sizeof strategies / sizeof *strategies };

// Placing -----------------------------------------------------------------------------------------

// Where the block goes among the placed ones that live at the same time.
static int64_t find_gap(const packer *p, int32_t placed, const sized_block *b, bool best_fit) {
    int64_t free_from = p->base, found = -1, found_gap = INT64_MAX;
    for (int32_t i = 0; i < placed; i++) {
        const sized_block *other = &p->placed[i];
        if (other->last < b->first || other->first > b->last || other->end <= free_from) continue;
        int64_t gap = other->offset - free_from;
        if (gap >= b->size && gap < found_gap) {
            int64_t at = pack_fit(p->rules, free_from, b->bytes);
            if (at + b->size <= other->offset) {
                if (!best_fit) return at;
                found = at;
                found_gap = gap;
            }
        }
        free_from = other->end;
    }
    return found >= 0 ? found : pack_fit(p->rules, free_from, b->bytes);
}

// Places all blocks in the order of p->block; returns the end, or `limit` once it is reached.
static int64_t place_all(packer *p, bool best_fit, int64_t limit) {
    int64_t end = p->base;
    for (int32_t n = 0; n < p->count; n++) {
        sized_block *b = &p->block[n];
        b->offset = find_gap(p, n, b, best_fit);
        b->end = b->offset + b->size;
        if (b->end > end) end = b->end;
        if (end >= limit) return limit;
        int32_t low = 0, high = n;
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            if (p->placed[middle].offset <= b->offset)
                low = middle + 1;
            else
                high = middle;
        }
        memmove(&p->placed[low + 1], &p->placed[low], (size_t)(n - low) * sizeof *p->placed);
        p->placed[low] = *b;
    }
    return end;
}

// Keeps the packing just made if it is better.
static int64_t keep(packer *p, int64_t end, int64_t best) {
    if (end >= best) return best;
    for (int32_t i = 0; i < p->count; i++) p->offset[p->block[i].index] = p->block[i].offset;
    return end;
}

// The block that sticks out highest was placed too late: it goes first in the next try.
static int64_t improve(packer *p, int64_t best, int64_t bound) {
    enum { TRIES = 24, MOST_BLOCKS = 3000 };
    if (p->count > MOST_BLOCKS || best <= bound) return best;
    qsort(p->block, (size_t)p->count, sizeof *p->block, by_size);
    for (int i = 0; i < TRIES && best > bound; i++) {
        best = keep(p, place_all(p, true, INT64_MAX), best);
        int32_t top = 0;
        for (int32_t b = 1; b < p->count; b++)
            if (p->block[b].end > p->block[top].end) top = b;
        sized_block moved = p->block[top];
        memmove(&p->block[1], &p->block[0], (size_t)top * sizeof moved);
        p->block[0] = moved;
    }
    return best;
}

static int64_t most_alive(const packer *p, int64_t *delta, int32_t positions) {
    for (int32_t i = 0; i < p->count; i++) {
        delta[p->block[i].first] += p->block[i].size;
        delta[p->block[i].last + 1] -= p->block[i].size;
    }
    int64_t alive = 0, most = 0;
    for (int32_t t = 0; t < positions; t++) {
        alive += delta[t];
        if (alive > most) most = alive;
    }
    return most;
}

static brim_status check(packer *p, const pack_block *blocks, int32_t *positions, brim_error *err) {
    const pack_rules *r = p->rules;
    if (r->alignment <= 0 || (r->alignment & (r->alignment - 1)) || r->chunk < 0 ||
        r->chunk % r->alignment || r->base < 0 || r->base > PACK_LIMIT || r->guard < 0 ||
        r->guard > PACK_LIMIT || r->alignment > PACK_LIMIT)
        return brim_fail(
            err, BRIM_ARGUMENT, "pack: base %lld, alignment %lld, chunk %lld, guard %lld",
            (long long)r->base, (long long)r->alignment, (long long)r->chunk, (long long)r->guard);
    int64_t sum = 0;
    for (int32_t i = 0; i < p->count; i++) {
        sized_block *b = &p->block[i];
        *b = (sized_block){
            .bytes = blocks[i].bytes, .first = blocks[i].first, .last = blocks[i].last, .index = i};
        if (pack_size(r, b->bytes, &b->size, err)) return err->status;
        if (b->first < 0 || b->last < b->first || b->last == INT32_MAX)
            return brim_fail(err, BRIM_ARGUMENT, "pack: block %d lives from %d to %d", i, b->first,
                             b->last);
        if (b->last + 1 > *positions) *positions = b->last + 1;
        sum += b->size;
        if (sum > PACK_LIMIT)
            return brim_fail(err, BRIM_MEMORY, "more than 2^60 bytes are asked for");
    }
    return BRIM_OK;
}

brim_status pack_bound(const pack_block *blocks, int32_t count, const pack_rules *rules,
                       int64_t *bound, brim_error *err) {
    packer p = {.rules = rules, .count = count};
    p.block = brim_calloc_array((size_t)count, sizeof *p.block, err);
    int32_t positions = 0;
    int64_t *delta = NULL;
    if (!failed(err) && !check(&p, blocks, &positions, err))
        delta = brim_calloc_array((size_t)positions + 1, sizeof *delta, err);
    if (delta)
        *bound = pack_fit(rules, rules->base + rules->guard, 0) + most_alive(&p, delta, positions);
    free(p.block);
    free(delta);
    return err->status;
}

brim_status pack_blocks(pack_block *blocks, int32_t count, const pack_rules *rules,
                        pack_result *result, brim_error *err) {
    *result = (pack_result){0};
    packer p = {.rules = rules, .count = count};
    p.block = brim_calloc_array((size_t)count, sizeof *p.block, err);
    p.placed = brim_calloc_array((size_t)count, sizeof *p.placed, err);
    p.offset = brim_calloc_array((size_t)count, sizeof *p.offset, err);
    int32_t positions = 0;
    int64_t *delta = NULL;
    if (!failed(err) && !check(&p, blocks, &positions, err))
        delta = brim_calloc_array((size_t)positions + 1, sizeof *delta, err);
    if (delta) {
        p.base = pack_fit(rules, rules->base + rules->guard, 0);
        result->lower_bound = p.base + most_alive(&p, delta, positions);
        int64_t best = count ? INT64_MAX : p.base, enough = result->lower_bound;
        if (rules->enough > enough) enough = rules->enough;
        for (int i = 0; i < STRATEGIES && (i == 0 || best > enough); i++) {
            qsort(p.block, (size_t)count, sizeof *p.block, strategies[i].order);
            best = keep(&p, place_all(&p, strategies[i].best_fit, best), best);
        }
        result->end = improve(&p, best, enough);
        for (int32_t i = 0; i < count; i++) blocks[i].offset = p.offset[i];
    }
    free(p.block);
    free(p.placed);
    free(p.offset);
    free(delta);
    return err->status;
}
