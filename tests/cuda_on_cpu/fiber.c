#include "fiber.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

enum { PAGE = 4096 };

struct fiber {
    void *stack_pointer;
    void (*entry)(void *);
    void *context;
    char *stack;
    size_t bytes;
    ucontext_t registers; // where there is no switch of our own
    // For AddressSanitizer, which is told what stack is in use: a thread's own, too, and what it
    // keeps of one that is left.
    const void *lowest;
    size_t extent;
    void *kept;
    pthread_t thread; // whose own stack it is
};

#ifdef __SANITIZE_ADDRESS__
static void leave(fiber *from, const fiber *to) {
    __sanitizer_start_switch_fiber(&from->kept, to->lowest, to->extent);
}

static void arrive(fiber *at) {
    __sanitizer_finish_switch_fiber(at->kept, NULL, NULL);
}
#else
static void leave(fiber *from, const fiber *to) {
    (void)from, (void)to;
}

static void arrive(fiber *at) {
    (void)at;
}
#endif

#if defined(__x86_64__)
// swapcontext asks the kernel for the signal mask each time, which takes 50 times as long. What the
// System V ABI says a call keeps: rbx, rbp, r12 to r15, and the stack.
__asm__(".text\n"
        ".type cuda_on_cpu_switch, @function\n"
        "cuda_on_cpu_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq "
        "%r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size cuda_on_cpu_switch, .-cuda_on_cpu_switch\n");
void cuda_on_cpu_switch(void **save, void *load);

static fiber *starting;

static void begin(void) {
    fiber *f = starting;
    arrive(f);
    f->entry(f->context);
    abort(); // an entry never returns
}

static void prepare(fiber *f) {
    void **top = (void **)(f->stack + f->bytes);
    *--top = NULL; // so that begin finds the stack as after a call
    *--top = (void *)begin;
    for (int i = 0; i < 6; i++) *--top = NULL;
    f->stack_pointer = top;
}

void fiber_switch(fiber *from, fiber *to) {
    starting = to;
    leave(from, to);
    cuda_on_cpu_switch(&from->stack_pointer, to->stack_pointer);
    arrive(from);
}
#else
static void begin(unsigned low, unsigned high) {
    fiber *f = (fiber *)((uintptr_t)low | (uintptr_t)high << 16 << 16);
    arrive(f);
    f->entry(f->context);
}

static void prepare(fiber *f) {
    uintptr_t self = (uintptr_t)f;
    getcontext(&f->registers);
    f->registers.uc_stack.ss_sp = f->stack;
    f->registers.uc_stack.ss_size = f->bytes;
    makecontext(&f->registers, (void (*)(void))begin, 2, (unsigned)self,
                (unsigned)(self >> 16 >> 16));
}

void fiber_switch(fiber *from, fiber *to) {
    leave(from, to);
    swapcontext(&from->registers, &to->registers);
    arrive(from);
}
#endif

void fiber_is_here(fiber *f) {
    pthread_attr_t attributes;
    if (f->extent && pthread_equal(f->thread, pthread_self())) return;
    f->thread = pthread_self();
    if (pthread_getattr_np(f->thread, &attributes) == 0) {
        void *lowest;
        pthread_attr_getstack(&attributes, &lowest, &f->extent);
        f->lowest = lowest;
        pthread_attr_destroy(&attributes);
    }
}

fiber *fiber_of_this_thread(void) {
    fiber *f = calloc(1, sizeof *f);
    if (f) fiber_is_here(f);
    return f;
}

// Below the stack lies a page without rights.
fiber *fiber_create(size_t stack_bytes, void (*entry)(void *), void *context) {
    fiber *f = calloc(1, sizeof *f);
    f->entry = entry, f->context = context, f->bytes = stack_bytes;
    char *map = mmap(NULL, stack_bytes + PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(map, PAGE, PROT_NONE);
    f->stack = map + PAGE;
    f->lowest = f->stack, f->extent = stack_bytes;
    prepare(f);
    return f;
}

void fiber_free(fiber *f) {
    if (f->stack) munmap(f->stack - PAGE, f->bytes + PAGE);
    free(f);
}

void fiber_stack(const fiber *f, uintptr_t *begin_address, uintptr_t *bytes) {
    *begin_address = (uintptr_t)f->stack;
    *bytes = f->bytes;
}
