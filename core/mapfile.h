// A file mapped into memory for reading. The file must not shrink while it is mapped: reading
// beyond its new end would end the process (SIGBUS), as with every mapping.
#ifndef BRIM_CORE_MAPFILE_H
#define BRIM_CORE_MAPFILE_H

#include <stdbool.h>
#include <stddef.h>
#include "core/error.h"

typedef struct mapfile {
    const unsigned char *data; // never NULL while open, not even for an empty file
    size_t size;
} mapfile;

// False, with a text that names the file, where it is missing, unreadable or no regular file.
bool mapfile_open(mapfile *file, const char *path, brim_error *err);

// Nothing happens where the file is not open.
void mapfile_close(mapfile *file);

#endif
