#include "presets.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OPENCL, CUDA };

static const gpu_preset gpus[] = {
#define GPU(name, title, api, mib, gb, t16, t32, generation, lanes, watts, source)                 \
    {name, title, api == CUDA, mib, gb, t16, t32, generation, lanes, watts, source},
#include "data/gpus.def"
#undef GPU
};

static const model_preset models[] = {
#define MODEL(name, repository, parameters, ...) {name, repository, parameters, {__VA_ARGS__}},
#include "data/models.def"
#undef MODEL
};

const gpu_preset *gpu_preset_at(int index) {
    return index < (int)(sizeof gpus / sizeof *gpus) ? &gpus[index] : NULL;
}

const model_preset *model_preset_at(int index) {
    return index < (int)(sizeof models / sizeof *models) ? &models[index] : NULL;
}

static const char *gpu_name(int index) {
    const gpu_preset *p = gpu_preset_at(index);
    return p ? p->name : NULL;
}

static const char *model_name(int index) {
    const model_preset *p = model_preset_at(index);
    return p ? p->name : NULL;
}

static int find(const char *kind, const char *(*name_at)(int index), const char *wanted,
                brim_error *err) {
    char names[512] = "";
    const char *name;
    for (int i = 0; (name = name_at(i)); i++) {
        if (strcmp(name, wanted) == 0) return i;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? " " : "", name);
    }
    brim_fail(err, BRIM_ARGUMENT, "there is no %s \"%.60s\"; there is: %s", kind, wanted, names);
    return -1;
}

const gpu_preset *gpu_preset_find(const char *name, brim_error *err) {
    int i = find("GPU", gpu_name, name, err);
    return i < 0 ? NULL : &gpus[i];
}

const model_preset *model_preset_find(const char *name, brim_error *err) {
    int i = find("model", model_name, name, err);
    return i < 0 ? NULL : &models[i];
}

// Shares of what vendors publish that training sees. Products: large ones reach 70 to 80% of the
// dense peak, the narrow ones and what is lost at the edges of tiles bring it down. Memory: what a
// streaming kernel reaches. Links: PCIe 4 x16 has 31.5 GB/s each way before packets; pinned copies
// reach 24 to 26, and both directions at once meet in the host's memory controller.
static const double matmul_share = 0.60, memory_share = 0.85;
static const double pcie4x16_one_way = 24e9, pcie4x16_both = 40e9;
// Two channels of DDR5-5600 have 89.6 GB/s; copies and updates on all cores reach two thirds.
static const double host_bytes_per_second = 60e9;
// Beside the arena a CUDA context with its modules and cuBLASLt's takes 300 to 500 MiB, an OpenCL
// one less.
static const int64_t cuda_overhead = (int64_t)512 << 20, opencl_overhead = (int64_t)256 << 20;
static const double cuda_launch = 3e-6, opencl_launch = 8e-6;

brim_rates gpu_preset_rates(const gpu_preset *g) {
    double link = ldexp(g->pcie_lanes / 16.0, g->pcie_generation - 4);
    // Through OpenCL, products are fma on the vector units (backends/kernels/matmul.k, CLBlast):
    // matrix units are out of its reach, whatever they could do.
    double tflops_16 = g->cuda ? g->tflops_16 : g->tflops_32;
    brim_rates r = {.memory_bytes = g->memory_mib << 20,
                    .overhead_bytes = g->cuda ? cuda_overhead : opencl_overhead,
                    .memory = memory_share * g->memory_gb * 1e9,
                    .matmul_16 = matmul_share * tflops_16 * 1e12,
                    .matmul_32 = matmul_share * g->tflops_32 * 1e12,
                    .link_in = link * pcie4x16_one_way,
                    .link_out = link * pcie4x16_one_way,
                    .link_both = link * pcie4x16_both,
                    .host = host_bytes_per_second,
                    .launch = g->cuda ? cuda_launch : opencl_launch};
    snprintf(r.name, sizeof r.name, "%s", g->title);
    return r;
}
