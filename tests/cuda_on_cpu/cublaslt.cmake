# cuBLASLt on the CPU: libcublasLt.so.13 and .12 from the same sources. Included by CMakeLists.txt beside it, which has
# add_stand_in and the target cuda_on_cpu (libcuda.so.1).
set(CUBLASLT_ON_CPU_SOURCES)
foreach(part "" _algorithms _objects _operands _problem _product)
    list(APPEND CUBLASLT_ON_CPU_SOURCES ${CMAKE_CURRENT_LIST_DIR}/cublaslt${part}.c)
endforeach()
# Optimised in every kind of build: nearly all of its time is spent there.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/cublaslt_product.c PROPERTIES COMPILE_OPTIONS -O3)

foreach(version 120901 130100) # as cublasLtGetVersion reports
    string(SUBSTRING ${version} 0 2 major)
    add_stand_in(cuda_on_cpu_cublaslt_${major} libcublasLt.so.${major} ${CUBLASLT_ON_CPU_SOURCES})
    target_compile_definitions(cuda_on_cpu_cublaslt_${major} PRIVATE CUBLASLT_ON_CPU_VERSION=${version})
    target_link_libraries(cuda_on_cpu_cublaslt_${major} PRIVATE cuda_on_cpu)
endforeach()
