// A CUDA driver on the CPU, for tests: what it offers beside CUDA's own calls.
//
// libcuda.so.1, libnvrtc.so.12 and .13, libcublasLt.so.12 and .13 are built here under the names of
// NVIDIA's libraries, and the backend finds them by its own dlopen where LD_LIBRARY_PATH names
// their folder (scripts/with-cuda-on-cpu.sh sets it). They show what calls mean, not how fast a
// device is, and are stricter than the driver: a mistake that a driver may let pass is an error
// here, with one line on stderr that names the call.
//
//   1. Nothing runs before somebody waits for it. Then the work of all streams runs on the waiting
//      thread, in an order that only streams and events constrain, drawn from a seed.
//   2. Device memory is mapped without rights while no work runs: the host cannot touch it.
//   3. Kernels are C++ with a check at each access: to live device memory, and, where the test says
//      what a piece of work declares (cuda_on_cpu_expect), to those bytes only.
//   4. Any call can be told to fail.
//
// The libraries call these functions of each other, and tests find them with dlsym in libcuda.so.1:
// a process that runs on a real driver then finds none, and can say so.
#ifndef BRIM_TESTS_CUDA_ON_CPU_H
#define BRIM_TESTS_CUDA_ON_CPU_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_ON_CPU_API __attribute__((visibility("default")))

// ---- settings -----------------------------------------------------------------------------------

// Takes settings as the environment's CUDA_ON_CPU has them, words apart by blanks:
//   seed=N               of all orders; printed at the first call, drawn from the clock if not given
//   devices=N            1
//   memory=BYTES         of each device: 8G
//   overhead=BYTES       that a context takes of them: 256M
//   pinned=BYTES         the largest piece of host memory that can be pinned: 1024G
//   pinned_from=BYTES    the smallest one that can be: 0
//   capability=NN        of each device: 89
//   driver=N             CUDA version of the driver: 13000
//   order=random         or submitted: what runs first among what may run; submitted: no adversary
//   check=1              or 0: accesses of kernels are not looked at
//   nvrtc=1              or 0: the real NVRTC, where it is installed, is not asked whether it takes the
//                        kernels: faster
//   fail=CALL:N:STATUS   the N-th call (1) of that name fails with STATUS (a number of CUDA's or the
//                        library's; 999, unknown). CALL may be "any"; both numbers may be left out.
//   record=FILE          a line for each call: name, arguments, status
//
// NULL or a line of what is wrong, valid until the next call. Settings stand for what follows.
CUDA_ON_CPU_API const char *cuda_on_cpu_configure(const char *words);

// ---- what was called ----------------------------------------------------------------------------

// How often a call ("cuLaunchKernel"; "any" for all) was made since the process began.
CUDA_ON_CPU_API int64_t cuda_on_cpu_calls(const char *call);
// The call that was told to fail and did, since the last configure; "" where there was none.
CUDA_ON_CPU_API const char *cuda_on_cpu_failed(void);
// The most bytes of a device that its contexts and their allocations have taken since the last
// configure: its memory less the least that cuMemGetInfo could have told.
CUDA_ON_CPU_API int64_t cuda_on_cpu_most_taken(void);
// Contexts, allocations, modules, streams and events that live, as text; "" where nothing does.
CUDA_ON_CPU_API const char *cuda_on_cpu_alive(void);

// ---- what work declares -------------------------------------------------------------------------

typedef enum cuda_on_cpu_kind { WORK_LAUNCH, WORK_PRODUCT, WORK_COPY, WORK_FILL } cuda_on_cpu_kind;

// Bytes of device memory, or of pinned memory for a copy's other side.
typedef struct cuda_on_cpu_range {
    uintptr_t begin, end;
    bool writes; // or reads and writes
} cuda_on_cpu_range;

typedef struct cuda_on_cpu_work {
    cuda_on_cpu_kind kind;
    const char *label;              // of the record, for messages; alive until the work has run
    const char *kernel;             // of a launch; NULL else
    const cuda_on_cpu_range *range; // copied, as all arrays
    int ranges;
    const uint8_t *argument_bytes; // of each argument of a launch
    int arguments;
} cuda_on_cpu_work;

// The next `count` pieces of work that are submitted, in this order: another kind or kernel is
// refused, and so is an access outside the ranges when it runs. Without it any live memory may be
// used.
CUDA_ON_CPU_API void cuda_on_cpu_expect(const cuda_on_cpu_work *work, int count);
// Ends it: true where all of them came, else one line says which did not.
CUDA_ON_CPU_API bool cuda_on_cpu_expected(void);

// ---- for libcublasLt and libnvrtc ---------------------------------------------------------------

// Counts, records and checks a call of another library. 0, or the status with which it must fail.
CUDA_ON_CPU_API int cuda_on_cpu_enter(const char *call);
// Whether kernels are to be shown to the real NVRTC.
CUDA_ON_CPU_API bool cuda_on_cpu_asks_nvrtc(void);
// One line on stderr: "cuda_on_cpu: CALL: ...".
CUDA_ON_CPU_API void cuda_on_cpu_complain(const char *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Queues work: run(data) is called when its turn comes, then free(data), which is called at once
// where the work is refused. It may use device memory.
// The context must be current, and `stream` one of its own.
CUDA_ON_CPU_API CUresult cuda_on_cpu_enqueue(CUstream stream, const char *call,
                                             void (*run)(void *data), void *data);
// Whether all those bytes lie in one live allocation of device memory.
CUDA_ON_CPU_API bool cuda_on_cpu_is_device(CUdeviceptr begin, size_t bytes);
// To be asked by run() before it touches bytes: false where this work may not (the context is lost
// then, and run must leave). `what` names the operand.
CUDA_ON_CPU_API bool cuda_on_cpu_access(CUdeviceptr begin, size_t bytes, bool writes,
                                        const char *what);

#endif
