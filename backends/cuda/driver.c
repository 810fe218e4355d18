#include "backends/cuda/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/strbuf.h"

// ---- libcuda ------------------------------------------------------------------------------------

static const dynlib_symbol cuda_symbols[] = {
#define X(field, function, symbol) DYNLIB_REQUIRED_AS(cuda_driver, field, symbol),
    CUDA_FUNCTIONS(X)
#undef X
    DYNLIB_OPTIONAL_AS(cuda_driver, func_get_param_info, "cuFuncGetParamInfo"),
};
static const char *const cuda_names[] = {"libcuda.so.1", "libcuda.so", NULL};
static const dynlib_table cuda_table = {"NVIDIA's driver", cuda_names, cuda_symbols,
                                        sizeof cuda_symbols / sizeof *cuda_symbols};

bool cuda_driver_open(cuda_driver *cu, brim_error *err) {
    *cu = (cuda_driver){0};
    dynlib library;
    if (!dynlib_open(&library, &cuda_table, cu, err)) return false;
    cu->library = library;
    if (cuda_check(cu, cu->init(0), "cuInit", err)) return true;
    cuda_driver_close(cu);
    return false;
}

// The file stays loaded: the driver and what it starts leave threads and exit handlers behind.
void cuda_driver_close(cuda_driver *cu) {
    *cu = (cuda_driver){0};
}

// After these the context answers every call with an error, whatever it is.
bool cuda_loses_device(CUresult status) {
    static const CUresult list[] = {CUDA_ERROR_ILLEGAL_ADDRESS,
                                    CUDA_ERROR_LAUNCH_TIMEOUT,
                                    CUDA_ERROR_LAUNCH_FAILED,
                                    CUDA_ERROR_ILLEGAL_INSTRUCTION,
                                    CUDA_ERROR_MISALIGNED_ADDRESS,
                                    CUDA_ERROR_INVALID_ADDRESS_SPACE,
                                    CUDA_ERROR_INVALID_PC,
                                    CUDA_ERROR_HARDWARE_STACK_ERROR,
                                    CUDA_ERROR_ASSERT,
                                    CUDA_ERROR_ECC_UNCORRECTABLE,
                                    CUDA_ERROR_NVLINK_UNCORRECTABLE,
                                    CUDA_ERROR_CONTEXT_IS_DESTROYED};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i] == status) return true;
    return false;
}

bool cuda_check(const cuda_driver *cu, CUresult status, const char *call, brim_error *err) {
    if (status == CUDA_SUCCESS) return true;
    const char *name = NULL, *text = NULL;
    if (cu->get_error_name(status, &name) != CUDA_SUCCESS || !name) name = "unknown code";
    if (cu->get_error_string(status, &text) != CUDA_SUCCESS || !text) text = "no description";
    brim_fail(err, status == CUDA_ERROR_OUT_OF_MEMORY ? BRIM_MEMORY : BRIM_DEVICE,
              "CUDA: %s failed with %s (%d): %s%s", call, name, (int)status, text,
              cuda_loses_device(status) ? "; the device is lost to this process" : "");
    return false;
}

// ---- libnvrtc -----------------------------------------------------------------------------------

static const dynlib_symbol nvrtc_symbols[] = {
#define X(field, function) DYNLIB_REQUIRED_AS(cuda_compiler, field, #function),
    NVRTC_FUNCTIONS(X)
#undef X
};

// The best architecture for a device: its own, else the newest before it, whose PTX the driver
// compiles. 0: none.
static int best_architecture(const cuda_compiler *nvrtc, int capability) {
    int count = 0, best = 0;
    if (nvrtc->get_num_supported_archs(&count) != NVRTC_SUCCESS || count < 1) return 0;
    int *list = calloc((size_t)count, sizeof *list);
    if (list && nvrtc->get_supported_archs(list) == NVRTC_SUCCESS) {
        for (int i = 0; i < count; i++)
            if (list[i] <= capability && list[i] > best) best = list[i];
    }
    free(list);
    return best;
}

// Opens one file. False without an error, but a reason, where it is missing or does not know the
// device.
static bool try_compiler(cuda_compiler *nvrtc, const char *file, int capability, strbuf *reasons) {
    const char *const names[] = {file, NULL};
    const dynlib_table table = {"NVRTC", names, nvrtc_symbols,
                                sizeof nvrtc_symbols / sizeof *nvrtc_symbols};
    brim_error problem = {0};
    dynlib library;
    *nvrtc = (cuda_compiler){0};
    if (!dynlib_open(&library, &table, nvrtc, &problem)) {
        strbuf_printf(reasons, "%s%s", reasons->length ? "; " : "", problem.text);
        return false;
    }
    nvrtc->library = library;
    nvrtc->library.name = file;
    int best = best_architecture(nvrtc, capability);
    if (best && nvrtc->version(&nvrtc->major, &nvrtc->minor) == NVRTC_SUCCESS) {
        snprintf(nvrtc->architecture, sizeof nvrtc->architecture, "%s_%d",
                 best == capability ? "sm" : "compute", best);
        return true;
    }
    strbuf_printf(reasons, "%s%s does not compile for sm_%d", reasons->length ? "; " : "", file,
                  capability);
    cuda_compiler_close(nvrtc);
    return false;
}

bool cuda_compiler_open(cuda_compiler *nvrtc, int driver_version, int capability, brim_error *err) {
    static const char *const newest[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", NULL};
    static const char *const older[] = {"libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so", NULL};
    *nvrtc = (cuda_compiler){0};
    if (failed(err)) return false;
    strbuf reasons = {.err = err};
    bool opened = false;
    const char *const *name = driver_version > 0 && driver_version < 13000 ? older : newest;
    for (; *name && !opened; name++) opened = try_compiler(nvrtc, *name, capability, &reasons);
    if (!opened)
        brim_fail(err, BRIM_DEVICE, "CUDA's run-time compiler (NVRTC) cannot be used: %s",
                  strbuf_text(&reasons));
    strbuf_free(&reasons);
    return opened;
}

// The file stays loaded, as the driver does.
void cuda_compiler_close(cuda_compiler *nvrtc) {
    *nvrtc = (cuda_compiler){0};
}
