// Work that takes more than one launch, on devices that are not there: sums in blocks, products in
// parts, sorted positions; and what a step's staging area may not be.
#include "tests/lower_launches.h"

// ---- sums ---------------------------------------------------------------------------------------

// A stage: the kernel of reduce.k, its grid, and the block and how many there are (0 where the
// kernel has no blocks).
typedef struct stage {
    const char *kernel;
    int64_t x, y, block, blocks;
} stage;

typedef struct sum {
    const device_traits *traits;
    int64_t dim[3];
    int rank, axis;
    stage stages[3];
} sum;

// Blocks and further stages over them follow from shapes alone; rows of a GPU that are short have
// one work-item each.
START_TEST(sums_in_stages) {
    static const sum sums[] = {
        {&gpu, {3, 16384}, 2, 1, {{"reduce_rows", 3, 1, 16384, 1}}},
        {&gpu, {3, 16385}, 2, 1, {{"reduce_rows", 9, 1, 8192, 3}, {"reduce_items", 1, 1, 0, 0}}},
        {&gpu,
         {2, 8192 * 16385ll},
         2,
         1,
         {{"reduce_rows", 32770, 1, 8192, 16385},
          {"reduce_rows", 6, 1, 8192, 3},
          {"reduce_items", 1, 1, 0, 0}}},
        {&gpu, {300, 31}, 2, 1, {{"reduce_items", 5, 1, 0, 0}}},
        {&gpu, {300, 32}, 2, 1, {{"reduce_rows", 300, 1, 32, 1}}},
        {&cpu, {300, 31}, 2, 1, {{"reduce_rows", 17, 1, 31, 1}}},
        // Down the columns: 32 rows and more in a block, at most 128 blocks.
        {&gpu, {32, 50}, 2, 0, {{"reduce_columns", 1, 1, 32, 1}}},
        {&gpu, {33, 50}, 2, 0, {{"reduce_columns", 2, 1, 32, 2}, {"reduce_columns", 1, 1, 2, 1}}},
        {&gpu,
         {1024, 65535},
         2,
         0,
         {{"reduce_columns", 32, 512, 32, 32}, {"reduce_columns", 1, 512, 32, 1}}},
        {&gpu, {1024, 65536}, 2, 0, {{"reduce_columns", 1, 512, 1024, 1}}},
        {&gpu, {2, 1024, 32768}, 3, 1, {{"reduce_columns", 2, 256, 1024, 1}}},
        {&gpu,
         {1025, 65536},
         2,
         0,
         {{"reduce_columns", 33, 512, 32, 33}, {"reduce_columns", 1, 512, 33, 1}}},
        {&gpu,
         {4224, 128},
         2,
         0,
         {{"reduce_columns", 128, 1, 33, 128},
          {"reduce_columns", 4, 1, 32, 4},
          {"reduce_columns", 1, 1, 4, 1}}},
        // A group of a GPU takes 32 vectors side by side, of a CPU what is worth a group; and no
        // more groups than a grid has.
        {&gpu, {8, 129}, 2, 0, {{"reduce_columns", 1, 2, 8, 1}}},
        {&cpu, {8, 4096}, 2, 0, {{"reduce_columns", 1, 1, 8, 1}}},
        {&cpu, {8, 4097}, 2, 0, {{"reduce_columns", 1, 2, 8, 1}}},
        {&cpu, {1, 2, 20}, 3, 1, {{"reduce_columns", 1, 1, 2, 1}}},
        {&gpu, {2, 128 * 65535ll}, 2, 0, {{"reduce_columns", 1, 65535, 2, 1}}},
        {&gpu, {2, 128 * 65535ll + 1}, 2, 0, {{"reduce_columns", 1, 32768, 2, 1}}},
        // Nothing to add up.
        {&gpu, {5, 1}, 2, 1, {{"reduce_items", 1, 1, 0, 0}}},
    };
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        const sum *s = &sums[i];
        int stages = 0;
        begin_on(s->traits);
        brim_value x = brim_input_dims(g, "x", BRIM_F32, s->rank, s->dim);
        brim_output(brim_sum(x, &s->axis, 1, false), "y");
        lower(1);
        while (stages < 3 && s->stages[stages].kernel) stages++;
        ck_assert_msg(count(RECORD_LAUNCH) == stages, "sum %zu: %d stages", i,
                      count(RECORD_LAUNCH));
        for (int n = 0; n < stages; n++) {
            const stage *want = &s->stages[n];
            bool blocks = want->block > 0;
            ck_assert_msg(strcmp(kernel_of(n)->name, want->kernel) == 0 &&
                              launch(n)->grid[0] == want->x && launch(n)->grid[1] == want->y &&
                              (!blocks || (argument(n, "block") == want->block &&
                                           argument(n, "blocks") == want->blocks)),
                          "sum %zu, stage %d: %s, grid %d %d", i, n, kernel_of(n)->name,
                          launch(n)->grid[0], launch(n)->grid[1]);
            if (n) ck_assert_int_eq(argument(n, "x"), argument(n - 1, "y"));
        }
    }
}
END_TEST

// A stage does not write where it reads, and all lies in the workspace.
START_TEST(stages_keep_apart) {
    begin_on(&gpu);
    brim_value x = input("x", BRIM_F32, 2, 2, 8192 * 16385ll, 0, 0);
    brim_output(brim_sum(x, (int[]){1}, 1, false), "y");
    lower(1);
    int64_t even = argument(0, "y"), odd = argument(1, "y");
    const record_access *first = &record(RECORD_LAUNCH, 0)->access[1],
                        *second = &record(RECORD_LAUNCH, 1)->access[1];
    ck_assert(first->range.bytes == 2 * 16385 * 4 && second->range.bytes == 2 * 3 * 4);
    ck_assert_int_eq(odd - even, 2 * 16385 * 4 / 256 * 256 + 256);
    int64_t workspace = 0;
    for (int i = 0; i < g->nodes; i++)
        if (plan.workspace[i].bytes > workspace) workspace = plan.workspace[i].bytes;
    ck_assert_int_eq(workspace, 131328 + 256);
}
END_TEST

// ---- products -----------------------------------------------------------------------------------

enum { PART = 13, TOTAL = 14 }; // arguments of matmul.k

// With few tiles a GPU's are smaller, and k is cut into parts of 512 at least, which are added up.
START_TEST(products_in_parts) {
    static const struct {
        const device_traits *traits;
        int64_t m, n, k, batch;
        const char *each;
        int64_t tiles, parts, part;
    } rows[] = {
        {&gpu, 8, 8, 1023, 1, "-DROWS=4", 1, 1, 1023},
        {&gpu, 8, 8, 1024, 1, "-DROWS=4", 1, 2, 512},
        {&gpu, 8, 8, 8192, 1, "-DROWS=4", 1, 16, 512},
        {&gpu, 8, 8, 8200, 1, "-DROWS=4", 1, 16, 528},
        {&gpu, 64, 65, 8192, 1, "-DROWS=4", 2, 16, 512},
        {&gpu, 512, 512, 8192, 1, "-DROWS=4", 64, 2, 4096},
        {&gpu, 513, 512, 8192, 1, "-DROWS=4", 72, 1, 8192},
        {&gpu, 8, 8, 8192, 64, "-DROWS=4", 1, 2, 4096},
        {&gpu, 8, 8, 8192, 65, "-DROWS=4", 1, 1, 8192},
        {&gpu, 8, 8, 8192, 128, "-DROWS=8", 1, 1, 8192},
        {&gpu, 2048, 1024, 64, 1, "-DROWS=8", 128, 1, 64},
        {&gpu, 2047, 897, 64, 1, "-DROWS=8", 128, 1, 64},
        {&gpu, 1920, 1024, 64, 1, "-DROWS=4", 480, 1, 64},
        {&cpu, 73, 65, 8192, 1, "-DROWS=8", 4, 1, 8192},
        {&cpu, 72, 64, 8192, 1, "-DROWS=8", 1, 1, 8192},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_on(rows[i].traits);
        bool batched = rows[i].batch > 1;
        int64_t m = rows[i].m, n = rows[i].n, k = rows[i].k;
        brim_value a = batched ? input("a", BRIM_F32, 3, rows[i].batch, m, k, 0)
                               : input("a", BRIM_F32, 2, m, k, 0, 0);
        brim_value b = batched ? input("b", BRIM_F32, 3, rows[i].batch, k, n, 0)
                               : input("b", BRIM_F32, 2, k, n, 0, 0);
        brim_output(brim_matmul(a, b), "y");
        lower(1);
        const launch_record *l = launch(0);
        ck_assert_msg(l->grid[0] == rows[i].tiles && l->grid[1] == rows[i].parts &&
                          l->grid[2] == rows[i].batch && l->argument[PART].as.i32 == rows[i].part &&
                          defined(0, rows[i].each),
                      "row %zu: grid %d %d, part %d, %s", i, l->grid[0], l->grid[1],
                      l->argument[PART].as.i32, kernel_of(0)->defines);
        ck_assert_int_eq(l->argument[TOTAL].as.i64, rows[i].batch * m * n);
        ck_assert_int_eq(count(RECORD_LAUNCH), rows[i].parts > 1 ? 2 : 1);
        if (rows[i].parts == 1) continue;
        ck_assert_int_eq(record(RECORD_LAUNCH, 0)->access[2].range.bytes,
                         rows[i].parts * rows[i].batch * m * n * 4);
        ck_assert_str_eq(kernel_of(1)->name, "reduce_columns");
        ck_assert_int_eq(argument(1, "n"), rows[i].parts);
        ck_assert_int_eq(argument(1, "inner"), rows[i].batch * m * n);
    }
}
END_TEST

START_TEST(products_of_whole_vectors) {
    static const int64_t rows[][4] = {
        {8, 8, 8, 1}, {8, 8, 6, 0}, {8, 6, 8, 0}, {6, 8, 8, 1}, {8, 12, 4, 1}};
    for (int i = 0; i < 5; i++) {
        begin_on(&gpu);
        brim_value a = input("a", BRIM_F32, 2, rows[i][0], rows[i][1], 0, 0),
                   b = input("b", BRIM_F32, 2, rows[i][1], rows[i][2], 0, 0);
        brim_output(brim_matmul(a, b), "y");
        lower(1);
        ck_assert_int_eq(defined(0, "-DALIGNED=1"), rows[i][3]);
    }
    // Batches of 6 x 6 lie 36 elements apart, of 5 x 4 and 4 x 4 whole vectors.
    begin_on(&gpu);
    brim_output(
        brim_matmul(input("a", BRIM_F32, 3, 3, 5, 4, 0), input("b", BRIM_F32, 3, 3, 4, 4, 0)), "y");
    lower(1);
    ck_assert(defined(0, "-DALIGNED=1"));
}
END_TEST

START_TEST(a_grid_of_matrices_has_a_bound) {
    static const int64_t batches[][2] = {{65534, 65534}, {65535, 65535}, {65536, 65535}};
    for (int i = 0; i < 3; i++) {
        begin_on(&gpu);
        brim_value a = input("a", BRIM_F32, 3, batches[i][0], 8, 8, 0);
        brim_output(brim_matmul(a, a), "y");
        lower(1);
        ASSERT_GRID(0, 1, 1, batches[i][1]);
    }
}
END_TEST

// What a group's tile is by the group's size, the width of vectors, and on a CPU.
START_TEST(tiles_by_device) {
    static const struct {
        bool cpu;
        int group, vec;
        int64_t m, n;
        const char *each;
        int64_t tiles;
    } rows[] = {{false, 128, 4, 32, 64, "-DROWS=4", 1}, {false, 128, 4, 33, 64, "-DROWS=4", 2},
                {false, 64, 4, 32, 32, "-DROWS=4", 1},  {false, 64, 4, 32, 33, "-DROWS=4", 2},
                {false, 64, 8, 64, 64, "-DROWS=8", 1},  {false, 64, 8, 65, 64, "-DROWS=8", 2},
                {false, 256, 4, 64, 64, "-DROWS=4", 1}, {false, 256, 4, 65, 64, "-DROWS=4", 2},
                {false, 32, 4, 32, 32, "-DROWS=4", 1},  {false, 512, 4, 64, 64, "-DROWS=4", 1},
                {true, 1, 8, 72, 16, "-DROWS=8", 1},    {true, 1, 8, 72, 17, "-DROWS=8", 2},
                {true, 1, 16, 73, 64, "-DROWS=8", 2},   {true, 1, 16, 72, 65, "-DROWS=8", 2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_on(rows[i].cpu ? &cpu : &gpu);
        device.traits.group = rows[i].group, device.traits.vec = rows[i].vec;
        brim_value a = input("a", BRIM_F32, 2, rows[i].m, 64, 0, 0),
                   b = input("b", BRIM_F32, 2, 64, rows[i].n, 0, 0);
        brim_output(brim_matmul(a, b), "y");
        lower(1);
        ck_assert_msg(launch(0)->grid[0] == rows[i].tiles && defined(0, rows[i].each),
                      "row %zu: %d, %s", i, launch(0)->grid[0], kernel_of(0)->defines);
    }
}
END_TEST

// ---- gradients of gain and bias -----------------------------------------------------------------

// Blocks of rows as of any column's sum; what they leave for gain and for bias lies side by side.
START_TEST(gains_in_blocks) {
    static const struct {
        int64_t rows, n, blocks, across;
    } cases[] = {{32, 100, 1, 1},       {33, 100, 2, 1},        {1000, 32768, 32, 256},
                 {1000, 65536, 1, 512}, {1025, 65536, 33, 512}, {64, 50, 2, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_on(&gpu);
        brim_value dy = input("dy", BRIM_F32, 2, cases[i].rows, cases[i].n, 0, 0),
                   x = input("x", BRIM_F32, 2, cases[i].rows, cases[i].n, 0, 0),
                   mean = input("mean", BRIM_F32, 1, cases[i].rows, 0, 0, 0),
                   rstd = input("rstd", BRIM_F32, 1, cases[i].rows, 0, 0, 0);
        brim_value operands[] = {dy, x, mean, rstd};
        brim_value gain = graph_op(g, OP_LAYER_NORM_BACKWARD_PARAMS, operands, 4, NULL);
        brim_output(gain, "dgain");
        lower(1);
        ASSERT_GRID(0, cases[i].blocks, cases[i].across, 1);
        const program_record *r = record(RECORD_LAUNCH, 0);
        const byte_range *of_gain = &r->access[4].range, *of_bias = &r->access[5].range;
        int64_t bytes = cases[i].blocks * cases[i].n * 4;
        ck_assert_int_eq(of_gain->bytes, bytes);
        ck_assert_int_eq(of_bias->bytes, bytes);
        ck_assert(cases[i].blocks == 1 ||
                  of_bias->offset - of_gain->offset == (bytes + 255) / 256 * 256);
        ck_assert_int_eq(count(RECORD_LAUNCH) > 1, cases[i].blocks > 1);
    }
}
END_TEST

// ---- attention, backwards -----------------------------------------------------------------------

static void lower_backward_of(brim_dtype dtype, int64_t queries, int64_t keys, int64_t dim) {
    brim_value q = input("q", dtype, 4, 3, queries, 4, dim),
               k = input("k", dtype, 4, 3, keys, 2, dim), v = input("v", dtype, 4, 3, keys, 2, dim),
               o = input("o", dtype, 4, 3, queries, 4, dim),
               lse = input("lse", BRIM_F32, 3, 3, 4, queries, 0),
               dout = input("do", dtype, 4, 3, queries, 4, dim);
    brim_value operands[] = {q, k, v, o, lse, dout};
    brim_attr attr = {.attention = {false, 1}};
    brim_output(graph_op(g, OP_ATTENTION_BACKWARD, operands, 6, &attr), "dq");
    lower(1);
}

START_TEST(attention_backwards_in_tiles) {
    static const int64_t dims[][2] = {{64, 32}, {65, 16}, {128, 16}, {129, 8}};
    for (int i = 0; i < 4; i++) {
        int64_t rows = dims[i][1];
        begin_on(&gpu);
        lower_backward_of(BRIM_F32, 65, 33, dims[i][0]);
        ASSERT_GRID(0, 5, 4, 3); // 16 queries a group: eight work-items for each
        ASSERT_GRID(1, (33 + rows - 1) / rows, 2, 3);
        ASSERT_GRID(2, (65 + rows - 1) / rows, 4, 3);
    }
    begin_on(&cpu);
    lower_backward_of(BRIM_F32, 65, 33, 64);
    ASSERT_GRID(0, 2, 3, 1);
}
END_TEST

// delta, in f32 for each row; and on a CPU the sums of dq in f32, where dq cannot hold them.
START_TEST(attention_backwards_takes_room) {
    enum { DELTA = 3 * 4 * 65 * 4, WHOLE = (DELTA + 255) / 256 * 256 };
    static const struct {
        const device_traits *traits;
        brim_dtype dtype;
        int64_t dim, padded;
    } rows[] = {{&gpu, BRIM_BF16, 60, 0},
                {&cpu, BRIM_F32, 64, 0},
                {&cpu, BRIM_F32, 60, 128},
                {&cpu, BRIM_F32, 65, 144},
                {&cpu, BRIM_BF16, 64, 128}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t workspace = 0;
        begin_on(rows[i].traits);
        lower_backward_of(rows[i].dtype, 65, 33, rows[i].dim);
        for (int n = 0; n < g->nodes; n++)
            if (plan.workspace[n].bytes > workspace) workspace = plan.workspace[n].bytes;
        ck_assert_int_eq(workspace, WHOLE + DELTA * rows[i].padded);
    }
}
END_TEST

// ---- sorted positions ---------------------------------------------------------------------------

// As many work-items as rows sort them, in whole groups, and 4096 at most; one on a CPU.
START_TEST(positions_are_sorted) {
    static const struct {
        const device_traits *traits;
        int64_t rows, takers;
    } cases[] = {{&gpu, 1, 256},     {&gpu, 256, 256},   {&gpu, 257, 512}, {&gpu, 4096, 4096},
                 {&gpu, 4097, 4096}, {&gpu, 9999, 4096}, {&cpu, 9999, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_on(cases[i].traits);
        brim_value ids = input("ids", BRIM_I32, 1, 70, 0, 0, 0),
                   dy = input("dy", BRIM_F32, 2, 70, 8, 0, 0);
        brim_attr attr = {.rows = cases[i].rows};
        brim_value operands[] = {ids, dy};
        brim_output(graph_op(g, OP_EMBEDDING_BACKWARD, operands, 2, &attr), "dtable");
        lower(1);
        int64_t groups = cases[i].takers / cases[i].traits->group;
        ck_assert_str_eq(kernel_of(0)->name, "embedding_count");
        ASSERT_GRID(0, groups, 1, 1);
        ASSERT_GRID(1, groups, 1, 1);
        for (int n = 0; n < 2; n++) {
            ck_assert_int_eq(argument(n, "takers"), cases[i].takers);
            ck_assert_int_eq(argument(n, "rows"), cases[i].rows);
            ck_assert_int_eq(argument(n, "positions"), 70);
        }
        // Counts, ends, what each takes, and the order, each from a multiple of 256 bytes on.
        int64_t row_bytes = (cases[i].rows * 4 + 255) / 256 * 256, start = argument(0, "count");
        ck_assert_int_eq(argument(1, "end"), start + row_bytes);
        ck_assert_int_eq(argument(0, "taken"), start + 2 * row_bytes);
        ck_assert_int_eq(argument(1, "order"),
                         start + 2 * row_bytes + (cases[i].takers * 4 + 255) / 256 * 256);
    }
}
END_TEST

// ---- the whole ----------------------------------------------------------------------------------

START_TEST(steps_that_cannot_be) {
    begin_on(&cpu);
    brim_output(brim_neg(input("x", BRIM_F32, 1, (int64_t)1 << 33, 0, 0, 0)), "y");
    try_to_lower(1);
    ASSERT_FINE(err);
    lowered_free(&low);
    lower_graph(g, &layout, &schedule, &plan, 0, &stub_backend, &device, &low, &err);
    ck_assert_ptr_null(low.program);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "a step has 0 micro-batches; at least 1 is needed");
    lower_graph(g, &layout, &schedule, &plan, INT32_MAX, &stub_backend, &device, &low, &err);
    ck_assert_ptr_null(low.program);
    ASSERT_FAILS(err, BRIM_MEMORY,
                 "the inputs of 2147483647 micro-batches do not fit into 64-bit sizes");
    plan.peak_bytes[SPACE_HOST] = (int64_t)1 << 62;
    lower_graph(g, &layout, &schedule, &plan, 1 << 27, &stub_backend, &device, &low, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "the host space does not fit into 64-bit sizes");
    plan.peak_bytes[SPACE_HOST] = 0;
    brim_fail(&err, BRIM_IO, "before");
    lower_graph(g, &layout, &schedule, &plan, 1, &stub_backend, &device, &low, &err);
    ck_assert_ptr_null(low.program);
    ASSERT_FAILS(err, BRIM_IO, "before");
}
END_TEST

// Inputs, one behind the other in whole lines of 64 bytes, then control; so for each micro-batch;
// then the results.
START_TEST(the_staging_area_is_laid_out) {
    begin_on(&cpu);
    brim_value a = input("a", BRIM_F32, 1, 17, 0, 0, 0), b = input("b", BRIM_BF16, 1, 16, 0, 0, 0);
    brim_output(brim_mul(a, a), "c");
    brim_output(brim_neg(b), "d");
    lower(3);
    ck_assert_int_eq(low.input[0].offset, 0);
    ck_assert_int_eq(low.input[0].bytes, 68);
    ck_assert_int_eq(low.input[1].offset, 128);
    ck_assert_int_eq(low.input[1].bytes, 32);
    ck_assert_int_eq(low.control_offset, 192);
    int64_t slot = 192 + (CONTROL_COUNT * 4 + 63) / 64 * 64;
    ck_assert_int_eq(low.slot_bytes, slot);
    ck_assert_int_eq(low.result[0].offset, 3 * slot);
    ck_assert_int_eq(low.result[1].offset, 3 * slot + 128);
    ck_assert_int_eq(low.result[1].bytes, 32);
    ck_assert_int_eq(low.program->host_bytes, low.staging + 3 * slot + 192);
    ck_assert_int_eq(low.program->micro_batches, 3);
    for (int i = 0; i < 4; i++) {
        const program_record *r = record(RECORD_COPY, i);
        const byte_range *staged = i < 2 ? &r->as.copy.from : &r->as.copy.to;
        ck_assert_int_eq(staged->offset,
                         low.staging + (i < 2 ? low.input[i].offset : low.result[i - 2].offset));
        ck_assert_int_eq(r->as.copy.host_stride, i < 2 ? slot : 0);
        ck_assert_int_eq(r->sections, i < 2 ? SECTION_ALL : SECTION_LAST);
        ck_assert_int_eq(r->node, -1);
    }
}
END_TEST

Suite *lower_stages_suite(void) {
    Suite *suite = suite_create("lower_stages");
    TCase *tests = tcase_create("lower_stages");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_add_test(tests, sums_in_stages);
    tcase_add_test(tests, stages_keep_apart);
    tcase_add_test(tests, products_in_parts);
    tcase_add_test(tests, products_of_whole_vectors);
    tcase_add_test(tests, a_grid_of_matrices_has_a_bound);
    tcase_add_test(tests, tiles_by_device);
    tcase_add_test(tests, gains_in_blocks);
    tcase_add_test(tests, attention_backwards_in_tiles);
    tcase_add_test(tests, attention_backwards_takes_room);
    tcase_add_test(tests, positions_are_sorted);
    tcase_add_test(tests, steps_that_cannot_be);
    tcase_add_test(tests, the_staging_area_is_laid_out);
    suite_add_tcase(suite, tests);
    return suite;
}
