// A mistake in the kernels, for tests that must notice it: a backend that stands before the real
// one replaces a few characters in the text of a program's kernels before they are compiled.
//
// 1. mistake_begin(&h, "+ eps", "+ 0.5f * eps");
// 2. run;  mistake_places() > 0:                  that text is what runs
// 3. mistake_end(&h);
#ifndef BRIM_TESTS_MISTAKE_H
#define BRIM_TESTS_MISTAKE_H

#include "tests/harness.h"

void mistake_begin(harness *h, const char *from, const char *to);
int mistake_places(void); // where it was put, since the beginning
void mistake_end(harness *h);

#endif
