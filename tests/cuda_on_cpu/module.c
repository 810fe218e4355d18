// Modules: files that nvrtc.c compiled, loaded into this process; and launches of their kernels.
#include "internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHARED_BYTES = 48 << 10, GRID_X = INT32_MAX, GRID_YZ = 65535 };

// ---- loading ------------------------------------------------------------------------------------

static size_t elf_bytes(const void *image) {
    Elf64_Ehdr header;
    memcpy(&header, image, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return 0;
    return (size_t)header.e_shoff + (size_t)header.e_shentsize * header.e_shnum;
}

// The driver is not told how long an image is: its header says so. dlopen wants a file, under a
// name that no loaded one has.
static void *open_image(const void *image) {
    size_t bytes = elf_bytes(image);
    const char *folder = getenv("TMPDIR");
    char path[512];
    void *library = NULL;
    snprintf(path, sizeof path, "%.400s/cuda_on_cpu.XXXXXX", folder && *folder ? folder : "/tmp");
    int file = bytes ? mkstemp(path) : -1;
    if (file < 0) return NULL;
    if (write(file, image, bytes) == (ssize_t)bytes) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    close(file);
    unlink(path);
    return library;
}

typedef struct extent_search {
    const char *inside;
    loaded_image *out;
} extent_search;

// The part that may be written or read as the file's own: constants and shared arrays.
static int find_extent(struct dl_phdr_info *info, size_t size, void *user) {
    (void)size;
    extent_search *s = user;
    uintptr_t begin = UINTPTR_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD) continue;
        uintptr_t at = info->dlpi_addr + part->p_vaddr;
        if (at < begin) begin = at;
        if (at + part->p_memsz > end) end = at + part->p_memsz;
    }
    if ((uintptr_t)s->inside < begin || (uintptr_t)s->inside >= end) return 0;
    s->out->begin = begin, s->out->end = end;
    return 1;
}

static loaded_image *load(const void *data) {
    void *library = open_image(data);
    const image_table *table = library ? dlsym(library, "image") : NULL;
    if (!table || table->version != IMAGE_VERSION) {
        if (library) dlclose(library);
        return NULL;
    }
    loaded_image *image = calloc(1, sizeof *image);
    *image = (loaded_image){.library = library, .table = table};
    dl_iterate_phdr(find_extent, &(extent_search){(const char *)table, image});
    return image;
}

CUDA_ON_CPU_API CUresult cuModuleLoadData(CUmodule *out, const void *data) {
    CALL("cuModuleLoadData", "%p", data);
    CUresult status = in_context(&scope, NULL);
    if (status) RETURN(status);
    loaded_image *image = load(data);
    if (!image) RETURN(CUDA_ERROR_INVALID_IMAGE);
    object *module = object_create(OBJECT_MODULE, current_context());
    module->image = image;
    *out = object_handle(module);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuModuleUnload(CUmodule handle) {
    CALL("cuModuleUnload", "%p", (void *)handle);
    object *module = object_find(&scope, OBJECT_MODULE, handle);
    if (!module) RETURN(CUDA_ERROR_INVALID_HANDLE);
    if (streams_busy(module->context))
        REFUSE(CUDA_ERROR_INVALID_HANDLE, "work that may be of this module is still queued");
    module->alive = false;
    objects_forget_module(module);
    dlclose(module->image->library);
    free(module->image);
    RETURN(CUDA_SUCCESS);
}

// ---- functions ----------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name) {
    CALL("cuModuleGetFunction", "%p, %s", (void *)handle, name);
    object *module = object_find(&scope, OBJECT_MODULE, handle);
    if (!module) RETURN(CUDA_ERROR_INVALID_HANDLE);
    CUresult status = in_context(&scope, module);
    if (status) RETURN(status);
    const image_table *table = module->image->table;
    for (int i = 0; i < table->kernels; i++) {
        if (strcmp(table->kernel[i].name, name) != 0) continue;
        object *function = object_create(OBJECT_FUNCTION, module->context);
        function->image = module->image;
        function->kernel = &table->kernel[i];
        *out = object_handle(function);
        RETURN(CUDA_SUCCESS);
    }
    REFUSE(CUDA_ERROR_NOT_FOUND, "the module has no kernel %s, but %s and %d more", name,
           table->kernels ? table->kernel[0].name : "none", table->kernels - 1);
}

static int most_threads(const image_kernel *k) {
    return k->max_threads && k->max_threads < MOST_THREADS ? k->max_threads : MOST_THREADS;
}

CUDA_ON_CPU_API CUresult cuFuncGetAttribute(int *out, CUfunction_attribute what,
                                            CUfunction handle) {
    CALL("cuFuncGetAttribute", "%d, %p", (int)what, (void *)handle);
    object *function = object_find(&scope, OBJECT_FUNCTION, handle);
    if (!function) RETURN(CUDA_ERROR_INVALID_HANDLE);
    if (what == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
        *out = most_threads(function->kernel);
    else if (what == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
        *out = function->kernel->shared;
    else
        REFUSE(CUDA_ERROR_INVALID_VALUE, "attribute %d is not played here", (int)what);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t *offset,
                                            size_t *bytes) {
    CALL("cuFuncGetParamInfo", "%p, %zu", (void *)handle, index);
    object *function = object_find(&scope, OBJECT_FUNCTION, handle);
    if (!function) RETURN(CUDA_ERROR_INVALID_HANDLE);
    if (index >= (size_t)function->kernel->parameters) RETURN(CUDA_ERROR_INVALID_VALUE);
    *offset = 0;
    for (size_t i = 0; i <= index; i++) {
        size_t own = function->kernel->bytes[i];
        *offset = (*offset + own - 1) / own * own + (i < index ? own : 0);
    }
    *bytes = function->kernel->bytes[index];
    RETURN(CUDA_SUCCESS);
}

// ---- launches -----------------------------------------------------------------------------------

static CUresult check_sizes(call_scope *scope, const object *f, image_index grid, image_index block,
                            unsigned shared) {
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || grid.x > GRID_X || grid.y > GRID_YZ || grid.z > GRID_YZ) {
        cuda_on_cpu_complain(scope->name, "kernel %s: a grid of %u x %u x %u", f->kernel->name,
                             grid.x, grid.y, grid.z);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!threads || threads > (uint64_t)most_threads(f->kernel)) {
        cuda_on_cpu_complain(scope->name, "kernel %s: %llu threads a block, 1 to %d are possible",
                             f->kernel->name, (unsigned long long)threads, most_threads(f->kernel));
        return CUDA_ERROR_INVALID_VALUE;
    }
    uint64_t bytes = (uint64_t)f->kernel->shared + shared;
    if (bytes <= SHARED_BYTES) return CUDA_SUCCESS;
    cuda_on_cpu_complain(scope->name, "kernel %s: %llu bytes of shared memory, %d are possible",
                         f->kernel->name, (unsigned long long)bytes, SHARED_BYTES);
    return CUDA_ERROR_INVALID_VALUE;
}

static size_t parameter_bytes(const image_kernel *k) {
    size_t bytes = 0;
    for (int i = 0; i < k->parameters; i++) bytes += (k->bytes[i] + 15u) / 16 * 16;
    return bytes;
}

// One block of memory: the launch, the addresses of its parameters, the parameters.
static launch *copy_launch(const object *f, image_index grid, image_index block, void **given) {
    const image_kernel *k = f->kernel;
    size_t pointers = (size_t)(k->parameters + 1) * sizeof(void *);
    size_t head = (sizeof(launch) + pointers + 15) / 16 * 16;
    size_t bytes = head + parameter_bytes(k) + 16;
    char *memory = calloc(1, bytes), *at = memory + head;
    launch *l = (launch *)memory;
    *l = (launch){.kernel = k, .image = f->image, .grid = grid, .block = block, .bytes = bytes};
    l->parameter = (void **)(memory + sizeof *l);
    for (int i = 0; i < k->parameters; i++) {
        l->parameter[i] = at;
        memcpy(at, given[i], k->bytes[i]);
        at += (k->bytes[i] + 15u) / 16 * 16;
    }
    return l;
}

static void run_launch(void *data) {
    launch_run(data);
}

CUDA_ON_CPU_API CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y,
                                        unsigned grid_z, unsigned block_x, unsigned block_y,
                                        unsigned block_z, unsigned shared, CUstream stream_handle,
                                        void **parameters, void **extra) {
    CALL("cuLaunchKernel", "%p, %u %u %u, %u %u %u, %u, %p", (void *)handle, grid_x, grid_y, grid_z,
         block_x, block_y, block_z, shared, (void *)stream_handle);
    object *function = object_find(&scope, OBJECT_FUNCTION, handle);
    object *stream = object_find(&scope, OBJECT_STREAM, stream_handle);
    if (!function || !stream) RETURN(CUDA_ERROR_INVALID_HANDLE);
    image_index grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
    CUresult status = in_context(&scope, stream);
    if (!status) status = in_context(&scope, function);
    if (!status) status = check_sizes(&scope, function, grid, block, shared);
    if (status) RETURN(status);
    if (extra || (!parameters && function->kernel->parameters))
        REFUSE(CUDA_ERROR_INVALID_VALUE, "parameters are taken as a list of addresses only");
    for (int i = 0; i < function->kernel->parameters; i++)
        if (!parameters[i])
            REFUSE(CUDA_ERROR_INVALID_VALUE, "kernel %s: parameter %d of %d is not given",
                   function->kernel->name, i, function->kernel->parameters);
    launch *l = copy_launch(function, grid, block, parameters);
    RETURN(stream_add(&scope, stream, WORK_LAUNCH, l->kernel, run_launch, l));
}
