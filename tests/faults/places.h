// Where in a program calls are made: places' names, and which were met.
#ifndef BRIM_TESTS_FAULTS_PLACES_H
#define BRIM_TESTS_FAULTS_PLACES_H

#include <stddef.h>
#include "tests/faults/faults.h"

// Looks the functions' names up, which takes less time for many places at once.
void places_name(const fault_site *site, int sites);
// "brim_calloc_array < arena_alloc < ...": the functions, the innermost first.
void place_text(const fault_site *site, char *text, size_t size);
// Whether a function of that name is among them.
bool place_has(const fault_site *site, const char *function);

// Places that were met.
void places_add(const fault_site *site);
int places_counted(void);

// A file of places, for several runs of one program: a line each, of `depth` frames.
void places_read(const char *file, int depth);
bool places_known(const fault_site *site);
// Adds those that were met and not known.
void places_write(const char *file);

#endif
