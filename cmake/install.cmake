# What `cmake --install` puts where: the library, its headers, what find_package and pkg-config read, and the programs.
include(CMakePackageConfigHelpers)

install(TARGETS brim EXPORT brimTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/brim DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES examples/mlp.c examples/tensors.c DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(TARGETS devices plan train_gpt selftest RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

set(BRIM_CMAKE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/brim)
install(EXPORT brimTargets NAMESPACE brim:: DESTINATION ${BRIM_CMAKE_FOLDER})
configure_package_config_file(cmake/brimConfig.cmake.in ${CMAKE_BINARY_DIR}/brimConfig.cmake
                              INSTALL_DESTINATION ${BRIM_CMAKE_FOLDER})
# Before 1.0 a minor version may change the API.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/brimConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/brimConfig.cmake ${CMAKE_BINARY_DIR}/brimConfigVersion.cmake
        DESTINATION ${BRIM_CMAKE_FOLDER})

# brim.pc says where it is relative to itself, since the prefix may first be known when `cmake --install` is run.
set(BRIM_PC_FOLDER ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
    set(BRIM_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
    file(RELATIVE_PATH BRIM_PC_PREFIX /prefix/${BRIM_PC_FOLDER} /prefix)
    string(REGEX REPLACE "/$" "" BRIM_PC_PREFIX "\${pcfiledir}/${BRIM_PC_PREFIX}")
endif()
foreach(kind LIB INCLUDE)
    if(IS_ABSOLUTE ${CMAKE_INSTALL_${kind}DIR})
        set(BRIM_PC_${kind} ${CMAKE_INSTALL_${kind}DIR})
    else()
        set(BRIM_PC_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}DIR}")
    endif()
endforeach()
configure_file(cmake/brim.pc.in ${CMAKE_BINARY_DIR}/brim.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/brim.pc DESTINATION ${BRIM_PC_FOLDER})
