// Stacks that are switched between by hand: the threads of a block.
#ifndef BRIM_TESTS_CUDA_ON_CPU_FIBER_H
#define BRIM_TESTS_CUDA_ON_CPU_FIBER_H

#include <stddef.h>
#include <stdint.h>

typedef struct fiber fiber;

// A stack that will run entry(context) at the first switch to it. entry never returns.
fiber *fiber_create(size_t stack_bytes, void (*entry)(void *), void *context);
// The one that runs: what others switch back to; and to say that the same is now another thread's,
// whose stack the sanitizers must know.
fiber *fiber_of_this_thread(void);
void fiber_is_here(fiber *f);
void fiber_free(fiber *f);
// Goes on with `to`; returns when something switches back to `from`, which is the one that runs.
void fiber_switch(fiber *from, fiber *to);
void fiber_stack(const fiber *f, uintptr_t *begin, uintptr_t *bytes);

#endif
