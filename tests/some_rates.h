// Machines for plans in tests: they must not depend on how busy the real one is.
#ifndef BRIM_TESTS_SOME_RATES_H
#define BRIM_TESTS_SOME_RATES_H

#include <brim/device.h>

static const brim_rates some_rates = {.memory = 20e9,
                                      .matmul_16 = 50e9,
                                      .matmul_32 = 100e9,
                                      .link_in = 8e9,
                                      .link_out = 8e9,
                                      .link_both = 12e9,
                                      .host = 15e9,
                                      .disk_read = 1e9,
                                      .disk_write = 5e8,
                                      .launch = 5e-6};

// A card that is not there.
static const brim_rates some_card = {.name = "some card",
                                     .memory_bytes = 8ll << 30,
                                     .memory = 300e9,
                                     .matmul_16 = 30e12,
                                     .matmul_32 = 10e12,
                                     .link_in = 12e9,
                                     .link_out = 12e9,
                                     .link_both = 20e9,
                                     .host = 30e9,
                                     .launch = 4e-6};

#endif
