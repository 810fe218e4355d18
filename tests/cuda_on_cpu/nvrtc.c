// libnvrtc on the CPU: kernels are compiled by the host's C++ compiler into a shared object that
// module.c loads, with a check at each access (device_side.h). The real NVRTC, where it is
// installed, compiles each of them first: what it refuses is refused.
#include <dlfcn.h>
#include <fcntl.h>
#include <nvrtc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cuda_on_cpu.h"

extern char **environ;

enum { MOST_OPTIONS = 128, MOST_KERNELS = 32, PATH_BYTES = 256 };

struct _nvrtcProgram {
    uint64_t magic;
    char *source, *name;
    char *log;       // for the caller
    char *assembler; // what NVIDIA's says of each kernel
    void *image;     // a shared object
    size_t image_bytes;
};
static const uint64_t alive = 0x6e76727463637075u, gone = 0xdeaddeaddeaddeadu;

// ---- the real one -------------------------------------------------------------------------------

typedef struct real_nvrtc {
    bool there;
#define X(name) __typeof__(&name) name;
#define REAL_FUNCTIONS(X)                                                                          \
    X(nvrtcCreateProgram)                                                                          \
    X(nvrtcDestroyProgram)                                                                         \
    X(nvrtcCompileProgram)                                                                         \
    X(nvrtcGetProgramLogSize)                                                                      \
    X(nvrtcGetProgramLog)                                                                          \
    X(nvrtcGetNumSupportedArchs)                                                                   \
    X(nvrtcGetSupportedArchs)
    REAL_FUNCTIONS(X)
#undef X
} real_nvrtc;

static real_nvrtc real;
static pthread_once_t looked = PTHREAD_ONCE_INIT;

// By a path: by its name this file would be found again.
static void find_real(void) {
    char paths[] = CUDA_ON_CPU_REAL_NVRTC, *rest = paths, *path;
    void *library = NULL;
    while (!library && (path = strtok_r(rest, ":", &rest))) library = dlopen(path, RTLD_NOW);
    real.there = library != NULL;
#define X(name) real.there &= library && (real.name = (__typeof__(&name))dlsym(library, #name));
    REAL_FUNCTIONS(X)
#undef X
    if (!real.there)
        cuda_on_cpu_complain("nvrtcCompileProgram", "the real NVRTC is not installed: whether it "
                                                    "takes the kernels is not seen here");
}

static char *real_log(nvrtcProgram program) {
    size_t bytes = 0;
    real.nvrtcGetProgramLogSize(program, &bytes);
    char *log = calloc(bytes + 1, 1);
    if (bytes) real.nvrtcGetProgramLog(program, log);
    return log;
}

static bool asks(int options, const char *const *option, const char *what) {
    for (int i = 0; i < options; i++)
        if (strcmp(option[i], what) == 0) return true;
    return false;
}

// The assembler's word on the kernels is asked for, whether or not the caller wants to hear it.
static nvrtcResult compile_with_real(nvrtcProgram p, int options, const char *const *option) {
    static const char verbose[] = "--ptxas-options=-v";
    if (!real.there || !cuda_on_cpu_asks_nvrtc()) return NVRTC_SUCCESS;
    const char *all[MOST_OPTIONS + 1];
    int count = options;
    memcpy(all, option, (size_t)options * sizeof *all);
    bool asked = asks(options, option, verbose);
    if (!asked) all[count++] = verbose;
    nvrtcProgram program;
    nvrtcResult status = real.nvrtcCreateProgram(&program, p->source, p->name, 0, NULL, NULL);
    if (status) return status;
    status = real.nvrtcCompileProgram(program, count, all);
    p->assembler = real_log(program);
    real.nvrtcDestroyProgram(&program);
    if (status || asked) p->log = strdup(p->assembler);
    return status;
}

// ---- options ------------------------------------------------------------------------------------

typedef struct flag_row {
    const char *given, *host; // host NULL: nothing is asked of the host's compiler
} flag_row;

// The bits of results depend on these, so each must be one that is known.
static const flag_row flags[] = {
    {"-fmad=false", "-ffp-contract=off"},
    {"-fmad=true", "-ffp-contract=fast"},
    {"--ftz=false", NULL},
    {"--prec-div=true", NULL},
    {"--prec-sqrt=true", NULL},
    {"-default-device", NULL},
    {"--ptxas-options=-v", NULL},
};

typedef struct option_list {
    const char *option[MOST_OPTIONS];
    int options;
} option_list;

static bool take_option(const char *given, option_list *out) {
    if (strncmp(given, "--gpu-architecture=", 19) == 0) return true;
    if (strncmp(given, "-D", 2) == 0) {
        out->option[out->options++] = given;
        return true;
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(flags[i].given, given) != 0) continue;
        if (flags[i].host) out->option[out->options++] = flags[i].host;
        return true;
    }
    cuda_on_cpu_complain("nvrtcCompileProgram", "option %s is not played here", given);
    return false;
}

// ---- files --------------------------------------------------------------------------------------

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status) != 0) return file ? fclose(file), NULL : NULL;
    *bytes = (size_t)status.st_size;
    char *data = malloc(*bytes + 1);
    bool whole = fread(data, 1, *bytes, file) == *bytes;
    fclose(file);
    data[*bytes] = '\0';
    if (whole) return data;
    free(data);
    return NULL;
}

// Runs the compiler; what it says goes to `log`.
static bool run_compiler(const char *const *argument, const char *log) {
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    pid_t child;
    int status = 1;
    bool started =
        posix_spawnp(&child, argument[0], &files, NULL, (char *const *)argument, environ) == 0;
    posix_spawn_file_actions_destroy(&files);
    if (started) waitpid(child, &status, 0);
    return started && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// ---- the table of kernels -----------------------------------------------------------------------

static const char marker[] = "cuda_on_cpu_kernel"; // what __global__ became

typedef struct kernel_name {
    char name[128];
    long threads;
} kernel_name;

static bool in_name(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// After the parenthesis that matches the one at `open`.
static const char *after_parentheses(const char *open) {
    int depth = 0;
    for (const char *at = open; *at; at++) {
        depth += (*at == '(') - (*at == ')');
        if (depth == 0) return at + 1;
    }
    return open;
}

// After the marker: "void [cuda_on_cpu_bounds(N, M)] NAME(".
static bool read_kernel(const char *at, kernel_name *out) {
    static const char bounds[] = "cuda_on_cpu_bounds(";
    const char *end = strpbrk(at, "{;"), *bound = strstr(at, bounds);
    *out = (kernel_name){0};
    if (!end) return false;
    if (bound && bound < end) {
        out->threads = strtol(bound + sizeof bounds - 1, NULL, 0);
        at = after_parentheses(bound + sizeof bounds - 2);
    }
    const char *open = strchr(at, '(');
    if (!open || open > end) return false;
    const char *last = open;
    while (last > at && !in_name(last[-1])) last--;
    const char *first = last;
    while (first > at && in_name(first[-1])) first--;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(last - first), first);
    return last > first;
}

// "Compiling entry function 'NAME' ... N bytes smem": 0 where nothing is said.
static long shared_bytes(const char *log, const char *name) {
    char entry[160];
    snprintf(entry, sizeof entry, "entry function '%s'", name);
    const char *at = log ? strstr(log, entry) : NULL;
    const char *end = at ? strstr(at + 1, "entry function '") : NULL;
    const char *found = at ? strstr(at, " bytes smem") : NULL;
    if (!found || (end && found > end)) return 0;
    while (found > at && found[-1] >= '0' && found[-1] <= '9') found--;
    return strtol(found, NULL, 10);
}

static void append_table(FILE *out, const char *text, const char *log) {
    int kernels = 0;
    fprintf(out, "\nstatic const image_kernel image_kernels[] = {\n");
    for (const char *at = text; (at = strstr(at, marker)); at += sizeof marker - 1) {
        kernel_name k;
        if (!read_kernel(at + sizeof marker - 1, &k)) continue;
        fprintf(out,
                "{\"%s\", image_invoke<%s>, decltype(image_signature_of(%s))::bytes, "
                "image_count(decltype(image_signature_of(%s)){}), %ld, %ld},\n",
                k.name, k.name, k.name, k.name, k.threads, shared_bytes(log, k.name));
        kernels++;
    }
    fprintf(out,
            "};\nextern \"C\" __attribute__((visibility(\"default\"))) const image_table image = "
            "{IMAGE_VERSION, &image_here, image_kernels, %d, __start_cuda_shared, "
            "__stop_cuda_shared};\n",
            kernels);
}

// ---- compiling ----------------------------------------------------------------------------------

typedef struct work_folder {
    char path[PATH_BYTES - 32];
    char source[PATH_BYTES], expanded[PATH_BYTES], library[PATH_BYTES], log[PATH_BYTES];
} work_folder;

static bool make_folder(work_folder *f) {
    const char *base = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%.180s/cuda_on_cpu.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(f->path)) return false;
    snprintf(f->source, sizeof f->source, "%s/kernel.cpp", f->path);
    snprintf(f->expanded, sizeof f->expanded, "%s/expanded.cpp", f->path);
    snprintf(f->library, sizeof f->library, "%s/kernel.so", f->path);
    snprintf(f->log, sizeof f->log, "%s/log", f->path);
    return true;
}

static void remove_folder(const work_folder *f) {
    unlink(f->source), unlink(f->expanded), unlink(f->library), unlink(f->log);
    rmdir(f->path);
}

static bool write_source(const work_folder *f, const struct _nvrtcProgram *p) {
    FILE *out = fopen(f->source, "w");
    if (!out) return false;
    fprintf(out, "#include \"tests/cuda_on_cpu/device_side.h\"\n#line 1 \"%s\"\n%s\n", p->name,
            p->source);
    return fclose(out) == 0;
}

// Macros are gone after this, and the kernels' names can be read.
static bool expand(const work_folder *f, const option_list *given) {
    const char *argument[MOST_OPTIONS + 16] = {
        CUDA_ON_CPU_COMPILER,
        "-std=c++17",
        "-E",
        "-w",
        "-I" CUDA_ON_CPU_SOURCE_DIR,
        "-D__global__=cuda_on_cpu_kernel",
        "-D__launch_bounds__(...)=cuda_on_cpu_bounds(__VA_ARGS__)",
        f->source,
        "-o",
        f->expanded};
    int count = 10;
    for (int i = 0; i < given->options; i++) argument[count++] = given->option[i];
    return run_compiler(argument, f->log);
}

static bool add_table(const work_folder *f, const char *log) {
    size_t bytes;
    char *text = read_file(f->expanded, &bytes);
    FILE *out = text ? fopen(f->expanded, "a") : NULL;
    if (out) append_table(out, text, log);
    free(text);
    return out && fclose(out) == 0;
}

static bool translate(const work_folder *f, const option_list *given) {
    const char *argument[MOST_OPTIONS + 32] = {CUDA_ON_CPU_COMPILER,
                                               "-std=c++17",
                                               "-Og",
                                               "-fPIC",
                                               "-shared",
                                               "-w",
                                               "-fno-exceptions",
                                               "-fno-rtti",
                                               "-fno-math-errno",
                                               "-fno-strict-aliasing",
                                               "-march=native",
                                               "-fvisibility=hidden",
                                               "-Wl,-z,start-stop-visibility=hidden",
                                               "-fsanitize=kernel-address,alignment,bounds",
                                               "--param=asan-instrumentation-with-call-threshold=0",
                                               "--param=asan-stack=0",
                                               "--param=asan-globals=0",
                                               "-Dcuda_on_cpu_kernel=",
                                               "-Dcuda_on_cpu_bounds(...)=",
                                               f->expanded,
                                               "-o",
                                               f->library};
    int count = 22;
    for (int i = 0; i < given->options; i++)
        if (strncmp(given->option[i], "-D", 2) != 0) argument[count++] = given->option[i];
    return run_compiler(argument, f->log);
}

static nvrtcResult compile_for_host(nvrtcProgram p, const option_list *given) {
    work_folder f;
    if (!make_folder(&f)) return NVRTC_ERROR_PROGRAM_CREATION_FAILURE;
    nvrtcResult status = NVRTC_SUCCESS;
    if (write_source(&f, p) && expand(&f, given) && add_table(&f, p->assembler) &&
        translate(&f, given)) {
        p->image = read_file(f.library, &p->image_bytes);
    } else {
        size_t bytes;
        free(p->log);
        p->log = read_file(f.log, &bytes);
        status = NVRTC_ERROR_COMPILATION;
    }
    remove_folder(&f);
    return p->image || status ? status : NVRTC_ERROR_INTERNAL_ERROR;
}

// ---- calls --------------------------------------------------------------------------------------

#define CALL(name)                                                                                 \
    do {                                                                                           \
        pthread_once(&looked, find_real);                                                          \
        int status_ = cuda_on_cpu_enter(name);                                                     \
        if (status_) return (nvrtcResult)status_;                                                  \
    } while (0)
#define CALL_OF(name, p)                                                                           \
    CALL(name);                                                                                    \
    if (!is_program(name, p)) return NVRTC_ERROR_INVALID_PROGRAM

static bool is_program(const char *call, nvrtcProgram p) {
    if (p && p->magic == alive) return true;
    cuda_on_cpu_complain(call, "%p is no program", (void *)p);
    return false;
}

CUDA_ON_CPU_API const char *nvrtcGetErrorString(nvrtcResult status) {
    static const char *const names[] = {
        [NVRTC_SUCCESS] = "NVRTC_SUCCESS",
        [NVRTC_ERROR_OUT_OF_MEMORY] = "NVRTC_ERROR_OUT_OF_MEMORY",
        [NVRTC_ERROR_PROGRAM_CREATION_FAILURE] = "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
        [NVRTC_ERROR_INVALID_INPUT] = "NVRTC_ERROR_INVALID_INPUT",
        [NVRTC_ERROR_INVALID_PROGRAM] = "NVRTC_ERROR_INVALID_PROGRAM",
        [NVRTC_ERROR_INVALID_OPTION] = "NVRTC_ERROR_INVALID_OPTION",
        [NVRTC_ERROR_COMPILATION] = "NVRTC_ERROR_COMPILATION",
        [NVRTC_ERROR_BUILTIN_OPERATION_FAILURE] = "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
        [NVRTC_ERROR_INTERNAL_ERROR] = "NVRTC_ERROR_INTERNAL_ERROR"};
    bool known = (size_t)status < sizeof names / sizeof *names && names[status];
    return known ? names[status] : "NVRTC_ERROR unknown";
}

CUDA_ON_CPU_API nvrtcResult nvrtcVersion(int *major, int *minor) {
    CALL("nvrtcVersion");
    *major = CUDA_ON_CPU_MAJOR, *minor = 0;
    return NVRTC_SUCCESS;
}

// Version 13 begins with Turing, version 12 with Maxwell.
static const int architectures[] = {
#if CUDA_ON_CPU_MAJOR < 13
    50,  52,  53,  60,  61,  62, 70, 72,
#endif
    75,  80,  86,  87,  89,  90,
#if CUDA_ON_CPU_MAJOR >= 13
    100, 103, 110, 120, 121,
#endif
};

CUDA_ON_CPU_API nvrtcResult nvrtcGetNumSupportedArchs(int *out) {
    CALL("nvrtcGetNumSupportedArchs");
    *out = sizeof architectures / sizeof *architectures;
    return NVRTC_SUCCESS;
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetSupportedArchs(int *out) {
    CALL("nvrtcGetSupportedArchs");
    memcpy(out, architectures, sizeof architectures);
    return NVRTC_SUCCESS;
}

CUDA_ON_CPU_API nvrtcResult nvrtcCreateProgram(nvrtcProgram *out, const char *source,
                                               const char *name, int headers,
                                               const char *const *header,
                                               const char *const *names) {
    CALL("nvrtcCreateProgram");
    if (headers || header || names) {
        cuda_on_cpu_complain("nvrtcCreateProgram", "headers are not played here");
        return NVRTC_ERROR_INVALID_INPUT;
    }
    nvrtcProgram p = calloc(1, sizeof *p);
    *p = (struct _nvrtcProgram){.magic = alive, .source = strdup(source), .name = strdup(name)};
    *out = p;
    return NVRTC_SUCCESS;
}

CUDA_ON_CPU_API nvrtcResult nvrtcDestroyProgram(nvrtcProgram *handle) {
    CALL_OF("nvrtcDestroyProgram", *handle);
    nvrtcProgram p = *handle;
    free(p->source), free(p->name), free(p->log), free(p->assembler), free(p->image);
    p->magic = gone;
    free(p);
    *handle = NULL;
    return NVRTC_SUCCESS;
}

CUDA_ON_CPU_API nvrtcResult nvrtcCompileProgram(nvrtcProgram p, int options,
                                                const char *const *option) {
    CALL_OF("nvrtcCompileProgram", p);
    option_list given = {.options = 0};
    if (options > MOST_OPTIONS) return NVRTC_ERROR_INVALID_OPTION;
    for (int i = 0; i < options; i++)
        if (!take_option(option[i], &given)) return NVRTC_ERROR_INVALID_OPTION;
    nvrtcResult status = compile_with_real(p, options, option);
    return status ? status : compile_for_host(p, &given);
}

static nvrtcResult image_size(nvrtcProgram p, size_t *out) {
    *out = p->image_bytes;
    return p->image ? NVRTC_SUCCESS : NVRTC_ERROR_INVALID_PROGRAM;
}

static nvrtcResult image_copy(nvrtcProgram p, char *out) {
    if (!p->image) return NVRTC_ERROR_INVALID_PROGRAM;
    memcpy(out, p->image, p->image_bytes);
    return NVRTC_SUCCESS;
}

// One image stands for both forms.
CUDA_ON_CPU_API nvrtcResult nvrtcGetCUBINSize(nvrtcProgram p, size_t *out) {
    CALL_OF("nvrtcGetCUBINSize", p);
    return image_size(p, out);
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetCUBIN(nvrtcProgram p, char *out) {
    CALL_OF("nvrtcGetCUBIN", p);
    return image_copy(p, out);
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetPTXSize(nvrtcProgram p, size_t *out) {
    CALL_OF("nvrtcGetPTXSize", p);
    return image_size(p, out);
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetPTX(nvrtcProgram p, char *out) {
    CALL_OF("nvrtcGetPTX", p);
    return image_copy(p, out);
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram p, size_t *out) {
    CALL_OF("nvrtcGetProgramLogSize", p);
    *out = (p->log ? strlen(p->log) : 0) + 1;
    return NVRTC_SUCCESS;
}

CUDA_ON_CPU_API nvrtcResult nvrtcGetProgramLog(nvrtcProgram p, char *out) {
    CALL_OF("nvrtcGetProgramLog", p);
    strcpy(out, p->log ? p->log : "");
    return NVRTC_SUCCESS;
}
