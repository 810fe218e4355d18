// Shapes that come from scripts: checked before anything counts on them.
#ifndef BRIM_GRAPH_SHAPE_H
#define BRIM_GRAPH_SHAPE_H

#include "graph/graph.h"

enum { SHAPE_TEXT = 160 }; // bytes that shape_print needs at most

// False, with the reason, unless there are up to BRIM_MAX_DIMS extents of 1 or more and the bytes
// fit 63 bits.
bool shape_check(const shape *s, brim_dtype dtype, char *reason, size_t size);

// Copies a list of extents; false unless rank is 0 .. BRIM_MAX_DIMS and dims is there. Extents are
// not checked.
bool shape_make(int rank, const int64_t *dims, shape *out);

#endif
