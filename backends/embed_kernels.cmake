# Writes a C file that holds the text of kernel files (see kernel_source.h).
#   cmake -DOUTPUT=kernel_source.c "-DFILES=a.k;b.h" -P embed_kernels.cmake
# Arrays of numbers, since a compiler need not take string literals beyond 4095 characters.
set(arrays "")
set(rows "")
set(index 0)
foreach(file IN LISTS FILES)
    get_filename_component(name ${file} NAME)
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const unsigned char text_${index}[] = {\n${bytes}0};\n")
    string(APPEND rows "    {\"${name}\", text_${index}},\n")
    math(EXPR index "${index} + 1")
endforeach()
file(WRITE ${OUTPUT}.new "// Made by embed_kernels.cmake from backends/kernels; not to be edited.
#include \"backends/kernel_source.h\"
#include <stddef.h>
#include <string.h>

${arrays}
static const struct { const char *name; const unsigned char *text; } files[] = {
${rows}};

const char *kernel_source_find(const char *name) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(files[i].name, name)) return (const char *)files[i].text;
    return NULL;
}
")
file(RENAME ${OUTPUT}.new ${OUTPUT})
