// Compiled kernels that the programs of one process share, for tests that load thousands of
// programs.
//
// The linker puts functions of ours before the backends' own (-Wl,--wrap): a kernel whose text,
// defines and device have been there before is not compiled again. Generated kernels that are known
// beforehand are compiled many at a time, since most of what a compiler does for one of them is to
// read the dialect.
//
// 1. shared_modules_begin(quickly);
// 2. shared_modules_expect(program);      of some programs that will be loaded
// 3. load, run and unload programs
// 4. shared_modules_end();                before the device is closed
#ifndef BRIM_TEST_SHARED_MODULES_H
#define BRIM_TEST_SHARED_MODULES_H

#include "backends/program.h"

// quickly: on OpenCL without the compiler's optimiser, in half of the time.
void shared_modules_begin(bool quickly);
void shared_modules_expect(const program *p);
int shared_modules_expected(void);    // how many are to be compiled
void shared_modules_forget(int left); // the others, which were expected last, are not
void shared_modules_end(void);
int shared_modules_count(void); // kernels that were compiled since the beginning

#endif
