// What plans may take, from a user's budget and from what a device and the machine have free.
#include "backends/host_memory.h"
#include "optim/budget.h"
#include "tests/test_core.h"

#define MIB ((int64_t)1 << 20)
enum { ALIGNMENT = 256, ROUNDING = 2 * ALIGNMENT };

static brim_error err;
static device_traits device;

static const device_traits *traits(const backend_device *unused) {
    (void)unused;
    return &device;
}

static const backend some_backend = {.name = "some", .traits = traits};

static compile_target budget_of(const device_traits *t, const brim_trainer_options *options) {
    compile_target target = {.backend = &some_backend};
    device = *t;
    device.alignment = ALIGNMENT;
    budget_set(&target, options, &err);
    return target;
}

static device_traits gpu(const char *api, int64_t memory, int64_t free) {
    device_traits t = {.name = "some card",
                       .memory_bytes = memory * MIB,
                       .free_bytes = free < 0 ? -1 : free * MIB};
    snprintf(t.backend, sizeof t.backend, "%s", api);
    return t;
}

static device_traits cpu(int64_t free) {
    device_traits t = gpu("opencl", 65536, free);
    t.cpu = true;
    return t;
}

// A desktop keeps 256 MiB or three hundredths, modules 96 MiB; a context is 640 MiB at most.
START_TEST(devices_keep_something_for_others) {
    const struct {
        device_traits device;
        int64_t budget, overhead; // without roundings; budget 0: no limit
    } rows[] = {
        {cpu(4000), 4000 * MIB, 0},
        {cpu(-1), 0, 0},
        {cpu(0), 0, 0},
        {gpu("opencl", 4096, -1), 0, 0},
        {gpu("opencl", 4096, 4096), (4096 - 256 - 96) * MIB, 0},
        {gpu("cuda", 4096, 3584), (3584 - 256 - 96) * MIB, (512 + 96) * MIB},
        {gpu("cuda", 8192, 7552), (7552 - 256 - 96) * MIB, (640 + 96) * MIB},
        {gpu("cuda", 20000, 18000), (18000 - 600 - 96) * MIB, (640 + 96) * MIB},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        compile_target t = budget_of(&rows[i].device, &(brim_trainer_options){0});
        ASSERT_FINE(err);
        ck_assert_msg(t.budget[SPACE_DEVICE] == (rows[i].budget ? rows[i].budget - ROUNDING : 0),
                      "row %d: %lld", (int)i, (long long)t.budget[SPACE_DEVICE]);
        ck_assert_int_eq(t.overhead_bytes, rows[i].overhead + ROUNDING);
        // A budget of the user's is all of what the device loses to us.
        brim_trainer_options o = {.vram_bytes = rows[i].overhead + 100 * MIB};
        t = budget_of(&rows[i].device, &o);
        ASSERT_FINE(err);
        ck_assert_int_eq(t.budget[SPACE_DEVICE], 100 * MIB - ROUNDING);
        ck_assert_int_eq(t.overhead_bytes, rows[i].overhead + ROUNDING);
    }
    // Less than is kept is no room at all, but not "no limit".
    device_traits full = gpu("cuda", 4096, 300);
    ck_assert_int_eq(budget_of(&full, &(brim_trainer_options){0}).budget[SPACE_DEVICE], 1);
}
END_TEST

START_TEST(budgets_of_a_device_have_bounds) {
    device_traits t = gpu("cuda", 4096, 4000);
    const int64_t overhead = (96 + 96) * MIB;
    brim_trainer_options o = {.vram_bytes = 4096 * MIB};
    budget_of(&t, &o);
    ASSERT_FINE(err);
    o.vram_bytes++;
    budget_of(&t, &o);
    ASSERT_FAILS(err, BRIM_ARGUMENT,
                 "a budget of 4294967297 bytes of device memory, where some card has 4294967296");
    o.vram_bytes = overhead;
    budget_of(&t, &o);
    ASSERT_FAILS(err, BRIM_ARGUMENT,
                 "a budget of 201326592 bytes of device memory, of which some card takes 201326592 "
                 "before a plan begins");
    static const int64_t rooms[][2] = {
        {1, 1}, {ROUNDING, 1}, {ROUNDING + 1, 1}, {ROUNDING + 2, 2}, {ROUNDING + 700, 700}};
    for (int i = 0; i < 5; i++) {
        o.vram_bytes = overhead + rooms[i][0];
        compile_target target = budget_of(&t, &o);
        ASSERT_FINE(err);
        ck_assert_int_eq(target.budget[SPACE_DEVICE], rooms[i][1]);
    }
    t = gpu("opencl", 0, -1); // that does not say how much it has
    o.vram_bytes = 1ll << 50;
    ck_assert_int_eq(budget_of(&t, &o).budget[SPACE_DEVICE], (1ll << 50) - ROUNDING);
    ASSERT_FINE(err);
}
END_TEST

START_TEST(a_card_on_paper_is_all_ours) {
    brim_rates paper = {.memory_bytes = 4096 * MIB, .overhead_bytes = 300 * MIB};
    device_traits t = gpu("cuda", 4096, -1);
    brim_trainer_options o = {.paper = &paper};
    compile_target target = budget_of(&t, &o);
    ASSERT_FINE(err);
    ck_assert_int_eq(target.budget[SPACE_DEVICE], 3796 * MIB);
    ck_assert_int_eq(target.overhead_bytes, 300 * MIB + ROUNDING);
    ck_assert_int_eq(target.budget[SPACE_HOST], 0);
    o.vram_bytes = 1000 * MIB;
    o.ram_bytes = 1ll << 60; // more than any machine has
    target = budget_of(&t, &o);
    ASSERT_FINE(err);
    ck_assert_int_eq(target.budget[SPACE_DEVICE], 700 * MIB - ROUNDING);
    ck_assert_int_eq(target.budget[SPACE_HOST], 1ll << 60);
}
END_TEST

// Nine tenths of what is free, but for what others take and give back meanwhile: of the main
// memory's budget and `more`.
static void check_host_share(const device_traits *t, const brim_trainer_options *o, int64_t more) {
    int64_t before = host_memory_available(), budget = budget_of(t, o).budget[SPACE_HOST] + more;
    int64_t after = host_memory_available(), least = before < after ? before : after;
    ck_assert(budget > least / 100 * 85);
    ck_assert(budget < (before + after - least) / 100 * 95);
}

START_TEST(the_host_keeps_something_for_others) {
    int64_t there = host_memory_available();
    if (there < 64 * MIB) return; // unknown, or too little for shares
    device_traits card = gpu("opencl", 4096, -1), host = cpu(-1);
    brim_trainer_options o = {0};
    check_host_share(&card, &o, 0);
    check_host_share(&host, &o, 0);
    o.vram_bytes = there / 2;
    host.memory_bytes = card.memory_bytes = 1ll << 50;
    check_host_share(&card, &o, 0);
    check_host_share(&host, &o, there / 2); // where the device is the host, both are of its memory
    o.vram_bytes = 2 * there;
    check_host_share(&host, &o, 0);
    ASSERT_FINE(err);
    o.ram_bytes = 3 * MIB;
    ck_assert_int_eq(budget_of(&host, &o).budget[SPACE_HOST], 3 * MIB);
    ck_assert_int_eq(budget_of(&card, &o).budget[SPACE_HOST], 3 * MIB);
    ASSERT_FINE(err);
    o.ram_bytes = 1ll << 60;
    budget_of(&card, &o);
    ASSERT_FAILS(err, BRIM_ARGUMENT,
                 "a budget of 1152921504606846976 bytes of main memory, of which ");
}
END_TEST

START_TEST(a_disk_is_used_where_one_is_named) {
    device_traits t = cpu(-1);
    brim_trainer_options o = {.ram_bytes = MIB, .disk_bytes = 5 * MIB};
    ck_assert_int_eq(budget_of(&t, &o).budget[SPACE_FILE], 0);
    o.disk = "/tmp";
    ck_assert_int_eq(budget_of(&t, &o).budget[SPACE_FILE], 5 * MIB);
    brim_fail(&err, BRIM_IO, "before");
    ck_assert_int_eq(budget_of(&t, &o).budget[SPACE_FILE], 0);
    ck_assert_int_eq(err.status, BRIM_IO);
    err = (brim_error){0};
}
END_TEST

START_TEST(usual_rates_are_of_a_common_machine) {
    const brim_rates expected[] = {{.memory = 300e9,
                                    .matmul_16 = 30e12,
                                    .matmul_32 = 10e12,
                                    .link_in = 12e9,
                                    .link_out = 12e9,
                                    .link_both = 20e9,
                                    .host = 30e9,
                                    .launch = 4e-6},
                                   {.memory = 15e9,
                                    .matmul_16 = 100e9,
                                    .matmul_32 = 150e9,
                                    .link_in = 8e9,
                                    .link_out = 8e9,
                                    .link_both = 8e9,
                                    .host = 15e9,
                                    .launch = 5e-6}};
    for (int is_cpu = 0; is_cpu < 2; is_cpu++) {
        device_traits t = gpu("opencl", 4096, -1);
        t.cpu = is_cpu;
        brim_rates r = budget_usual_rates(&t), e = expected[is_cpu];
        ck_assert(r.memory == e.memory && r.host == e.host && r.launch == e.launch);
        ck_assert(r.matmul_16 == e.matmul_16 && r.matmul_32 == e.matmul_32);
        ck_assert(r.link_in == e.link_in && r.link_out == e.link_out);
        ck_assert(r.link_both == e.link_both);
        ck_assert(r.disk_read == 1.5e9 && r.disk_write == 1e9);
        ck_assert_int_eq(r.memory_bytes, 4096 * MIB);
        ck_assert_int_eq(r.overhead_bytes, 0);
        ck_assert_str_eq(r.name, "some card");
    }
}
END_TEST

Suite *budget_suite(void) {
    Suite *s = suite_create("budget");
    TCase *tests = tcase_create("budget");
    tcase_add_test(tests, devices_keep_something_for_others);
    tcase_add_test(tests, budgets_of_a_device_have_bounds);
    tcase_add_test(tests, a_card_on_paper_is_all_ours);
    tcase_add_test(tests, the_host_keeps_something_for_others);
    tcase_add_test(tests, a_disk_is_used_where_one_is_named);
    tcase_add_test(tests, usual_rates_are_of_a_common_machine);
    suite_add_tcase(s, tests);
    return s;
}
