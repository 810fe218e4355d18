#include "backends/opencl/driver.h"

static const dynlib_symbol symbols[] = {
#define X(name) DYNLIB_REQUIRED(opencl_driver, name),
    OPENCL_FUNCTIONS(X)
#undef X
};
static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so", NULL};
static const dynlib_table table = {"OpenCL", names, symbols, sizeof symbols / sizeof *symbols};

bool opencl_driver_open(opencl_driver *cl, brim_error *err) {
    dynlib library;
    if (!dynlib_open(&library, &table, cl, err)) return false;
    cl->library = library;
    return true;
}

void opencl_driver_close(opencl_driver *cl) {
    dynlib_close(&cl->library);
}

#define STATUS_LIST(X)                                                                             \
    X(CL_SUCCESS)                                                                                  \
    X(CL_DEVICE_NOT_FOUND)                                                                         \
    X(CL_DEVICE_NOT_AVAILABLE)                                                                     \
    X(CL_COMPILER_NOT_AVAILABLE)                                                                   \
    X(CL_MEM_OBJECT_ALLOCATION_FAILURE)                                                            \
    X(CL_OUT_OF_RESOURCES)                                                                         \
    X(CL_OUT_OF_HOST_MEMORY)                                                                       \
    X(CL_PROFILING_INFO_NOT_AVAILABLE)                                                             \
    X(CL_MEM_COPY_OVERLAP)                                                                         \
    X(CL_BUILD_PROGRAM_FAILURE)                                                                    \
    X(CL_MAP_FAILURE)                                                                              \
    X(CL_MISALIGNED_SUB_BUFFER_OFFSET)                                                             \
    X(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)                                                \
    X(CL_INVALID_VALUE)                                                                            \
    X(CL_INVALID_DEVICE_TYPE)                                                                      \
    X(CL_INVALID_PLATFORM)                                                                         \
    X(CL_INVALID_DEVICE)                                                                           \
    X(CL_INVALID_CONTEXT)                                                                          \
    X(CL_INVALID_QUEUE_PROPERTIES)                                                                 \
    X(CL_INVALID_COMMAND_QUEUE)                                                                    \
    X(CL_INVALID_HOST_PTR)                                                                         \
    X(CL_INVALID_MEM_OBJECT)                                                                       \
    X(CL_INVALID_BINARY)                                                                           \
    X(CL_INVALID_BUILD_OPTIONS)                                                                    \
    X(CL_INVALID_PROGRAM)                                                                          \
    X(CL_INVALID_PROGRAM_EXECUTABLE)                                                               \
    X(CL_INVALID_KERNEL_NAME)                                                                      \
    X(CL_INVALID_KERNEL_DEFINITION)                                                                \
    X(CL_INVALID_KERNEL)                                                                           \
    X(CL_INVALID_ARG_INDEX)                                                                        \
    X(CL_INVALID_ARG_VALUE)                                                                        \
    X(CL_INVALID_ARG_SIZE)                                                                         \
    X(CL_INVALID_KERNEL_ARGS)                                                                      \
    X(CL_INVALID_WORK_DIMENSION)                                                                   \
    X(CL_INVALID_WORK_GROUP_SIZE)                                                                  \
    X(CL_INVALID_WORK_ITEM_SIZE)                                                                   \
    X(CL_INVALID_GLOBAL_OFFSET)                                                                    \
    X(CL_INVALID_EVENT_WAIT_LIST)                                                                  \
    X(CL_INVALID_EVENT)                                                                            \
    X(CL_INVALID_OPERATION)                                                                        \
    X(CL_INVALID_BUFFER_SIZE)                                                                      \
    X(CL_INVALID_GLOBAL_WORK_SIZE)                                                                 \
    X(CL_INVALID_PROPERTY)

const char *opencl_status_name(cl_int status) {
    static const struct {
        cl_int status;
        const char *name;
    } list[] = {
#define X(name) {name, #name},
        STATUS_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].status == status) return list[i].name;
    }
    return "unknown code";
}

bool opencl_check(cl_int status, const char *call, brim_error *err) {
    if (status == CL_SUCCESS) return true;
    bool memory = status == CL_MEM_OBJECT_ALLOCATION_FAILURE || status == CL_OUT_OF_HOST_MEMORY;
    brim_fail(err, memory ? BRIM_MEMORY : BRIM_DEVICE, "OpenCL: %s failed with %s (%d)", call,
              opencl_status_name(status), (int)status);
    return false;
}
