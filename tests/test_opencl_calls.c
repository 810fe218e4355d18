// Calls of OpenCL's driver that fail, one after another: each is told, or does not matter to the
// bits; and whatever was made by then is released.
#include "graph/graph.h"
#include "tests/devices.h"
#include "tests/driver_calls.h"
#include "tests/random_run.h"
#include "tests/test_core.h"

#ifdef BRIM_OPENCL_BUILT
#include "backends/opencl/device.h"

static brim_error err;

static void begin(void) {
    err = (brim_error){0};
    random_run_hold(QUEUE_COUNT, 1);
}

static program *make_program(void) {
    random_program_size size = {24, 2, 24};
    program *p = random_program(3, size, &err); // 3: timed, and now and then one record at a time
    program_order(p, &err);
    ASSERT_FINE(err);
    return p;
}

// All devices of the driver, but for those that run built-in kernels only: asked without the
// backend, so that one which finds none does not look like a machine without any.
START_TEST(all_devices_are_found) {
    opencl_driver cl;
    char why[300];
    cl_platform_id platform[8];
    cl_uint platforms = 0, all = 0;
    if (!opencl_driver_open(&cl, &err)) return;
    cl.clGetPlatformIDs(8, platform, &platforms);
    for (cl_uint i = 0; i < platforms && i < 8; i++) {
        cl_uint count = 0;
        cl.clGetDeviceIDs(platform[i],
                          CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR, 0,
                          NULL, &count);
        all += count;
    }
    opencl_driver_close(&cl);
    ck_assert_int_eq(opencl_backend.count(why, sizeof why), (int)all);
}
END_TEST

START_TEST(failures_have_names) {
    static const struct {
        cl_int code;
        brim_status status;
        const char *said;
    } rows[] = {
        {CL_DEVICE_NOT_FOUND, BRIM_DEVICE, "OpenCL: clX failed with CL_DEVICE_NOT_FOUND (-1)"},
        {CL_MEM_OBJECT_ALLOCATION_FAILURE, BRIM_MEMORY, "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)"},
        {CL_OUT_OF_RESOURCES, BRIM_DEVICE, "CL_OUT_OF_RESOURCES (-5)"},
        {CL_OUT_OF_HOST_MEMORY, BRIM_MEMORY, "CL_OUT_OF_HOST_MEMORY (-6)"},
        {CL_INVALID_PROPERTY, BRIM_DEVICE, "CL_INVALID_PROPERTY (-64)"},
        {-9999, BRIM_DEVICE, "failed with unknown code (-9999)"},
    };
    ck_assert(opencl_check(CL_SUCCESS, "clX", &err));
    ASSERT_FINE(err);
    ck_assert_str_eq(opencl_status_name(CL_SUCCESS), "CL_SUCCESS");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(!opencl_check(rows[i].code, "clX", &err));
        ASSERT_FAILS(err, rows[i].status, rows[i].said);
    }
}
END_TEST

// A device is opened and used for all that it is there for, until something fails. Returns where
// its bytes are others.
static const char *use_device(bool separate, program *p) {
    random_target t = {NULL, NULL};
    const char *difference = "";
    const device_settings settings = {.separate_queues = separate,
                                      .cache_dir = separate ? test_directory : ""};
    memory_request request = {p->device_bytes, p->host_bytes, p->file_bytes, test_directory};
    if (backend_open("opencl:0", &settings, &t.api, &t.device, &err) == BRIM_OK) {
        double seconds[24];
        loaded_program *loaded = NULL;
        t.api->reserve(t.device, &request, &err);
        if (!failed(&err))
            difference = random_run(&t, &p, 1, RANDOM_STEPS * p->micro_batches, 3, &err);
        t.api->load(t.device, p, &loaded, &err);
        if (!failed(&err)) t.api->profile(loaded, SECTION_LAST, seconds, &err);
        t.api->unload(loaded);
        t.api->close(t.device);
    }
    return difference;
}

// A device that is not found is asked for no more, and a compiler is believed.
static bool names_itself(const char *function) {
    return strcmp(function, "clGetPlatformIDs") != 0 && strcmp(function, "clGetDeviceIDs") != 0 &&
           strcmp(function, "clBuildProgram") != 0;
}

static int fail_call(bool separate, program *p, int place, int call) {
    const char *function;
    driver_calls_count();
    driver_calls_of(place, &function);
    driver_calls_fail(place, call);
    const char *difference = use_device(separate, p);
    bool told = failed(&err);
    if (!driver_calls_failed()) ASSERT_FINE(err); // some waits depend on who is late
    ck_assert_msg(!*driver_calls_left(), "%s failed: not released: %s", function,
                  driver_calls_left());
    ck_assert_msg(!*difference, "%s failed: %s", function, difference);
    if (told && names_itself(function)) ck_assert_ptr_nonnull(strstr(err.text, function));
    ck_assert_ptr_null(strchr(err.text, '\n'));
    err = (brim_error){0};
    return told;
}

// The first call from each place, and the last. With one queue and without a cache; and with more,
// and kernels that are in the cache.
START_TEST(each_call_may_fail) {
    if (!device_under_test(0)) return;
    program *p = make_program();
    int last[DRIVER_MOST_PLACES], told = 0;
    const char *function;
    for (int i = 0; i < 2; i++) { // the second time the cache is full
        driver_calls_count();
        ck_assert_str_eq(use_device(_i, p), "");
        ASSERT_FINE(err);
        ck_assert_str_eq(driver_calls_left(), "");
    }
    int places = driver_calls_places();
    for (int i = 0; i < places; i++) last[i] = driver_calls_of(i, &function);
    for (int i = 0; i < places; i++) {
        if (last[i] > 0) told += fail_call(_i, p, i, 1);
        if (last[i] > 1) told += fail_call(_i, p, i, last[i]);
    }
    ck_assert_int_gt(told, 30);
    program_free(p);
}
END_TEST

#endif

Suite *opencl_calls_suite(void) {
    Suite *suite = suite_create("opencl_calls");
    TCase *tests = tcase_create("opencl_calls");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_set_timeout(tests, 120);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_add_test(tests, failures_have_names);
    tcase_add_test(tests, all_devices_are_found);
    tcase_add_loop_test(tests, each_call_may_fail, 0, 2);
#endif
    suite_add_tcase(suite, tests);
    return suite;
}
