// The OpenCL backend, but in every launch each operand is a memory object of its own, with not a
// byte more than the record declares: a tool that watches memory objects (oclgrind) then notices
// every access outside an operand, and every write to one that is declared as read. Operands that
// overlap share an object, as work-items that race over them must meet.
//
//   1. harness_open(&h, "opencl:0", ...);  exact_operands_begin(&h, &options);
//   2. harness_run ...: launches run one by one, what they write is put back
//   3. exact_operands_end(&h);  harness_close(&h);
#ifndef BRIM_TESTS_EXACT_OPERANDS_H
#define BRIM_TESTS_EXACT_OPERANDS_H

#include "tests/harness.h"

// One harness at a time.
typedef struct exact_operands_options {
    const device_traits *traits; // what lowering is told of the device; NULL: what it says itself
    void (*note)(const kernel_spec *kernel, void *user); // told of every kernel that is launched
    void *user;
} exact_operands_options;

void exact_operands_begin(harness *h, const exact_operands_options *options);
void exact_operands_end(harness *h);

#endif
