// Packs blocks with lifetimes into one address space.
//
// This is dynamic storage allocation, which is NP-hard (Garey and Johnson 1979, SR2). Blocks are
// placed one by one, large ones first, each into the gap that fits it best among the blocks that
// live at the same time ("greedy by size", Pisarchyk and Lee, "Efficient memory management for deep
// neural net inference", 2020); a few other orders are tried too and the lowest result is kept. The
// result depends on the arguments only.
//
// 1. pack_block blocks[] = {{.bytes = 1000, .first = 0, .last = 3}, ...};
// 2. pack_blocks(blocks, count, &rules, &result, err);      blocks[i].offset, result.end
#ifndef BRIM_GRAPH_PACK_H
#define BRIM_GRAPH_PACK_H

#include <stdint.h>
#include "core/error.h"

typedef struct pack_block {
    int64_t bytes;
    int32_t first, last; // inclusive
    int64_t offset;      // result
} pack_block;

typedef struct pack_rules {
    int64_t base;      // no block starts below
    int64_t alignment; // a power of two
    int64_t chunk; // no block straddles a multiple of this, itself one of the alignment; 0: no such
                   // limit
    int64_t guard; // bytes kept free before and after each block
    int64_t enough; // the first packing that ends there or before is taken; 0: the best one found
} pack_rules;

typedef struct pack_result {
    int64_t end;         // of the highest block with its guard, aligned
    int64_t lower_bound; // of any packing's end: the most bytes alive at one time
} pack_result;

// How many bytes a block takes with its guard, aligned; an error where that is more than a chunk or
// 2^60.
brim_status pack_size(const pack_rules *rules, int64_t bytes, int64_t *size, brim_error *err);

// The first offset at or after `from` where a block of that many bytes may start.
int64_t pack_fit(const pack_rules *rules, int64_t from, int64_t bytes);

// The lower bound alone, without packing.
brim_status pack_bound(const pack_block *blocks, int32_t count, const pack_rules *rules,
                       int64_t *bound, brim_error *err);

brim_status pack_blocks(pack_block *blocks, int32_t count, const pack_rules *rules,
                        pack_result *result, brim_error *err);

#endif
