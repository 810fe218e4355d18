// Drivers and libraries opened at run time, from one table for each library:
//
//   1. A struct of function pointers, and a table that names the symbol for each:
//        typedef struct cuda_driver { CUresult (*cuInit)(unsigned); ... } cuda_driver;
//        static const dynlib_symbol symbols[] = {
//            DYNLIB_REQUIRED(cuda_driver, cuInit),
//            DYNLIB_REQUIRED_AS(cuda_driver, cuMemAlloc, "cuMemAlloc_v2"),
//            DYNLIB_OPTIONAL(cuda_driver, cuGraphLaunch),      // its pointer is NULL where the
//            library lacks it
//        };
//   2. static const char *const names[] = {"libcuda.so.1", "libcuda.so", NULL};
//      static const dynlib_table table = {"NVIDIA driver", names, symbols, sizeof symbols / sizeof
//      *symbols};
//   3. dynlib library = {0};
//      if (!dynlib_open(&library, &table, &driver, err)) ...     the text says which library or
//      symbol is missing
//   4. dynlib_close(&library);
#ifndef BRIM_CORE_DYNLIB_H
#define BRIM_CORE_DYNLIB_H

#include <stdbool.h>
#include <stddef.h>
#include "core/error.h"

typedef struct dynlib_symbol {
    const char *name; // as the library exports it
    size_t slot;      // offset of the pointer in the struct that dynlib_open fills
    bool required;
} dynlib_symbol;

#define DYNLIB_REQUIRED(type, field)                                                               \
    { #field, offsetof(type, field), true }
#define DYNLIB_OPTIONAL(type, field)                                                               \
    { #field, offsetof(type, field), false }
#define DYNLIB_REQUIRED_AS(type, field, symbol)                                                    \
    { symbol, offsetof(type, field), true }
#define DYNLIB_OPTIONAL_AS(type, field, symbol)                                                    \
    { symbol, offsetof(type, field), false }

typedef struct dynlib_table {
    const char *purpose;           // names the library in error texts: "NVIDIA driver"
    const char *const *candidates; // sonames or paths, tried in this order; NULL ends the list
    const dynlib_symbol *symbols;
    size_t count;
} dynlib_table;

typedef struct dynlib {
    void *handle;     // NULL while closed
    const char *name; // the candidate that was opened
} dynlib;

// Opens the first candidate that exists and has every required symbol, and fills the pointers in
// functions. False with status BRIM_DEVICE where there is none: the text says for each candidate
// why not. functions is then all NULL at the table's slots.
bool dynlib_open(dynlib *library, const dynlib_table *table, void *functions, brim_error *err);

// Closes the library; its functions must no longer be called. Nothing happens where it is not open.
void dynlib_close(dynlib *library);

#endif
