// What a kernel takes of the machine, as ptxas -v writes it.
#ifndef BRIM_BENCHMARKS_PTXAS_LOG_H
#define BRIM_BENCHMARKS_PTXAS_LOG_H

#include <stdbool.h>

typedef struct kernel_resources {
    int registers;                 // of a thread
    int shared_bytes;              // static, of a group
    int stack_bytes;               // local memory of a thread: arrays, and spilled registers
    int spill_stores, spill_loads; // bytes
} kernel_resources;

// False where the log tells nothing of that entry, or has another form.
bool ptxas_log_find(const char *log, const char *entry, kernel_resources *out);

#endif
