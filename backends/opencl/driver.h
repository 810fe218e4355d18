// The functions of libOpenCL that the backend uses, opened at run time.
#ifndef BRIM_BACKENDS_OPENCL_DRIVER_H
#define BRIM_BACKENDS_OPENCL_DRIVER_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdbool.h>
#include "core/dynlib.h"
#include "core/error.h"

#define OPENCL_FUNCTIONS(X)                                                                        \
    X(clGetPlatformIDs)                                                                            \
    X(clGetPlatformInfo)                                                                           \
    X(clGetDeviceIDs)                                                                              \
    X(clGetDeviceInfo)                                                                             \
    X(clCreateContext)                                                                             \
    X(clReleaseContext)                                                                            \
    X(clCreateCommandQueue)                                                                        \
    X(clReleaseCommandQueue)                                                                       \
    X(clFlush)                                                                                     \
    X(clFinish)                                                                                    \
    X(clCreateBuffer)                                                                              \
    X(clCreateSubBuffer)                                                                           \
    X(clReleaseMemObject)                                                                          \
    X(clEnqueueMapBuffer)                                                                          \
    X(clEnqueueUnmapMemObject)                                                                     \
    X(clEnqueueReadBuffer)                                                                         \
    X(clEnqueueWriteBuffer)                                                                        \
    X(clEnqueueCopyBuffer)                                                                         \
    X(clEnqueueFillBuffer)                                                                         \
    X(clCreateProgramWithSource)                                                                   \
    X(clCreateProgramWithBinary)                                                                   \
    X(clBuildProgram)                                                                              \
    X(clGetProgramInfo)                                                                            \
    X(clGetProgramBuildInfo)                                                                       \
    X(clReleaseProgram)                                                                            \
    X(clCreateKernel)                                                                              \
    X(clReleaseKernel)                                                                             \
    X(clGetKernelInfo)                                                                             \
    X(clGetKernelWorkGroupInfo)                                                                    \
    X(clSetKernelArg)                                                                              \
    X(clEnqueueNDRangeKernel)                                                                      \
    X(clEnqueueNativeKernel)                                                                       \
    X(clEnqueueMarkerWithWaitList)                                                                 \
    X(clGetEventProfilingInfo)                                                                     \
    X(clWaitForEvents)                                                                             \
    X(clRetainEvent)                                                                               \
    X(clReleaseEvent)

typedef struct opencl_driver {
    dynlib library;
#define X(name) __typeof__(&name) name;
    OPENCL_FUNCTIONS(X)
#undef X
} opencl_driver;

bool opencl_driver_open(opencl_driver *cl, brim_error *err);
void opencl_driver_close(opencl_driver *cl);

// "CL_OUT_OF_RESOURCES", or "unknown code".
const char *opencl_status_name(cl_int status);

// True if status is CL_SUCCESS; else err says which call failed and how.
bool opencl_check(cl_int status, const char *call, brim_error *err);

#endif
