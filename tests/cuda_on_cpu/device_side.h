// The CUDA language for a host's C++ compiler: put in front of each kernel file by nvrtc.c, which
// also appends the table of its kernels.
//
// Every access is checked: the compiler calls __asan_* before each (-fsanitize=kernel-address), and
// __ubsan_* where a pointer is not aligned for its type or an index is outside its array.
//
// A kernel is compiled in a fifth of a second, of which C++'s own headers would take a third.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "tests/cuda_on_cpu/image.h"

extern "C" {
float cosf(float), erff(float), exp2f(float), expf(float), fabsf(float), floorf(float);
float logf(float), sinf(float), sqrtf(float), tanhf(float);
float fmaf(float, float, float), powf(float, float);
}

static const image_host *image_here;

// ---- words of the language ----------------------------------------------------------------------

#define __device__
#define __forceinline__ inline
#define __constant__ static const
#define __align__(n) __attribute__((aligned(n)))
// One block runs at a time, so its shared arrays may be static. The section tells their extent.
#define __shared__ static __attribute__((section("cuda_shared"), aligned(16)))
extern "C" __attribute__((weak, visibility("hidden"))) char __start_cuda_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) char __stop_cuda_shared[];

#define threadIdx (image_here->thread.index)
#define blockIdx (image_here->thread.block)
#define blockDim (image_here->thread.size)
#define gridDim (image_here->thread.grid)

struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) int4 { int x, y, z, w; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
struct __align__(8) float2 { float x, y; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(8) ushort4 { unsigned short x, y, z, w; };

// ---- functions of the language ------------------------------------------------------------------

template <class To, class From> static inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "another size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) { return bits_as<int>(x); }
static inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
static inline float __int_as_float(int x) { return bits_as<float>(x); }
static inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
// Beyond an int's range, and for NaN, as PTX says of cvt.rzi.s32.f32.
static inline int __float2int_rz(float x) {
    return x != x ? 0 : x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : (int)x;
}

template <class T> static inline void __stwb(T *to, T x) { *to = x; }

#define __syncthreads() image_here->barrier(__FILE__, __LINE__)
#define __syncwarp() ((void)image_here->exchange(0xffffffffu, 0, __FILE__, __LINE__))

template <class T> static inline T image_lane(const uint64_t *all, unsigned lane) {
    T to;
    memcpy(&to, &all[lane % WARP], sizeof to);
    return to;
}
template <class T> static inline uint64_t image_value(T x) {
    static_assert(sizeof x <= 8, "shuffles take up to 8 bytes");
    uint64_t to = 0;
    memcpy(&to, &x, sizeof x);
    return to;
}
static inline unsigned image_own_lane() {
    const image_thread &t = image_here->thread;
    unsigned at = t.index.x + t.size.x * (t.index.y + t.size.y * t.index.z);
    return at % WARP;
}
#define IMAGE_ALL(mask, x) image_here->exchange(mask, image_value(x), __FILE__, __LINE__)
template <class T> static inline T image_pick(const uint64_t *all, T own, unsigned lane, bool there) {
    return there ? image_lane<T>(all, lane) : own;
}
#define __shfl_sync(mask, x, lane) image_lane<decltype(x)>(IMAGE_ALL(mask, x), lane)
#define __shfl_xor_sync(mask, x, with)                                                             \
    image_lane<decltype(x)>(IMAGE_ALL(mask, x), image_own_lane() ^ (unsigned)(with))
#define __shfl_down_sync(mask, x, by)                                                              \
    image_pick<decltype(x)>(IMAGE_ALL(mask, x), x, image_own_lane() + (by),                        \
                            image_own_lane() + (by) < WARP)
#define __shfl_up_sync(mask, x, by)                                                                \
    image_pick<decltype(x)>(IMAGE_ALL(mask, x), x, image_own_lane() - (by),                        \
                            image_own_lane() >= (unsigned)(by))
static inline unsigned image_ballot(const uint64_t *all, unsigned mask) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1 && all[lane]) votes |= 1u << lane;
    return votes;
}
#define __ballot_sync(mask, x) image_ballot(IMAGE_ALL(mask, (unsigned)!!(x)), mask)
#define __any_sync(mask, x) (__ballot_sync(mask, x) != 0)
#define __all_sync(mask, x) (__ballot_sync(mask, x) == (mask))

// ---- what the kernels write in PTX (dialect_cuda.h) ---------------------------------------------

#include "core/half.h"
#define PTX_F32_TO_F16(h, x) ((h) = f16_from_f32(x))
#define PTX_F16_TO_F32(x, h) ((x) = f16_to_f32(h))

// ---- checks -------------------------------------------------------------------------------------

#define IMAGE_CHECK extern "C" __attribute__((visibility("hidden"), no_sanitize("kernel-address")))

#define IMAGE_INLINE static inline __attribute__((no_sanitize("kernel-address"), always_inline))
IMAGE_INLINE bool image_in(uintptr_t at, uintptr_t bytes, uintptr_t begin, uintptr_t length) {
    return at - begin < length && length - (at - begin) >= bytes;
}
IMAGE_INLINE void image_access(uintptr_t at, uintptr_t bytes, int writes) {
    const image_host *h = image_here;
    const image_window *w = &h->window[writes];
    if (image_in(at, bytes, w->begin, w->bytes) ||
        image_in(at, bytes, h->thread.stack, h->thread.stack_bytes) ||
        image_in(at, bytes, h->own.begin, h->own.bytes) || image_in(at, bytes, (uintptr_t)h, sizeof *h))
        return;
    h->access(at, bytes, writes);
}
#define IMAGE_ACCESS(n)                                                                            \
    IMAGE_CHECK void __asan_load##n##_noabort(uintptr_t at) { image_access(at, n, 0); }            \
    IMAGE_CHECK void __asan_store##n##_noabort(uintptr_t at) { image_access(at, n, 1); }
IMAGE_ACCESS(1)
IMAGE_ACCESS(2)
IMAGE_ACCESS(4)
IMAGE_ACCESS(8)
IMAGE_ACCESS(16)
IMAGE_CHECK void __asan_loadN_noabort(uintptr_t at, uintptr_t n) { image_access(at, n, 0); }
IMAGE_CHECK void __asan_storeN_noabort(uintptr_t at, uintptr_t n) { image_access(at, n, 1); }
IMAGE_CHECK void __asan_handle_no_return() {}

IMAGE_CHECK void __ubsan_handle_type_mismatch_v1(void *, uintptr_t pointer) {
    image_here->misuse("uses a pointer that is not aligned for its type", pointer);
}
IMAGE_CHECK void __ubsan_handle_out_of_bounds(void *, uintptr_t index) {
    image_here->misuse("uses an index outside its array", index);
}

// ---- the table ----------------------------------------------------------------------------------

template <class... A> struct image_signature {
    static constexpr unsigned bytes[sizeof...(A) + 1] = {sizeof(A)..., 0};
};
// Two levels, so that the kernel is a constant and each has a function of its own.
template <class... A> image_signature<A...> image_signature_of(void (*)(A...));
// std::index_sequence
template <size_t... I> struct image_indices {};
template <size_t n, size_t... I> struct image_up_to : image_up_to<n - 1, n - 1, I...> {};
template <size_t... I> struct image_up_to<0, I...> { typedef image_indices<I...> indices; };
template <auto kernel, class... A, size_t... I>
static void image_call(void *const *parameter, image_signature<A...>, image_indices<I...>) {
    kernel(*(const A *)parameter[I]...);
}
template <class... A> static constexpr int image_count(image_signature<A...>) { return sizeof...(A); }
template <auto kernel> static void image_invoke(void *const *parameter) {
    typedef decltype(image_signature_of(kernel)) signature;
    typedef image_up_to<image_count(signature{})> up_to;
    image_call<kernel>(parameter, signature{}, typename up_to::indices{});
}
