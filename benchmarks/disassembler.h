// nvdisasm (PyPI: nvidia-cuda-nvdisasm, or the CUDA toolkit), run as a program.
#ifndef BRIM_BENCHMARKS_DISASSEMBLER_H
#define BRIM_BENCHMARKS_DISASSEMBLER_H

#include "core/error.h"

// True if the tool can be started: a path, or a name that PATH finds.
bool disassembler_found(const char *tool);

// The listing of a cubin's code, freed with free(). NULL on error, with the tool's first line.
char *disassemble(const char *tool, const char *cubin_path, brim_error *err);

#endif
