// What kernels are told on devices that are not there, of any size: how work is cut, what may be
// read in whole vectors, and the bounds of a grid. Extents cost nothing here.
#include "tests/lower_launches.h"

// ---- shares -------------------------------------------------------------------------------------

START_TEST(rows_are_shared_out) {
    static const struct {
        bool cpu;
        int units;
        int64_t rows, length;
        int group;
        int64_t per, groups;
    } rows[] = {
        {true, 2, 1000, 7, 1, 62, 17}, // eight groups for each core, at least
        {true, 2, 10, 7, 1, 1, 10},
        {true, 0, 80, 7, 1, 10, 8},
        {true, 1, 1 << 20, 1024, 1, 64, 16384}, // 65536 elements a group
        {true, 1, 1 << 20, 65536, 1, 1, 1 << 20},
        {true, 1, 1 << 20, 1 << 20, 1, 1, 1 << 20},
        {true, 1, 1 << 30, 0, 1, 65536, 16384},
        {false, 40, 1000, 1, 64, 1, 1000}, // as many work-items as a row has vectors
        {false, 40, 1000, 256, 64, 1, 1000},
        {false, 40, 1000, 257, 128, 1, 1000},
        {false, 40, 1000, 512, 128, 1, 1000},
        {false, 40, 1000, 513, 256, 1, 1000},
        {false, 40, 1000, 100000, 256, 1, 1000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device_traits t = rows[i].cpu ? cpu : gpu;
        t.compute_units = rows[i].units;
        row_split s = split_rows(&t, rows[i].rows, rows[i].length);
        ck_assert_msg(s.group == rows[i].group && s.per == rows[i].per &&
                          s.groups == rows[i].groups,
                      "row %zu: %d, %" PRId64 ", %" PRId64, i, s.group, s.per, s.groups);
    }
}
END_TEST

START_TEST(elements_are_shared_out) {
    static const struct {
        bool cpu;
        int64_t elements, per, groups;
    } rows[] = {{true, 1000000, 62496, 17}, {true, 1 << 24, 65536, 256},
                {true, 17, 16, 2},          {false, 1000, 1024, 1},
                {false, 2049, 3072, 1},     {false, 1000000, 4096, 245}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row_split s = split_elements(rows[i].cpu ? &cpu : &gpu, rows[i].elements);
        ck_assert_msg(s.per == rows[i].per && s.groups == rows[i].groups,
                      "row %zu: %" PRId64 ", %" PRId64, i, s.per, s.groups);
        ck_assert_int_eq(s.group, rows[i].cpu ? 1 : 256);
    }
}
END_TEST

START_TEST(whole_vectors) {
    operand a = {.dtype = BRIM_F32, .offset = 32}, b = {.dtype = BRIM_BF16, .offset = 24};
    const operand *both[] = {&a, &b};
    device_traits scalar = gpu;
    scalar.vec = 1;
    ck_assert_int_eq(vectors_aligned(&gpu, both, 2, 12), 1);
    ck_assert_int_eq(vectors_aligned(&cpu, both, 0, 16), 0);
    ck_assert_int_eq(vectors_aligned(&scalar, both, 2, 12), 0);
    ck_assert_int_eq(vectors_aligned(&gpu, both, 2, 10), 0);
    b.offset = 20;
    ck_assert_int_eq(vectors_aligned(&gpu, both, 2, 12), 0);
    ck_assert_int_eq(vectors_aligned(&gpu, both, 1, 12), 1);
    b.offset = 0, a.offset = 24;
    ck_assert_int_eq(vectors_aligned(&gpu, both, 2, 12), 0);
    shape s = {4, {2, 3, 5, 7}}, none = {0};
    ck_assert(leading_elements(&s) == 30 && last_extent(&s) == 7);
    ck_assert(leading_elements(&none) == 1 && last_extent(&none) == 1);
}
END_TEST

// ---- chains -------------------------------------------------------------------------------------

static brim_value transposed(brim_dtype dtype, int64_t rows, int64_t columns) {
    return brim_permute(input("x", dtype, 2, columns, rows, 0, 0), 1, 0);
}

// Six axes of which no two are one, since the input's lie the other way round; the last is shorter
// than a vector, and the longest takes its place.
START_TEST(the_longest_axis_goes_in) {
    int64_t dims[] = {2, 3, 2, 3, 2, 3}, reversed[6], x_stride[6], y_stride[6], step = 1;
    int place = _i, at = 0;
    char name[16];
    dims[place] = 70;
    for (int d = 0; d < 6; d++) {
        reversed[5 - d] = dims[d];
        x_stride[d] = step, step *= dims[d];
    }
    for (int d = 5, inner = 1; d >= 0; inner *= (int)dims[d--]) y_stride[d] = inner;
    begin_on(&cpu);
    brim_value x = brim_input_dims(g, "x", BRIM_F32, 6, reversed);
    brim_output(brim_neg(brim_permute(x, 5, 4, 3, 2, 1, 0)), "y");
    lower(1);
    for (int d = 0; d < 6; d++) {
        if (d == place) continue;
        snprintf(name, sizeof name, "e%d", at);
        if (at) ck_assert_int_eq(argument(0, name), dims[d]);
        snprintf(name, sizeof name, "x0_%d", at);
        ck_assert_int_eq(argument(0, name), x_stride[d]);
        snprintf(name, sizeof name, "y0_%d", at++);
        ck_assert_int_eq(argument(0, name), y_stride[d]);
    }
    ck_assert_int_eq(argument(0, "inner"), 70);
    ck_assert_int_eq(argument(0, "x0_in"), x_stride[place]);
    ck_assert_int_eq(argument(0, "y0_in"), y_stride[place]);
}
END_TEST

// Axes of extent 1 are none, and what is broadcast does not move.
START_TEST(axes_that_do_not_count) {
    begin_on(&gpu);
    brim_value x = brim_permute(input("x", BRIM_F32, 4, 7, 1, 5, 1), 1, 2, 3, 0);
    brim_output(brim_neg(x), "y");
    brim_value bias = input("bias", BRIM_F32, 1, 50, 0, 0, 0);
    brim_output(brim_add(input("z", BRIM_F32, 3, 4, 3, 50, 0), bias), "w");
    lower(1);
    ck_assert_ptr_null(strstr(kernel_of(0)->source, "int_t e1"));
    ck_assert_int_eq(argument(0, "inner"), 7);
    ck_assert_int_eq(argument(0, "x0_0"), 1);
    ck_assert_int_eq(argument(0, "x0_in"), 5);
    ck_assert_ptr_null(strstr(kernel_of(1)->source, "int_t e1"));
    ck_assert_int_eq(argument(1, "inner"), 50);
    ck_assert_int_eq(argument(1, "x0_0"), 50);
    ck_assert_int_eq(argument(1, "x1_0"), 0);
}
END_TEST

START_TEST(a_last_axis_of_a_vector_stays) {
    static const int64_t rows[][3] = {{100, 16, 16}, {100, 15, 100}, {10, 15, 15}, {15, 15, 15}};
    for (int i = 0; i < 4; i++) {
        begin_on(&cpu);
        brim_output(brim_neg(transposed(BRIM_F32, rows[i][0], rows[i][1])), "y");
        lower(1);
        ck_assert_int_eq(argument(0, "inner"), rows[i][2]);
    }
}
END_TEST

// A work-item takes a fair share, 16384 elements at most, in whole vectors; where an operand has
// strides, in columns of 128 down the rows.
START_TEST(work_items_of_a_cpu) {
    static const struct {
        int units;
        bool strided;
        int64_t rows, columns, block, per_item, tasks, groups;
    } cases[] = {
        {2, false, 1000, 1000, 16384, 1, 62, 62},   {64, false, 1000, 1000, 3920, 1, 256, 256},
        {0, false, 1, 1000, 256, 1, 4, 4},          {2, false, 1, 20, 16, 1, 2, 2},
        {2, true, 1000, 1000, 128, 128, 8000, 63},  {2, true, 1000, 100, 112, 125, 1000, 8},
        {64, true, 1000, 1000, 128, 30, 8000, 267}, {2, true, 20, 20, 32, 2, 20, 10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_on(&cpu);
        device.traits.compute_units = cases[i].units;
        brim_value x = cases[i].strided
                           ? transposed(BRIM_F32, cases[i].rows, cases[i].columns)
                           : input("x", BRIM_F32, 2, cases[i].rows, cases[i].columns, 0, 0);
        brim_output(brim_neg(x), "y");
        lower(1);
        ck_assert_int_eq(argument(0, "block"), cases[i].block);
        ck_assert_int_eq(argument(0, "per_item"), cases[i].per_item);
        ck_assert_int_eq(argument(0, "tasks"), cases[i].tasks);
        ASSERT_GRID(0, cases[i].groups, 1, 1);
        if (cases[i].strided) ck_assert_int_eq(argument(0, "count"), cases[i].rows);
    }
}
END_TEST

// One row of elements that lie apart is cut as a dense one is.
START_TEST(a_single_row_that_is_strided) {
    begin_on(&cpu);
    brim_output(brim_neg(brim_slice(input("x", BRIM_F32, 2, 100000, 2, 0, 0), 1, 1, 1)), "y");
    lower(1);
    ck_assert_int_eq(argument(0, "inner"), 100000);
    ck_assert_int_eq(argument(0, "x0_in"), 2);
    ck_assert_int_eq(argument(0, "block"), 12512);
    ASSERT_GRID(0, 8, 1, 1);
}
END_TEST

// Tasks are counted in 32 bits, twice over: where there are too many, each is more vectors.
START_TEST(tasks_that_can_be_counted) {
    static const int64_t cases[][3] = {
        {4294967292, 4, 1073741823}, {4294967296, 8, 536870912}, {(int64_t)1 << 33, 16, 536870912}};
    for (int i = 0; i < 3; i++) {
        begin_on(&gpu);
        brim_output(brim_neg(input("x", BRIM_F32, 1, cases[i][0], 0, 0, 0)), "y");
        lower(1);
        ck_assert_int_eq(argument(0, "block"), cases[i][1]);
        ck_assert_int_eq(argument(0, "tasks"), cases[i][2]);
        ck_assert_int_eq(argument(0, "inner"), cases[i][0]);
    }
}
END_TEST

static brim_value columns_of(brim_dtype dtype, int64_t all, int64_t first, int64_t count) {
    return brim_slice(input("x", dtype, 2, 8, all, 0, 0), 1, first, count);
}

// A GPU reads whole vectors where each row of each operand starts at one.
START_TEST(chains_of_whole_vectors) {
    static const struct {
        const device_traits *traits;
        brim_dtype dtype;
        int64_t all, first, count;
        bool aligned;
    } cases[] = {{&gpu, BRIM_F32, 8, 0, 8, true},   {&cpu, BRIM_F32, 16, 0, 16, false},
                 {&gpu, BRIM_F32, 12, 4, 8, true},  {&gpu, BRIM_F32, 12, 2, 8, false},
                 {&gpu, BRIM_F32, 10, 0, 8, false}, {&gpu, BRIM_BF16, 12, 4, 8, true},
                 {&gpu, BRIM_BF16, 12, 2, 8, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_on(cases[i].traits);
        brim_value x = columns_of(cases[i].dtype, cases[i].all, cases[i].first, cases[i].count);
        brim_output(brim_neg(x), "y");
        lower(1);
        ck_assert_msg(defined(0, "-DALIGNED=1") == cases[i].aligned, "case %zu: %s", i,
                      kernel_of(0)->defines);
    }
    begin_on(&gpu);
    device.traits.vec = 1;
    brim_output(brim_neg(input("x", BRIM_F32, 1, 8, 0, 0, 0)), "y");
    lower(1);
    ck_assert(!defined(0, "-DALIGNED=1"));
}
END_TEST

// Chains of one name that compute differently.
START_TEST(kernels_are_told_apart_by_their_text) {
    begin_on(&gpu);
    brim_value x = input("x", BRIM_F32, 1, 40, 0, 0, 0);
    brim_output(brim_scale(x, 2), "a");
    brim_output(brim_scale(x, 3), "b");
    brim_output(brim_scale(brim_slice(x, 0, 1, 8), 2), "c");
    brim_output(brim_scale(brim_slice(x, 0, 4, 8), 3), "d");
    lower(1);
    ck_assert_int_eq(low.program->kernels, 3);
    ck_assert_int_eq(launch(3)->kernel, launch(1)->kernel);
}
END_TEST

START_TEST(records_are_labelled) {
    begin_on(&cpu);
    brim_value x = input("x", BRIM_F32, 2, 3, 40, 0, 0);
    brim_value y = brim_softmax(x, 1);
    brim_scope_push(g, "h.%d", 7);
    brim_output(brim_softmax(y, 1), "z");
    brim_scope_pop(g);
    lower(1);
    ck_assert_str_eq(record(RECORD_LAUNCH, 0)->label, "softmax");
    ck_assert_str_eq(record(RECORD_LAUNCH, 1)->label, "h.7 softmax");
}
END_TEST

// ---- grids --------------------------------------------------------------------------------------

static void lower_attention_of(int64_t batch, int64_t queries, int64_t heads, int64_t dim) {
    brim_value q = input("q", BRIM_F32, 4, batch, queries, heads, dim);
    brim_output(brim_attention(q, q, q, &(brim_attention_options){0}), "y");
    try_to_lower(1);
}

START_TEST(a_grid_has_bounds) {
    begin_on(&gpu);
    lower_attention_of(65535, 1, 1, 8);
    ASSERT_FINE(err);
    ASSERT_GRID(0, 1, 1, 65535);
    begin_on(&gpu);
    lower_attention_of(65536, 1, 1, 8);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED,
                 "lowering attention: kernel attention_forward: 65536 groups along axis 2 of the "
                 "grid; 1 to 65535 are possible");
    begin_on(&gpu);
    lower_attention_of(1, 1, 65536, 8);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, "65536 groups along axis 1 of the grid");
    begin_on(&gpu);
    brim_output(brim_softmax(input("x", BRIM_F32, 2, INT32_MAX, 1, 0, 0), 1), "y");
    lower(1);
    ASSERT_GRID(0, INT32_MAX, 1, 1);
    begin_on(&gpu);
    brim_output(brim_softmax(input("x", BRIM_F32, 2, (int64_t)INT32_MAX + 1, 1, 0, 0), 1), "y");
    try_to_lower(1);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED,
                 "kernel softmax: 2147483648 groups along axis 0 of the grid; 1 to 2147483647");
    begin_on(&gpu);
    lower_attention_of(1, 1, 1, 8);
    ASSERT_FINE(err);
    lowering l = {.graph = g, .program = low.program, .sections = SECTION_LAST, .err = &err};
    lower_launch(&l, 0, (const int64_t[]){0, 1, 1}, NULL, 0);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, "0 groups along axis 0 of the grid; 1 to");
}
END_TEST

// Rows of q, k and v that do not all start at a vector of four.
START_TEST(attention_of_whole_vectors) {
    for (int i = 0; i < 10; i++) {
        begin_on(&gpu);
        brim_value x[3];
        for (int k = 0; k < 3; k++) {
            const char *const names[] = {"q", "k", "v"};
            int axes[4] = {0, 1, 2, 3}, near = i % 3;
            bool apart = i < 9 && k == i / 3; // 9 elements from one to the next along axis `near`
            axes[near] = 2, axes[2] = near;
            x[k] = input(names[k], BRIM_F32, 4, 4, 4, 4, apart ? 9 : 8);
            if (apart) x[k] = brim_slice(x[k], 3, 0, 8);
            if (apart) x[k] = brim_permute(x[k], axes[0], axes[1], axes[2], axes[3]);
        }
        brim_output(brim_attention(x[0], x[1], x[2], &(brim_attention_options){0}), "y");
        lower(1);
        ck_assert_int_eq(count(RECORD_LAUNCH), 1);
        ck_assert_int_eq(record(RECORD_LAUNCH, 0)->accesses, 5); // there are no segments
        ck_assert_int_eq(defined(0, "-DALIGNED=1"), i == 9);
    }
    for (int first = 2; first <= 4; first += 2) { // 8 or 16 bytes from a row's start
        begin_on(&gpu);
        brim_value x = brim_slice(input("x", BRIM_F32, 4, 4, 4, 4, 12), 3, first, 8);
        brim_output(brim_attention(x, x, x, &(brim_attention_options){0}), "y");
        lower(1);
        ck_assert_int_eq(count(RECORD_LAUNCH), 1);
        ck_assert_int_eq(defined(0, "-DALIGNED=1"), first == 4);
    }
}
END_TEST

START_TEST(arguments_of_32_bits) {
    for (int more = 0; more < 2; more++) {
        begin_on(&gpu);
        brim_value x = input("x", BRIM_F32, 2, 2, (int64_t)INT32_MAX + more, 0, 0);
        brim_output(brim_softmax(x, 1), "y");
        try_to_lower(1);
        if (more)
            ASSERT_FAILS(err, BRIM_UNSUPPORTED,
                         "kernel softmax: argument 3 is 2147483648, which does not fit");
        else
            ASSERT_FINE(err);
    }
    ck_assert(arg_i32(INT32_MIN).argument.kind == ARGUMENT_I32 && !arg_i32(INT32_MIN).writes);
    ck_assert(arg_i32((int64_t)INT32_MIN - 1).writes);
    ck_assert_int_eq(arg_i32(INT32_MIN).argument.as.i32, INT32_MIN);
}
END_TEST

// Rows of a group's tile as attention.k has them.
START_TEST(attention_in_tiles) {
    static const int64_t dims[][2] = {{64, 64}, {72, 64}, {73, 32}, {144, 32}, {145, 16}};
    for (int i = 0; i < 5; i++) {
        begin_on(&gpu);
        lower_attention_of(3, 129, 5, dims[i][0]);
        ASSERT_FINE(err);
        ASSERT_GRID(0, (128 + dims[i][1]) / dims[i][1], 5, 3);
        ck_assert_int_eq(kernel_of(0)->group, 128);
        ck_assert(defined(0, "-DLOCAL_KIB=48"));
        ck_assert_int_eq(defined(0, "-DALIGNED=1"), dims[i][0] % 4 == 0);
    }
    begin_on(&cpu);
    lower_attention_of(3, 129, 5, 80);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_of(0)->file, "attention_cpu.k");
    ASSERT_GRID(0, 3, 5, 3);
}
END_TEST

START_TEST(attention_by_device) {
    static const struct {
        bool cpu;
        int vec, group, max_group;
        int64_t local_bytes;
        int expected;
        const char *file, *define;
    } rows[] = {{true, 8, 1, 64, 1 << 15, 1, "attention_cpu.k", ""},
                {true, 4, 1, 64, 1 << 15, 64, "attention.k", "-DLOCAL_KIB=32"},
                {false, 16, 1, 64, 1 << 15, 64, "attention.k", "-DALIGNED=0"},
                {false, 4, 64, 64, (48 << 10) - 1, 64, "attention.k", "-DLOCAL_KIB=32"},
                {false, 1, 128, 128, 48 << 10, 128, "attention.k", "-DLOCAL_KIB=48 -DALIGNED=0"},
                {false, 4, 512, 512, 48 << 10, 128, "attention.k", "-DLOCAL_KIB=48 -DALIGNED=1"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_on(&gpu);
        device.traits.cpu = rows[i].cpu, device.traits.vec = rows[i].vec;
        device.traits.group = rows[i].group, device.traits.max_group = rows[i].max_group;
        device.traits.local_bytes = rows[i].local_bytes;
        lower_attention_of(1, 8, 1, 8);
        ASSERT_FINE(err);
        ck_assert_int_eq(kernel_of(0)->group, rows[i].expected);
        ck_assert_str_eq(kernel_of(0)->file, rows[i].file);
        ck_assert_msg(defined(0, rows[i].define), "row %zu: %s", i, kernel_of(0)->defines);
    }
    begin_on(&gpu);
    device.traits.max_group = 63;
    lower_attention_of(1, 8, 1, 8);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED,
                 "attention needs work-groups of 64; a card offers at most 63");
}
END_TEST

// ---- gathers ------------------------------------------------------------------------------------

// Both halves of each head are whole vectors, or none is read as such.
START_TEST(rotary_of_whole_vectors) {
    static const struct {
        int64_t dim;
        bool aligned;
    } rows[] = {{8, true}, {4, false}, {12, false}, {24, true}, {6, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_on(&gpu);
        brim_value x = input("x", BRIM_F32, 4, 2, 5, 3, rows[i].dim);
        brim_output(brim_rotary(x, 10000, (brim_value){0}), "y");
        lower(1);
        ck_assert_msg(defined(0, "-DALIGNED=1") == rows[i].aligned, "row %zu: %s", i,
                      kernel_of(0)->defines);
    }
}
END_TEST

START_TEST(rotary_is_shared_out) {
    static const struct {
        const device_traits *traits;
        int64_t batches, length, heads, dim;
        int group;
        int64_t per, across, x, y;
    } rows[] = {
        // A group of a GPU: as many work-items as a token has vectors, and four tokens.
        {&gpu, 1, 1000, 1, 64, 64, 4, 8, 250, 1},
        {&gpu, 3, 1001, 1, 8, 64, 4, 1, 251, 3},
        {&gpu, 1, 4, 1, 10, 64, 4, 2, 1, 1},
        {&gpu, 1, 4, 64, 32, 256, 4, 4, 1, 1},
        {&gpu, 1, 4, 1, 4096, 256, 4, 256, 1, 1},
        {&gpu, 65535, 1, 1, 8, 256, 4, 1, 1, 65535},
        {&gpu, 65536, 1, 1, 8, 256, 4, 1, 1, 65535},
        // On a CPU: sixteen groups at least, where there are batches to share out.
        {&cpu, 100, 1, 1, 64, 1, 1, 1, 1, 16},
        {&cpu, 5, 1, 1, 64, 1, 1, 1, 1, 5},
        {&cpu, 100, 5, 1, 64, 1, 1, 1, 5, 4},
        {&cpu, 100, 320, 1, 64, 1, 20, 1, 16, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_on(rows[i].traits);
        brim_value x =
            input("x", BRIM_F32, 4, rows[i].batches, rows[i].length, rows[i].heads, rows[i].dim);
        brim_output(brim_rotary(x, 10000, (brim_value){0}), "y");
        lower(1);
        ck_assert_msg(kernel_of(0)->group == rows[i].group && argument(0, "per") == rows[i].per &&
                          argument(0, "across") == rows[i].across &&
                          launch(0)->grid[0] == rows[i].x && launch(0)->grid[1] == rows[i].y,
                      "row %zu: %d, %" PRId64 ", %" PRId64 ", grid %d %d", i, kernel_of(0)->group,
                      argument(0, "per"), argument(0, "across"), launch(0)->grid[0],
                      launch(0)->grid[1]);
    }
}
END_TEST

Suite *lower_launches_suite(void) {
    Suite *suite = suite_create("lower_launches");
    TCase *shares = tcase_create("shares"), *chains = tcase_create("chains"),
          *grids = tcase_create("grids");
    TCase *all[] = {shares, chains, grids};
    for (int i = 0; i < 3; i++) {
        tcase_add_checked_fixture(all[i], start, finish);
        suite_add_tcase(suite, all[i]);
    }
    tcase_add_test(shares, rows_are_shared_out);
    tcase_add_test(shares, elements_are_shared_out);
    tcase_add_test(shares, whole_vectors);
    tcase_add_loop_test(chains, the_longest_axis_goes_in, 1, 5);
    tcase_add_test(chains, axes_that_do_not_count);
    tcase_add_test(chains, a_last_axis_of_a_vector_stays);
    tcase_add_test(chains, work_items_of_a_cpu);
    tcase_add_test(chains, a_single_row_that_is_strided);
    tcase_add_test(chains, tasks_that_can_be_counted);
    tcase_add_test(chains, chains_of_whole_vectors);
    tcase_add_test(chains, kernels_are_told_apart_by_their_text);
    tcase_add_test(chains, records_are_labelled);
    tcase_add_test(grids, a_grid_has_bounds);
    tcase_add_test(grids, attention_of_whole_vectors);
    tcase_add_test(grids, arguments_of_32_bits);
    tcase_add_test(grids, attention_in_tiles);
    tcase_add_test(grids, attention_by_device);
    tcase_add_test(grids, rotary_of_whole_vectors);
    tcase_add_test(grids, rotary_is_shared_out);
    return suite;
}
