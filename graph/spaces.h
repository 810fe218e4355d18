// The kinds of memory that a step's bytes lie in, nearest to the kernels first.
#ifndef BRIM_GRAPH_SPACES_H
#define BRIM_GRAPH_SPACES_H

typedef enum memory_space {
    SPACE_DEVICE, // the arena in the device's memory
    SPACE_HOST,   // main memory, pinned where possible
    SPACE_FILE,   // a file on disk
    SPACES
} memory_space;

#endif
