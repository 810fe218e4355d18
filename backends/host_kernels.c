#include "backends/host_kernels.h"

#include <stddef.h>
#include <string.h>
#include "backends/host_variants.h"

static bool always(void) {
    return true;
}

#ifdef BRIM_HOST_X86
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static const struct {
    const char *name;
    const host_kernel *kernels; // NULL: not in this library
    bool (*runs)(void);
} variants[HOST_VARIANTS] = {
    [HOST_PLAIN] = {"plain", host_kernels_plain, always},
#ifdef BRIM_HOST_X86
    [HOST_AVX2] = {"avx2", host_kernels_avx2, has_avx2},
    [HOST_AVX512] = {"avx512", host_kernels_avx512, has_avx512},
#else
    [HOST_AVX2] = {.name = "avx2"},
    [HOST_AVX512] = {.name = "avx512"},
#endif
};

const char *host_variant_name(host_variant variant) {
    return variants[variant].name;
}

bool host_variant_runs(host_variant variant) {
    return variants[variant].kernels && variants[variant].runs();
}

const host_kernel *host_kernel_of(host_variant variant, const char *name) {
    if (!host_variant_runs(variant)) return NULL;
    const host_kernel *kernel = variants[variant].kernels;
    while (kernel->name && strcmp(kernel->name, name) != 0) kernel++;
    return kernel->name ? kernel : NULL;
}

const host_kernel *host_kernel_find(const char *name) {
    host_variant variant = HOST_VARIANTS - 1;
    while (!host_variant_runs(variant)) variant--;
    return host_kernel_of(variant, name);
}
