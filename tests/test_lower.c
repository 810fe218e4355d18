// Lowering on a device that is not there: staging, sections, the shapes of matrix products, copies
// that views need.
#include "tests/lower_rig.h"

// ---- staging and sections -----------------------------------------------------------------------

START_TEST(inputs_enter_and_results_leave) {
    brim_value x = input("x", BRIM_F32, 2, 3, 5, 0, 0), ids = input("ids", BRIM_I32, 1, 3, 0, 0, 0);
    brim_output(brim_mul(x, x), "square");
    brim_output(brim_add(ids, ids), "twice");
    lower(1);
    ck_assert_int_eq(low.inputs, 2);
    ck_assert_int_eq(low.results, 2);
    ck_assert_int_eq(low.input[0].bytes, 60);
    ck_assert_int_eq(low.input[1].bytes, 12);
    ck_assert_int_ge(low.input[1].offset, 60);
    ck_assert_int_eq(count(RECORD_COPY), 4);
    const program_record *in = record(RECORD_COPY, 0), *out = record(RECORD_COPY, 2);
    ck_assert_str_eq(in->label, "x");
    ck_assert_int_eq(in->as.copy.from.space, SPACE_HOST);
    ck_assert_int_eq(in->as.copy.from.offset, low.input[0].offset);
    ck_assert_int_eq(in->as.copy.host_stride, 0);
    ck_assert_str_eq(out->label, "square");
    ck_assert_int_eq(out->as.copy.to.space, SPACE_HOST);
    ck_assert_int_eq(out->as.copy.to.offset, low.result[0].offset);
    ck_assert_int_ge(low.result[0].offset, low.slot_bytes);
    for (int i = 0; i < low.program->records; i++)
        ck_assert_int_eq(low.program->record[i].sections, SECTION_LAST);
}
END_TEST

START_TEST(each_micro_batch_has_its_slot) { // two of them, and more
    int batches = _i;
    brim_value x = input("x", BRIM_F32, 1, 100, 0, 0, 0), sum = brim_sum(x, NULL, 0, false);
    shape scalar = {0};
    value_id total = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &scalar, "total");
    brim_value all =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, total), sum}, 2, NULL);
    brim_output(all, "all");
    lower(batches);
    const program_record *in = record(RECORD_COPY, 0);
    ck_assert_int_eq(in->sections, SECTION_ALL);
    ck_assert_int_eq(in->as.copy.host_stride, low.slot_bytes);
    ck_assert_int_eq(low.program->micro_batches, batches);
    ck_assert_int_ge(low.result[0].offset, batches * low.slot_bytes);
    // The first micro-batch begins the sum, the others add to it.
    uint8_t begins = 0, adds = 0;
    for (int i = 0; i < low.program->records; i++) {
        const program_record *r = &low.program->record[i];
        if (strcmp(r->label, "accumulate")) continue;
        if (r->kind == RECORD_COPY)
            begins |= r->sections;
        else
            adds |= r->sections;
    }
    ck_assert_int_eq(begins, SECTION_FIRST);
    ck_assert_int_eq(adds, SECTION_MIDDLE | SECTION_LAST);
}
END_TEST

START_TEST(a_single_micro_batch_begins_the_sum) {
    brim_value x = input("x", BRIM_F32, 1, 100, 0, 0, 0), sum = brim_sum(x, NULL, 0, false);
    shape scalar = {0};
    value_id total = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &scalar, "total");
    graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, total), sum}, 2, NULL);
    lower(1);
    for (int i = 0; i < low.program->records; i++) {
        const program_record *r = &low.program->record[i];
        if (strcmp(r->label, "accumulate")) continue;
        ck_assert_int_eq(r->kind, RECORD_COPY);
        ck_assert_int_eq(r->sections, SECTION_LAST);
    }
}
END_TEST

START_TEST(control_values_are_one_copy) {
    brim_value lr = graph_control(g, CONTROL_LR), scale = graph_control(g, CONTROL_BIAS2);
    brim_output(brim_mul(lr, scale), "product");
    lower(1);
    ck_assert_int_eq(count(RECORD_COPY), 2);
    const copy_record *copy = &record(RECORD_COPY, 0)->as.copy;
    ck_assert_int_eq(copy->from.offset, low.control_offset + 4 * CONTROL_LR);
    ck_assert_int_eq(copy->from.bytes, 4 * (CONTROL_BIAS2 - CONTROL_LR + 1));
}
END_TEST

// From the first that is used to the last; the very first alone.
START_TEST(control_values_that_are_used) {
    static const control_slot pairs[][2] = {{CONTROL_BIAS1, CONTROL_BIAS2},
                                            {CONTROL_LR, CONTROL_LR}};
    brim_output(brim_neg(graph_control(g, pairs[_i][0])), "a");
    brim_output(brim_neg(graph_control(g, pairs[_i][1])), "b");
    lower(1);
    const copy_record *copy = &record(RECORD_COPY, 0)->as.copy;
    ck_assert_int_eq(copy->from.offset, low.staging + low.control_offset + 4 * pairs[_i][0]);
    ck_assert_int_eq(copy->from.bytes, 4 * (pairs[_i][1] - pairs[_i][0] + 1));
    ck_assert_int_eq(copy->to.bytes, copy->from.bytes);
    ck_assert_int_eq(copy->to.offset, record(RECORD_LAUNCH, 0)->access[0].range.offset);
    ck_assert_int_eq(count(RECORD_COPY), 3); // they, and two results
}
END_TEST

// ---- matrix products ----------------------------------------------------------------------------

static const matmul_shape *product(void) {
    return &record(RECORD_MATMUL, 0)->as.matmul.shape;
}

#define ASSERT_PRODUCT(M, N, K, BATCH, TA, TB)                                                     \
    do {                                                                                           \
        ck_assert_int_eq(product()->m, M);                                                         \
        ck_assert_int_eq(product()->n, N);                                                         \
        ck_assert_int_eq(product()->k, K);                                                         \
        ck_assert_int_eq(product()->batch, BATCH);                                                 \
        ck_assert_int_eq(product()->transpose_a, TA);                                              \
        ck_assert_int_eq(product()->transpose_b, TB);                                              \
        ck_assert_int_eq(count(RECORD_MATMUL), 1);                                                 \
    } while (0)

START_TEST(a_batch_times_one_matrix_is_one_product) {
    brim_value x = input("x", BRIM_F32, 3, 4, 7, 5, 0), w = input("w", BRIM_F32, 2, 5, 6, 0, 0);
    brim_output(brim_matmul(x, w), "y");
    lower(1);
    ASSERT_PRODUCT(28, 6, 5, 1, false, false);
    ck_assert_int_eq(product()->row_a, 5);
    ck_assert_int_eq(product()->row_b, 6);
    ck_assert_int_eq(product()->row_c, 6);
    ck_assert_int_eq(product()->batch_b, 0);
    ck_assert_int_eq(product()->alignment, 64);
    ck_assert_int_eq(record(RECORD_MATMUL, 0)->accesses, 3); // there is no workspace
}
END_TEST

START_TEST(single_rows_in_a_batch_are_rows) {
    brim_value x = input("x", BRIM_F32, 3, 4, 1, 5, 0), w = input("w", BRIM_F32, 2, 6, 5, 0, 0);
    brim_output(brim_matmul_t(x, false, w, true), "y");
    lower(1);
    ASSERT_PRODUCT(4, 6, 5, 1, false, true);
    ck_assert_int_eq(product()->row_a, 5);
    ck_assert_int_eq(product()->row_b, 5);
}
END_TEST

START_TEST(batches_keep_their_strides) {
    brim_value a = input("a", BRIM_BF16, 4, 2, 3, 7, 5), b = input("b", BRIM_BF16, 4, 2, 3, 5, 6);
    brim_output(brim_matmul(a, b), "y");
    lower(1);
    ASSERT_PRODUCT(7, 6, 5, 6, false, false);
    ck_assert_int_eq(product()->batch_a, 35);
    ck_assert_int_eq(product()->batch_b, 30);
    ck_assert_int_eq(product()->batch_c, 42);
    ck_assert_int_eq(product()->in, BRIM_BF16);
    ck_assert_int_eq(product()->alignment,
                     2); // a batch's matrices start at odd multiples of 70 bytes
}
END_TEST

START_TEST(a_permuted_operand_is_a_transpose) {
    brim_value a = input("a", BRIM_F32, 2, 7, 5, 0, 0), b = input("b", BRIM_F32, 2, 7, 6, 0, 0);
    brim_output(brim_matmul(brim_permute(a, 1, 0), b), "y");
    lower(1);
    ASSERT_PRODUCT(5, 6, 7, 1, true, false);
    ck_assert_int_eq(product()->row_a, 5);
    ck_assert_int_eq(count(RECORD_LAUNCH), 0);
}
END_TEST

START_TEST(a_slice_has_the_rows_of_the_whole) {
    brim_value x = input("x", BRIM_F32, 2, 7, 12, 0, 0), w = input("w", BRIM_F32, 2, 4, 6, 0, 0);
    brim_output(brim_matmul(brim_slice(x, 1, 3, 4), w), "y");
    lower(1);
    ASSERT_PRODUCT(7, 6, 4, 1, false, false);
    ck_assert_int_eq(product()->row_a, 12);
    ck_assert_int_eq(product()->alignment, 4);
    ck_assert_int_eq(count(RECORD_LAUNCH), 0);
}
END_TEST

START_TEST(a_workspace_is_declared) {
    brim_value a = input("a", BRIM_F32, 2, 7, 5, 0, 0), b = input("b", BRIM_F32, 2, 5, 6, 0, 0);
    device.workspace = 1000;
    brim_output(brim_matmul(a, b), "y");
    lower(1);
    const program_record *r = record(RECORD_MATMUL, 0);
    ck_assert_int_eq(r->as.matmul.workspace_bytes, 1000);
    ck_assert_int_eq(r->accesses, 4);
    ck_assert(r->access[3].writes);
}
END_TEST

START_TEST(without_a_library_our_kernel_serves) {
    brim_value a = input("a", BRIM_F32, 2, 7, 5, 0, 0), b = input("b", BRIM_F32, 2, 5, 6, 0, 0);
    device.native = false;
    brim_output(brim_matmul(a, b), "y");
    lower(1);
    ck_assert_int_eq(count(RECORD_MATMUL), 0);
    ck_assert_int_ge(count(RECORD_LAUNCH), 1);
}
END_TEST

// ---- elementwise and views ----------------------------------------------------------------------

// In groups as the device has them, between 64 and 256.
START_TEST(our_kernel_has_the_device_s_groups) {
    static const int groups[][2] = {{1, 1}, {32, 64}, {64, 64}, {128, 128}, {512, 256}};
    brim_value a = input("a", BRIM_F32, 2, 70, 50, 0, 0), b = input("b", BRIM_F32, 2, 50, 60, 0, 0);
    device.native = false;
    device.traits.cpu = groups[_i][0] == 1;
    device.traits.group = groups[_i][0];
    device.traits.max_group = 1024;
    device.traits.vec = 4;
    brim_output(brim_matmul(a, b), "y");
    lower(1);
    const launch_record *launch = &record(RECORD_LAUNCH, 0)->as.launch;
    ck_assert_int_eq(low.program->kernel[launch->kernel].group, groups[_i][1]);
}
END_TEST

START_TEST(the_same_chain_is_one_kernel_at_every_size) {
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        brim_value x = input(name, BRIM_F32, 2, 3 + i, 40 + i, 0, 0);
        name[0] = 'y';
        brim_output(brim_gelu(brim_add(x, x)), name);
    }
    lower(1);
    ck_assert_int_eq(count(RECORD_LAUNCH), 3);
    ck_assert_int_eq(low.program->kernels, 1);
    ck_assert_str_eq(low.program->kernel[0].name, "chain_add_gelu");
    ck_assert_str_eq(low.program->kernel[0].defines, "-DVEC=16 -DGROUP=1 -DBRIM_CPU=1");
}
END_TEST

START_TEST(the_zeros_of_a_pad_are_written_once) {
    brim_value x = input("x", BRIM_F32, 2, 3, 4, 0, 0);
    brim_attr attr = {.start = {1, 2}};
    shape s = {2, {6, 9}};
    brim_output(graph_op_shaped(g, OP_PAD, &x, 1, &attr, BRIM_F32, &s), "y");
    lower(1);
    // Above, below, left, right, and the copy; in a chunk of memory no byte belongs to two of the
    // first four.
    ck_assert_int_eq(count(RECORD_LAUNCH), 5);
    int64_t top = record(RECORD_LAUNCH, 0)->access[0].range.bytes,
            bottom = record(RECORD_LAUNCH, 1)->access[0].range.bytes;
    ck_assert_int_eq(top, 9 * 4);
    ck_assert_int_eq(bottom, 2 * 9 * 4);
}
END_TEST

START_TEST(parts_of_a_concat_are_copied_unless_they_are_there) {
    brim_value x = input("x", BRIM_F32, 2, 3, 4, 0, 0), y = input("y", BRIM_F32, 2, 3, 4, 0, 0);
    brim_value parts[] = {brim_add(x, y), x};
    brim_output(brim_concat(parts, 2, 1), "z");
    lower(1);
    ck_assert_int_eq(count(RECORD_LAUNCH), 2); // the sum, written in place, and the copy of x
}
END_TEST

// An output that is not what the chain makes is a mistake of whoever made the chain.
START_TEST(outputs_of_a_chain_are_checked) {
    program_create(&low.program, &err);
    lowering l = {.traits = &device.traits, .program = low.program, .node_index = -1, .err = &err};
    operand x = {.dtype = BRIM_F32, .shape = {2, {2, 3}}, .stride = {3, 1}}, y[2] = {x, x};
    chain_step step[2] = {{.op = OP_NEG, .dtype = BRIM_F32, .operand = {~0}},
                          {.op = OP_CAST, .dtype = BRIM_F16, .operand = {0}}};
    chain c = {2, 2, step, (const int16_t[]){0, 1}};
    lower_chain(&l, &c, &x, 1, y);
    ASSERT_FAILS(err, BRIM_GRAPH, "output 1 of a chain is f32 [2, 3], not f16 [2, 3]");
    y[1].dtype = BRIM_F16;
    y[1].shape.dim[0] = 4;
    lower_chain(&l, &c, &x, 1, y);
    ASSERT_FAILS(err, BRIM_GRAPH, "output 1 of a chain is f16 [4, 3], not f16 [2, 3]");
    ck_assert_int_eq(low.program->records, 0);
}
END_TEST

// Copies of the plan's have lanes of their own, one for each way.
START_TEST(each_way_has_its_queue) {
    static const struct way {
        memory_space from, to;
        queue_id queue;
    } ways[] = {{SPACE_HOST, SPACE_DEVICE, QUEUE_IN},
                {SPACE_DEVICE, SPACE_HOST, QUEUE_OUT},
                {SPACE_FILE, SPACE_HOST, QUEUE_READ},
                {SPACE_HOST, SPACE_FILE, QUEUE_WRITE}};
    program_create(&low.program, &err);
    ASSERT_FINE(err);
    lowering l = {.graph = g,
                  .program = low.program,
                  .sections = SECTION_LAST,
                  .node_index = -1,
                  .err = &err};
    for (int i = 0; i < 4; i++) {
        lower_transfer(&l, (byte_range){ways[i].from, 64, 32}, (byte_range){ways[i].to, 128, 32},
                       "w");
        ASSERT_FINE(err);
        ck_assert_int_eq(record(RECORD_COPY, i)->queue, ways[i].queue);
        ck_assert_int_eq(record(RECORD_COPY, i)->as.copy.to.offset, 128);
    }
}
END_TEST

// Every row and element is one group's, and no group is without any.
START_TEST(splits_are_whole) {
    static const device_traits devices[] = {
        {.cpu = true, .vec = 16, .group = 1, .compute_units = 2},
        {.cpu = true, .vec = 16, .group = 1, .compute_units = 64},
        {.vec = 4, .group = 256, .compute_units = 40},
        {.vec = 1, .group = 64, .compute_units = 8},
    };
    static const int64_t sizes[] = {
        1, 2, 15, 16, 17, 1000, 100003, 1 << 20, 5000011, 400000009, (int64_t)1 << 33};
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const device_traits *t = &devices[d];
            int64_t n = sizes[i];
            row_split rows = split_rows(t, n, 7), flat = split_elements(t, n);
            ck_assert(rows.per >= 1 && flat.per >= 1);
            ck_assert(rows.per * rows.groups >= n && rows.per * (rows.groups - 1) < n);
            ck_assert(flat.per * flat.groups >= n && flat.per * (flat.groups - 1) < n);
            ck_assert_int_eq(flat.per % (t->group * t->vec), 0);
        }
}
END_TEST

Suite *lower_suite(void) {
    Suite *suite = suite_create("lower");
    TCase *staging = tcase_create("staging"), *matmul = tcase_create("matmul"),
          *views = tcase_create("elementwise");
    TCase *all[] = {staging, matmul, views};
    for (int i = 0; i < 3; i++) {
        tcase_add_checked_fixture(all[i], start, finish);
        suite_add_tcase(suite, all[i]);
    }
    tcase_add_test(staging, inputs_enter_and_results_leave);
    tcase_add_loop_test(staging, each_micro_batch_has_its_slot, 2, 5);
    tcase_add_test(staging, a_single_micro_batch_begins_the_sum);
    tcase_add_test(staging, control_values_are_one_copy);
    tcase_add_loop_test(staging, control_values_that_are_used, 0, 2);
    tcase_add_test(staging, outputs_of_a_chain_are_checked);
    tcase_add_test(staging, each_way_has_its_queue);
    tcase_add_test(matmul, a_batch_times_one_matrix_is_one_product);
    tcase_add_test(matmul, single_rows_in_a_batch_are_rows);
    tcase_add_test(matmul, batches_keep_their_strides);
    tcase_add_test(matmul, a_permuted_operand_is_a_transpose);
    tcase_add_test(matmul, a_slice_has_the_rows_of_the_whole);
    tcase_add_test(matmul, a_workspace_is_declared);
    tcase_add_test(matmul, without_a_library_our_kernel_serves);
    tcase_add_loop_test(matmul, our_kernel_has_the_device_s_groups, 0, 5);
    tcase_add_test(views, the_same_chain_is_one_kernel_at_every_size);
    tcase_add_test(views, the_zeros_of_a_pad_are_written_once);
    tcase_add_test(views, splits_are_whole);
    tcase_add_test(views, parts_of_a_concat_are_copied_unless_they_are_there);
    return suite;
}
