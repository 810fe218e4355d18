// Cards and models by name, for plans without either at hand. The tables are examples/data/*.def.
//
// They are compiled in rather than read: a program then works wherever it is copied to, and a table
// that is damaged or of another version cannot be.
#ifndef EXAMPLES_PRESETS_H
#define EXAMPLES_PRESETS_H

#include <brim/device.h>
#include "model.h"

typedef struct gpu_preset {
    const char *name, *title; // "rtx3060", "GeForce RTX 3060 12 GB"
    bool cuda;                // else OpenCL
    int64_t memory_mib;
    double memory_gb, tflops_16, tflops_32; // peak: GB/s, and dense TFLOP/s with sums in f32
    int pcie_generation, pcie_lanes, watts;
    const char *source; // letters; see examples/data/gpus.def
} gpu_preset;

// Presets in the table's order; NULL beyond the last.
const gpu_preset *gpu_preset_at(int index);
// NULL, with the names that there are, for another.
const gpu_preset *gpu_preset_find(const char *name, brim_error *err);

// What a planner should count on, of a card in a PC with two channels of DDR5.
brim_rates gpu_preset_rates(const gpu_preset *gpu);

typedef struct model_preset {
    const char *name, *repository; // "llama-8b", "meta-llama/Llama-3.1-8B"
    int64_t parameters;            // as published
    model_config config;
} model_preset;

const model_preset *model_preset_at(int index);
const model_preset *model_preset_find(const char *name, brim_error *err);

#endif
