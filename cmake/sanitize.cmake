# Sanitizers for everything that is built (tests/sanitize.sh runs it). What they find ends the process.
if(BRIM_SANITIZE STREQUAL "address")
    # gcc counts casts of floats that do not fit as no part of "undefined".
    set(SANITIZERS -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all)
elseif(BRIM_SANITIZE STREQUAL "thread")
    set(SANITIZERS -fsanitize=thread)
elseif(BRIM_SANITIZE)
    message(FATAL_ERROR "BRIM_SANITIZE is \"${BRIM_SANITIZE}\"; expected address, thread or nothing")
endif()
if(BRIM_SANITIZE)
    add_compile_options(${SANITIZERS} -g1 -fno-omit-frame-pointer) # lines are enough
    add_link_options(${SANITIZERS})
endif()
