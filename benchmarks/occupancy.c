#include "benchmarks/occupancy.h"

#include <stddef.h>

enum { WARP = 32, PARTITIONS = 4, REGISTER_UNIT = 256 };

// CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability" (warps,
// groups and shared memory of a multiprocessor, registers); the units of allocation and what the
// system keeps of each group's shared memory are those of cuda_occupancy.h (CUDA 13.0).
typedef struct multiprocessor {
    int architecture, warps, groups, registers, shared_bytes, shared_unit, shared_kept;
} multiprocessor;
static const multiprocessor table[] = {
    {75, 32, 16, 65536, 64 << 10, 256, 0},     {80, 64, 32, 65536, 164 << 10, 128, 1024},
    {86, 48, 16, 65536, 100 << 10, 128, 1024}, {89, 48, 24, 65536, 100 << 10, 128, 1024},
    {90, 64, 32, 65536, 228 << 10, 128, 1024}, {120, 48, 24, 65536, 100 << 10, 128, 1024},
};
enum { ARCHITECTURES = sizeof table / sizeof *table };

int occupancy_architecture(int index) {
    return index < ARCHITECTURES ? table[index].architecture : 0;
}

static int round_up(int x, int unit) {
    return (x + unit - 1) / unit * unit;
}

// Registers belong to a quarter of the multiprocessor, and are given to warps in units.
static int groups_by_registers(const multiprocessor *m, int registers, int warps) {
    int of_warp = round_up(registers * WARP, REGISTER_UNIT);
    if (of_warp * round_up(warps, PARTITIONS) > m->registers) return 0;
    return m->registers / PARTITIONS / of_warp * PARTITIONS / warps;
}

static int groups_by_shared(const multiprocessor *m, int bytes) {
    int of_group = round_up(bytes + m->shared_kept, m->shared_unit);
    return of_group ? m->shared_bytes / of_group : m->groups;
}

bool occupancy_of(int architecture, int threads, int registers, int shared_bytes, occupancy *out) {
    const multiprocessor *m = NULL;
    for (int i = 0; i < ARCHITECTURES; i++)
        if (table[i].architecture == architecture) m = &table[i];
    if (!m || threads < 1 || registers < 1) return false;
    int warps = round_up(threads, WARP) / WARP;
    const struct {
        const char *name;
        int groups;
    } limit[] = {{"warps", m->warps / warps},
                 {"groups", m->groups},
                 {"registers", groups_by_registers(m, registers, warps)},
                 {"shared", groups_by_shared(m, shared_bytes)}};
    *out = (occupancy){.groups = limit[0].groups, .most_warps = m->warps, .limit = limit[0].name};
    for (size_t i = 1; i < sizeof limit / sizeof *limit; i++) {
        if (limit[i].groups >= out->groups) continue;
        out->groups = limit[i].groups;
        out->limit = limit[i].name;
    }
    out->warps = out->groups * warps;
    return true;
}
