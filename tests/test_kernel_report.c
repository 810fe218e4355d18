// What benchmarks/kernel_report is made of: the formula for occupancy, the compiler's log, and the
// loops of a listing.
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "benchmarks/occupancy.h"
#include "benchmarks/ptxas_log.h"
#include "benchmarks/sass.h"
#include "tests/skips.h"
#include "tests/test_core.h"

#ifdef BRIM_CUDA_BUILT
#include "backends/cuda/device.h"
#include "backends/kernel_source.h"
#if __has_include(<cuda_occupancy.h>)
#include <cuda_occupancy.h>
#define CALCULATOR 1
#endif
#endif

// ---- occupancy ----------------------------------------------------------------------------------

// By hand, from the Programming Guide's table.
START_TEST(occupancy_by_hand) {
    static const struct {
        int architecture, threads, registers, shared, groups, warps;
        const char *limit;
    } cases[] = {
        {90, 256, 32, 0, 8, 64, "warps"},      {86, 64, 16, 0, 16, 32, "groups"},
        {89, 64, 16, 0, 24, 48, "warps"},      {75, 256, 255, 0, 1, 8, "registers"},
        {80, 128, 140, 0, 3, 12, "registers"}, {86, 128, 32, 28160, 3, 12, "shared"},
        {75, 128, 32, 28160, 2, 8, "shared"},  {120, 256, 40, 0, 6, 48, "warps"},
        {90, 1024, 65, 0, 0, 0, "registers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        occupancy o;
        ck_assert(occupancy_of(cases[i].architecture, cases[i].threads, cases[i].registers,
                               cases[i].shared, &o));
        ck_assert_int_eq(o.groups, cases[i].groups);
        ck_assert_int_eq(o.warps, cases[i].warps);
        ck_assert_str_eq(o.limit, cases[i].limit);
    }
    ck_assert(!occupancy_of(35, 64, 16, 0, &(occupancy){0}));
}
END_TEST

#ifdef CALCULATOR
// Of the calculator's own table of properties: what the driver would tell.
static cudaOccDeviceProp properties_of(int architecture) {
    static const struct {
        int architecture, threads, kib, optin_kib, kept;
    } told[] = {{75, 1024, 64, 64, 0},     {80, 2048, 164, 163, 1024}, {86, 1536, 100, 99, 1024},
                {89, 1536, 100, 99, 1024}, {90, 2048, 228, 227, 1024}, {120, 1536, 100, 99, 1024}};
    cudaOccDeviceProp p = {.computeMajor = architecture / 10,
                           .computeMinor = architecture % 10,
                           .maxThreadsPerBlock = 1024,
                           .regsPerBlock = 65536,
                           .regsPerMultiprocessor = 65536,
                           .warpSize = 32,
                           .sharedMemPerBlock = 48 << 10,
                           .numSms = 1};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (told[i].architecture != architecture) continue;
        p.maxThreadsPerMultiprocessor = told[i].threads;
        p.sharedMemPerMultiprocessor = (size_t)told[i].kib << 10;
        p.sharedMemPerBlockOptin = (size_t)told[i].optin_kib << 10;
        p.reservedSharedMemPerBlock = (size_t)told[i].kept;
    }
    return p;
}

static void compare_occupancy(int architecture, int threads, int registers, int shared) {
    cudaOccDeviceProp device = properties_of(architecture);
    cudaOccFuncAttributes function = {.maxThreadsPerBlock = 1024,
                                      .numRegs = registers,
                                      .sharedSizeBytes = (size_t)shared,
                                      .partitionedGCConfig = PARTITIONED_GC_OFF};
    cudaOccDeviceState state = {.cacheConfig = CACHE_PREFER_SHARED,
                                .carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED};
    cudaOccResult expected;
    occupancy o;
    ASSERT_QUICKLY(cudaOccMaxActiveBlocksPerMultiprocessor(&expected, &device, &function, &state,
                                                           threads, 0) == CUDA_OCC_SUCCESS);
    ASSERT_QUICKLY(occupancy_of(architecture, threads, registers, shared, &o));
    if (o.groups != expected.activeBlocksPerMultiprocessor)
        ck_abort_msg("sm_%d, %d threads, %d registers, %d bytes: %d groups, the calculator says %d",
                     architecture, threads, registers, shared, o.groups,
                     expected.activeBlocksPerMultiprocessor);
}

START_TEST(occupancy_is_the_calculators) {
    static const int shared[] = {0, 1, 1024, 8192, 28160, 30208, 48 << 10};
    for (int a = 0; occupancy_architecture(a); a++)
        for (int threads = 32; threads <= 1024; threads *= 2)
            for (int registers = 16; registers <= 255; registers++)
                for (size_t s = 0; s < sizeof shared / sizeof *shared; s++)
                    compare_occupancy(occupancy_architecture(a), threads, registers, shared[s]);
}
END_TEST
#endif

// ---- the compiler's log -------------------------------------------------------------------------

START_TEST(log_of_several_entries) {
    static const char log[] =
        "ptxas info    : 24 bytes gmem, 8 bytes cmem[4]\n"
        "ptxas info    : Compiling entry function 'sum_all' for 'sm_75'\n"
        "ptxas info    : Function properties for sum_all\n"
        "ptxas         .     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 26 registers, used 1 barriers, 1024 bytes smem, 372 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'sum' for 'sm_75'\n"
        "ptxas info    : Function properties for sum\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 255 registers, 400 bytes cmem[0]\n";
    kernel_resources r;
    ck_assert(ptxas_log_find(log, "sum", &r));
    ck_assert_int_eq(r.registers, 255);
    ck_assert_int_eq(r.shared_bytes, 0);
    ck_assert_int_eq(r.stack_bytes, 0);
    ck_assert(ptxas_log_find(log, "sum_all", &r));
    ck_assert_int_eq(r.registers, 26);
    ck_assert_int_eq(r.shared_bytes, 1024);
    ck_assert_int_eq(r.stack_bytes, 8);
    ck_assert_int_eq(r.spill_stores, 4);
    ck_assert_int_eq(r.spill_loads, 12);
    ck_assert(!ptxas_log_find(log, "su", &r));
    ck_assert(!ptxas_log_find(NULL, "sum", &r));
    ck_assert(!ptxas_log_find("ptxas info : Function properties for sum\n", "sum", &r));
}
END_TEST

// ---- listings -----------------------------------------------------------------------------------

// A loop in a loop; a jump back from cold code, which is none; the trap behind the end.
static const char listing_text[] =
    "\t.target\tsm_90\n"
    "\t.section\t.text.twice,\"ax\",@progbits\n"
    "twice:\n"
    ".text.twice:\n"
    "        /*0000*/                   LDC R1, c[0x0][0x28] ;\n"
    ".L_x_0:\n"
    "        /*0010*/                   LDG.E.128 R4, desc[UR6][R6.64] ;\n"
    "        /*0020*/              @!P0 BRA `(.L_x_3) ;\n"
    ".L_x_1:\n"
    "        /*0030*/                   LDS.U.64 R8, [R2] ;\n"
    "        /*0040*/                   FFMA R4, R4, R8, R9 ;\n"
    "        /*0050*/                   IMAD.MOV.U32 R2, RZ, RZ, R0 ;\n"
    "        /*0060*/                   IADD3 R2, R2, 0x1, RZ ;\n"
    "        /*0070*/              @P1 BRA `(.L_x_1) ;\n"
    ".L_x_2:\n"
    "        /*0080*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;\n"
    "        /*0090*/                   STG.E.U16 desc[UR6][R10.64], R4 ;\n"
    "        /*00a0*/                   BRA.U UP0, `(.L_x_0) ;\n"
    "        /*00b0*/                   EXIT ;\n"
    ".L_x_3:\n"
    "        /*00c0*/                   STL [R1], R4 ;\n"
    "        /*00d0*/                   BRA `(.L_x_2) ;\n"
    ".L_x_4:\n"
    "        /*00e0*/                   BRA `(.L_x_4);\n"
    "\t.section\t.text.once,\"ax\",@progbits\n"
    "once:\n"
    ".text.once:\n"
    "        /*0000*/               @P0 LDG.E.CONSTANT R2, desc[UR4][R2.64] ;\n"
    "        /*0010*/                   LDGSTS.E.BYPASS.128 [R3], desc[UR4][R4.64] ;\n"
    "        /*0020*/                   HMMA.16816.F32 R4, R8, R10, R4 ;\n"
    "        /*0030*/                   EXIT ;\n";

START_TEST(loops_of_a_listing) {
    brim_error err = {0};
    arena memory = {0};
    sass_listing listing;
    ck_assert_int_eq(sass_parse(listing_text, &memory, &listing, &err), BRIM_OK);
    ck_assert_int_eq(listing.kernels, 2);
    const sass_kernel *k = sass_find(&listing, "twice");
    ck_assert_ptr_nonnull(k);
    ck_assert_int_eq(k->whole.instructions, 15);
    ck_assert_int_eq(k->whole.stores[SASS_LOCAL][2], 1);
    ck_assert_int_eq(k->loops, 2);
    const sass_loop *inner = &k->loop[k->loop[0].innermost ? 0 : 1];
    const sass_loop *outer = &k->loop[k->loop[0].innermost ? 1 : 0];
    ck_assert(inner->innermost && !outer->innermost);
    ck_assert_int_eq(inner->depth, 2);
    ck_assert_int_eq(inner->first, 3);
    ck_assert_int_eq(inner->count.instructions, 5);
    ck_assert_int_eq(inner->count.fma, 1);
    ck_assert_int_eq(inner->count.integer, 1);
    ck_assert_int_eq(inner->count.loads[SASS_SHARED][3], 1);
    ck_assert_int_eq(inner->count.barrier, 0);
    ck_assert_int_eq(outer->depth, 1);
    ck_assert_int_eq(outer->first, 1);
    ck_assert_int_eq(outer->count.instructions, 12); // the cold code comes back into it
    ck_assert_int_eq(outer->count.barrier, 1);
    ck_assert_int_eq(outer->count.loads[SASS_GLOBAL][4], 1);
    ck_assert_int_eq(outer->count.stores[SASS_GLOBAL][1], 1);

    k = sass_find(&listing, "once");
    ck_assert_ptr_nonnull(k);
    ck_assert_int_eq(k->loops, 0);
    ck_assert_int_eq(k->whole.loads[SASS_GLOBAL][2], 1);
    ck_assert_int_eq(k->whole.loads[SASS_GLOBAL][4], 1);
    ck_assert_int_eq(k->whole.stores[SASS_SHARED][4], 1);
    ck_assert_int_eq(k->whole.matrix, 1);
    ck_assert_ptr_null(sass_find(&listing, "on"));

    sass_parse("nvdisasm fatal   : not an Elf file", &memory, &listing, &err);
    ASSERT_FAILS(err, BRIM_FORMAT, "no kernel");
    arena_free(&memory);
}
END_TEST

// ---- a kernel -----------------------------------------------------------------------------------

#ifdef BRIM_CUDA_BUILT
START_TEST(resources_of_a_kernel) {
    brim_error err = {0};
    cuda_compiler nvrtc;
    if (!cuda_compiler_open(&nvrtc, 0, 90, &err)) {
        skip(SKIP_no_nvrtc);
        return;
    }
    kernel_spec spec = {.name = "softmax",
                        .file = "softmax.k",
                        .source = kernel_source_find("softmax.k"),
                        .defines = "-DVEC=4 -DGROUP=64 -DTX=f32 -DTY=f32 -DLOGARITHM=0 "
                                   "-DKEEP_POWERS=1 -DALIGNED=1",
                        .group = 64};
    cuda_image image;
    kernel_resources r;
    snprintf(nvrtc.architecture, sizeof nvrtc.architecture, "sm_90");
    cuda_compile(&nvrtc, &spec, true, &image, &err);
    ASSERT_FINE(err);
    ck_assert(ptxas_log_find(image.log, "softmax", &r));
    ck_assert_int_gt(r.registers, 16);
    ck_assert_int_le(r.registers, 255);
    ck_assert_int_eq(r.shared_bytes, 64 * 4);
    ck_assert_int_eq(r.stack_bytes, 0);
    free(image.data);
    free(image.log);
    cuda_compiler_close(&nvrtc);
}
END_TEST
#else
START_TEST(resources_of_a_kernel) {
    skip(SKIP_no_cuda_headers);
}
END_TEST
#endif

Suite *kernel_report_suite(void) {
    Suite *suite = suite_create("kernel_report");
    TCase *all = tcase_create("parts");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, occupancy_by_hand);
#ifdef CALCULATOR
    tcase_add_test(all, occupancy_is_the_calculators);
#endif
    tcase_add_test(all, log_of_several_entries);
    tcase_add_test(all, loops_of_a_listing);
    tcase_add_test(all, resources_of_a_kernel);
    suite_add_tcase(suite, all);
    return suite;
}
