// The functions of libOpenCL that our objects ask dlsym for: counted, made to fail, and what they
// make noted, as the system's calls are. Waiting calls wait before they fail, so that what a device
// still does is over, as it is with one that is lost.
#include "tests/faults/faults.h"

#include <dlfcn.h>
#include <string.h>
#include "backends/opencl/driver.h"

static opencl_driver real;

#define CALLER __builtin_return_address(0)
#define STRIKES(name) faults_strike(FAULT_DRIVER, #name, CALLER)
#define TAKE(name, thing) faults_take(FAULT_DRIVER, #name, CALLER, (uintptr_t)(thing))
#define GIVE(thing) faults_give(FAULT_DRIVER, (uintptr_t)(thing))
enum { FAILURE = CL_OUT_OF_RESOURCES };

// ---- questions, and what is done at once --------------------------------------------------------

#define ASK(name, parameters, arguments)                                                           \
    static cl_int CL_API_CALL try_##name parameters {                                              \
        return STRIKES(name) ? FAILURE : real.name arguments;                                      \
    }
#define INFO(object, what) (object of, what kind, size_t size, void *value, size_t *size_ret)
#define INFO_OF_DEVICE(object, what)                                                               \
    (object of, cl_device_id id, what kind, size_t size, void *value, size_t *size_ret)

ASK(clGetPlatformIDs, (cl_uint room, cl_platform_id *list, cl_uint *count), (room, list, count))
ASK(clGetDeviceIDs,
    (cl_platform_id platform, cl_device_type type, cl_uint room, cl_device_id *list,
     cl_uint *count),
    (platform, type, room, list, count))
ASK(clGetPlatformInfo, INFO(cl_platform_id, cl_platform_info), (of, kind, size, value, size_ret))
ASK(clGetDeviceInfo, INFO(cl_device_id, cl_device_info), (of, kind, size, value, size_ret))
ASK(clGetProgramInfo, INFO(cl_program, cl_program_info), (of, kind, size, value, size_ret))
ASK(clGetKernelInfo, INFO(cl_kernel, cl_kernel_info), (of, kind, size, value, size_ret))
ASK(clGetEventProfilingInfo, INFO(cl_event, cl_profiling_info), (of, kind, size, value, size_ret))
ASK(clGetProgramBuildInfo, INFO_OF_DEVICE(cl_program, cl_program_build_info),
    (of, id, kind, size, value, size_ret))
ASK(clGetKernelWorkGroupInfo, INFO_OF_DEVICE(cl_kernel, cl_kernel_work_group_info),
    (of, id, kind, size, value, size_ret))
ASK(clBuildProgram,
    (cl_program program, cl_uint devices, const cl_device_id *device, const char *options,
     void(CL_CALLBACK *notify)(cl_program, void *), void *user),
    (program, devices, device, options, notify, user))
ASK(clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t size, const void *value),
    (kernel, index, size, value))

// ---- waiting ------------------------------------------------------------------------------------

#define AWAIT(name, parameters, arguments)                                                         \
    static cl_int CL_API_CALL try_##name parameters {                                              \
        cl_int status = real.name arguments;                                                       \
        return STRIKES(name) ? FAILURE : status;                                                   \
    }

AWAIT(clFlush, (cl_command_queue queue), (queue))
AWAIT(clFinish, (cl_command_queue queue), (queue))
AWAIT(clWaitForEvents, (cl_uint events, const cl_event *event), (events, event))

// ---- making and releasing -----------------------------------------------------------------------

#define MAKE(type, name, parameters, arguments)                                                    \
    static type CL_API_CALL try_##name parameters {                                                \
        type made = NULL;                                                                          \
        if (STRIKES(name)) {                                                                       \
            if (status) *status = FAILURE;                                                         \
        } else {                                                                                   \
            made = real.name arguments;                                                            \
        }                                                                                          \
        if (made) TAKE(name, made);                                                                \
        return made;                                                                               \
    }

MAKE(cl_context, clCreateContext,
     (const cl_context_properties *properties, cl_uint devices, const cl_device_id *device,
      void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user,
      cl_int *status),
     (properties, devices, device, notify, user, status))
MAKE(cl_command_queue, clCreateCommandQueue,
     (cl_context context, cl_device_id device, cl_command_queue_properties properties,
      cl_int *status),
     (context, device, properties, status))
MAKE(cl_mem, clCreateBuffer,
     (cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *status),
     (context, flags, size, host, status))
MAKE(cl_mem, clCreateSubBuffer,
     (cl_mem buffer, cl_mem_flags flags, cl_buffer_create_type type, const void *region,
      cl_int *status),
     (buffer, flags, type, region, status))
MAKE(cl_program, clCreateProgramWithSource,
     (cl_context context, cl_uint parts, const char **part, const size_t *length, cl_int *status),
     (context, parts, part, length, status))
MAKE(cl_program, clCreateProgramWithBinary,
     (cl_context context, cl_uint devices, const cl_device_id *device, const size_t *length,
      const unsigned char **binary, cl_int *loaded, cl_int *status),
     (context, devices, device, length, binary, loaded, status))
MAKE(cl_kernel, clCreateKernel, (cl_program program, const char *kernel, cl_int *status),
     (program, kernel, status))

// Released in any case.
#define RELEASE(name, type)                                                                        \
    static cl_int CL_API_CALL try_##name(type thing) {                                             \
        GIVE(thing);                                                                               \
        cl_int status = real.name(thing);                                                          \
        return STRIKES(name) ? FAILURE : status;                                                   \
    }

RELEASE(clReleaseContext, cl_context)
RELEASE(clReleaseCommandQueue, cl_command_queue)
RELEASE(clReleaseMemObject, cl_mem)
RELEASE(clReleaseProgram, cl_program)
RELEASE(clReleaseKernel, cl_kernel)
RELEASE(clReleaseEvent, cl_event)

static cl_int CL_API_CALL try_clRetainEvent(cl_event event) {
    if (STRIKES(clRetainEvent)) return FAILURE;
    TAKE(clRetainEvent, event);
    return real.clRetainEvent(event);
}

// ---- commands -----------------------------------------------------------------------------------

#define ENQUEUE(name, parameters, arguments)                                                       \
    static cl_int CL_API_CALL try_##name parameters {                                              \
        if (STRIKES(name)) return FAILURE;                                                         \
        cl_int status = real.name arguments;                                                       \
        if (status == CL_SUCCESS && event) TAKE(name, *event);                                     \
        return status;                                                                             \
    }
#define AFTER cl_uint waits, const cl_event *wait, cl_event *event

ENQUEUE(clEnqueueReadBuffer,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,
         void *to, AFTER),
        (queue, buffer, blocking, offset, size, to, waits, wait, event))
ENQUEUE(clEnqueueWriteBuffer,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,
         const void *from, AFTER),
        (queue, buffer, blocking, offset, size, from, waits, wait, event))
ENQUEUE(clEnqueueCopyBuffer,
        (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_at, size_t to_at, size_t size,
         AFTER),
        (queue, from, to, from_at, to_at, size, waits, wait, event))
ENQUEUE(clEnqueueFillBuffer,
        (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size,
         size_t offset, size_t size, AFTER),
        (queue, buffer, pattern, pattern_size, offset, size, waits, wait, event))
ENQUEUE(clEnqueueNDRangeKernel,
        (cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
         const size_t *global, const size_t *local, AFTER),
        (queue, kernel, dims, offset, global, local, waits, wait, event))
ENQUEUE(clEnqueueNativeKernel,
        (cl_command_queue queue, void(CL_CALLBACK *function)(void *), void *arguments, size_t size,
         cl_uint objects, const cl_mem *object, const void **location, AFTER),
        (queue, function, arguments, size, objects, object, location, waits, wait, event))
ENQUEUE(clEnqueueMarkerWithWaitList, (cl_command_queue queue, AFTER), (queue, waits, wait, event))
ENQUEUE(clEnqueueUnmapMemObject, (cl_command_queue queue, cl_mem buffer, void *mapped, AFTER),
        (queue, buffer, mapped, waits, wait, event))

static void *CL_API_CALL try_clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer,
                                                cl_bool blocking, cl_map_flags flags, size_t offset,
                                                size_t size, AFTER, cl_int *status) {
    if (STRIKES(clEnqueueMapBuffer)) {
        if (status) *status = FAILURE;
        return NULL;
    }
    void *mapped = real.clEnqueueMapBuffer(queue, buffer, blocking, flags, offset, size, waits,
                                           wait, event, status);
    if (mapped && event) TAKE(clEnqueueMapBuffer, *event);
    return mapped;
}

// ---- dlsym --------------------------------------------------------------------------------------

void *__real_dlsym(void *library, const char *name);
void *__wrap_dlsym(void *library, const char *name);

void *__wrap_dlsym(void *library, const char *name) {
    void *found = __real_dlsym(library, name), *tried = found;
#define X(call)                                                                                    \
    if (found && strcmp(name, #call) == 0) {                                                       \
        memcpy(&real.call, &found, sizeof found);                                                  \
        __typeof__(&call) one = try_##call;                                                        \
        memcpy(&tried, &one, sizeof one);                                                          \
    }
    OPENCL_FUNCTIONS(X)
#undef X
    return tried;
}
