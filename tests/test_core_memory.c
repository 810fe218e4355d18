#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <wchar.h>
#include "core/alloc.h"
#include "core/arena.h"
#include "core/size.h"
#include "core/strbuf.h"
#include "test_core.h"
#include "tests/allocations.h"

START_TEST(sizes_do_not_wrap) {
    size_t size;
    int64_t i64;
    ck_assert(size_add(SIZE_MAX - 1, 1, &size) && size == SIZE_MAX);
    ck_assert(!size_add(SIZE_MAX, 1, &size));
    ck_assert(size_mul(SIZE_MAX / 2, 2, &size) && size == SIZE_MAX - 1);
    ck_assert(!size_mul(SIZE_MAX / 2 + 1, 2, &size));
    ck_assert(i64_add(INT64_MAX, INT64_MIN, &i64) && i64 == -1);
    ck_assert(!i64_add(INT64_MAX, 1, &i64));
    ck_assert(!i64_add(INT64_MIN, -1, &i64));
    ck_assert(!i64_mul(INT64_MIN, -1, &i64));
    ck_assert(!i64_mul((int64_t)1 << 32, (int64_t)1 << 31, &i64));
    ck_assert(i64_mul((int64_t)1 << 31, (int64_t)1 << 31, &i64) && i64 == (int64_t)1 << 62);
    ck_assert(size_align(0, 64, &size) && size == 0);
    ck_assert(size_align(65, 64, &size) && size == 128);
    ck_assert(!size_align(SIZE_MAX - 5, 64, &size));
    ck_assert(i64_align(64, 64, &i64) && i64 == 64);
    ck_assert(!i64_align(INT64_MAX, 2, &i64));
}
END_TEST

START_TEST(arrays_are_zeroed_and_checked) {
    brim_error err = {0};
    int *array = brim_calloc_array(100, sizeof *array, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 100; i++) ck_assert_int_eq(array[i], 0);
    free(array);
    void *empty = brim_calloc_array(0, 8, &err);
    ck_assert_ptr_nonnull(empty);
    free(empty);
    ck_assert_ptr_null(brim_calloc_array(SIZE_MAX / 4, 8, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "8 bytes");
    ck_assert_ptr_null(brim_calloc_array(SIZE_MAX, 1, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "more than memory");
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_ptr_null(brim_calloc_array(1, 1, &err));
    ck_assert_ptr_null(brim_strdup("x", &err));
    ASSERT_FAILS(err, BRIM_IO, "earlier");
}
END_TEST

// What the system does not give is said, with its size, and nothing else changes.
START_TEST(memory_that_is_not_there) {
    brim_error err = {0};
    allocations taken;
    int *array = NULL;
    size_t capacity = 0;
    allocations_begin(1);
    void *none = brim_calloc_array(3, 4, &err);
    allocations_end(&taken);
    ck_assert_ptr_null(none);
    ASSERT_FAILS(err, BRIM_MEMORY, "host memory does not suffice for 12 bytes");
    for (int held = 0; held < 2; held++) {
        int *before = array;
        size_t capacity_before = capacity;
        allocations_begin(1);
        bool grown = brim_grow((void **)&array, &capacity, 100, sizeof *array, &err);
        allocations_end(&taken);
        ck_assert(!grown && array == before && capacity == capacity_before);
        ASSERT_FAILS(err, BRIM_MEMORY, "host memory does not suffice for 400 bytes");
        ck_assert(brim_grow((void **)&array, &capacity, 3, sizeof *array, &err));
    }
    free(array);
    allocations_begin(1);
    char *text = brim_strdup("text", &err);
    allocations_end(&taken);
    ck_assert_ptr_null(text);
    ASSERT_FAILS(err, BRIM_MEMORY, "5 bytes");
}
END_TEST

// A first element makes room for eight; what is larger has just its room.
START_TEST(first_capacities) {
    static const size_t cases[][2] = {{1, 8}, {7, 8}, {8, 8}, {9, 9}, {100, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_error err = {0};
        char *array = NULL;
        size_t capacity = 0;
        ck_assert(brim_grow((void **)&array, &capacity, cases[i][0], 1, &err));
        ck_assert_uint_eq(capacity, cases[i][1]);
        free(array);
    }
}
END_TEST

START_TEST(arrays_grow) {
    brim_error err = {0};
    int *array = NULL;
    size_t capacity = 0, growths = 0;
    for (size_t i = 0; i < 100000; i++) {
        size_t before = capacity;
        ck_assert(brim_grow((void **)&array, &capacity, i + 1, sizeof *array, &err));
        growths += capacity != before;
        ck_assert_uint_le(capacity, before + before / 2 + (before ? 0 : 8));
        ck_assert_int_eq(array[i], 0);
        array[i] = (int)i + 1;
    }
    for (int i = 0; i < 100000; i++) ck_assert_int_eq(array[i], i + 1);
    ck_assert_uint_lt(growths, 40);

    int *same = array;
    size_t held = capacity;
    ck_assert(brim_grow((void **)&array, &capacity, held, sizeof *array, &err));
    ck_assert_uint_eq(capacity, held);
    ck_assert(!brim_grow((void **)&array, &capacity, SIZE_MAX / 2, sizeof *array, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "4 bytes");
    ck_assert_ptr_eq(array, same);
    ck_assert_uint_eq(capacity, held);
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert(!brim_grow((void **)&array, &capacity, 1, sizeof *array, &err));
    free(array);
}
END_TEST

static bool all_bytes_are(const unsigned char *bytes, size_t count, unsigned char value) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != value) return false;
    }
    return true;
}

START_TEST(arena_keeps_everything) {
    enum { N = 5000 };
    static unsigned char *parts[N];
    static size_t sizes[N];
    brim_error err = {0};
    arena memory = {0};
    for (size_t i = 0; i < N; i++) {
        sizes[i] = i % 97 == 0 ? 30000 : i % 61;
        parts[i] = arena_alloc(&memory, sizes[i], &err);
        ASSERT_FINE(err);
        ck_assert_uint_eq((uintptr_t)parts[i] % alignof(max_align_t), 0);
        ck_assert(all_bytes_are(parts[i], sizes[i], 0));
        memset(parts[i], (unsigned char)i, sizes[i]);
    }
    for (size_t i = 0; i < N; i++) ck_assert(all_bytes_are(parts[i], sizes[i], (unsigned char)i));
    arena_free(&memory);
    ck_assert_ptr_null(memory.blocks);
    arena_free(&memory);
}
END_TEST

// Blocks double from 4 KiB to 1 MiB and are filled to their ends; all of them are given back.
START_TEST(arena_takes_few_blocks) {
    enum { PIECE = 16, PAGE = 4096, MOST = 1 << 20, DOUBLED = 255 * PAGE, MIB = 4 };
    static const struct {
        size_t bytes; // taken in pieces, all in all
        long blocks;
    } cases[] = {{PIECE, 1},          {PAGE, 1},
                 {PAGE + PIECE, 2},   {3 * PAGE, 2},
                 {DOUBLED, 8},        {DOUBLED + PIECE, 9},
                 {DOUBLED + MOST, 9}, {DOUBLED + 4 * MOST, 12}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_error err = {0};
        arena memory = {0};
        allocations taken, freed;
        allocations_begin(0);
        for (size_t k = 0; k < cases[i].bytes / PIECE; k++) arena_alloc(&memory, PIECE, &err);
        allocations_end(&taken);
        ck_assert_int_eq(taken.calls, cases[i].blocks);
        allocations_begin(0);
        arena_free(&memory);
        allocations_end(&freed);
        ck_assert_int_eq(freed.freed, cases[i].blocks);
        ASSERT_FINE(err);
    }
    brim_error err = {0};
    arena memory = {0};
    allocations taken;
    allocations_begin(1);
    void *none = arena_alloc(&memory, 100, &err);
    allocations_end(&taken);
    ck_assert(!none && !memory.blocks);
    ASSERT_FAILS(err, BRIM_MEMORY, "host memory does not suffice");
}
END_TEST

// Whatever its length, a text reaches as far as its NUL, and what comes next begins behind it, as
// near as its alignment allows.
START_TEST(arena_texts_lie_side_by_side) {
    enum { LONGEST = 100, ALIGNMENT = alignof(max_align_t) };
    char letters[LONGEST + 1];
    memset(letters, 'x', sizeof letters);
    for (int length = 0; length <= LONGEST; length++) {
        brim_error err = {0};
        arena memory = {0};
        char *first = arena_printf(&memory, &err, "%.*s", length, letters);
        char *second = arena_strndup(&memory, letters, (size_t)length, &err);
        char *next = arena_alloc(&memory, 1, &err);
        *next = 'y';
        ASSERT_FINE(err);
        ck_assert_uint_eq(strlen(first), length);
        ck_assert_uint_eq(strlen(second), length);
        ck_assert_int_eq(second - first, (length + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
        ck_assert_int_eq(next - second, second - first);
        arena_free(&memory);
    }
}
END_TEST

// No character of the C locale.
static const wint_t euro = 0x20ac;

START_TEST(texts_that_cannot_be_printed) {
    brim_error err = {0};
    arena memory = {0};
    ck_assert_ptr_null(arena_printf(&memory, &err, "%lc", euro));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "text format \"%lc\" cannot be printed");
    arena_free(&memory);
    strbuf out = {.err = &err};
    strbuf_printf(&out, "%lc", euro);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "text format \"%lc\" cannot be printed");
    strbuf_printf(&out, "%s", ""); // nothing is no mistake
    strbuf_puts(&out, "x");
    ck_assert_str_eq(strbuf_text(&out), "x");
    strbuf_free(&out);
    ck_assert_int_eq(brim_fail(&err, BRIM_SHAPE, "%lc", euro), BRIM_SHAPE);
    ck_assert_str_eq(err.text, "");
    brim_error_prefix(&err, "%lc", euro);
    ck_assert_str_eq(err.text, "");
}
END_TEST

START_TEST(arena_texts) {
    brim_error err = {0};
    arena memory = {0};
    ck_assert_str_eq(arena_strdup(&memory, "", &err), "");
    ck_assert_str_eq(arena_strdup(&memory, "weight", &err), "weight");
    ck_assert_str_eq(arena_strndup(&memory, "weight", 3, &err), "wei");
    ck_assert_str_eq(arena_strndup(&memory, "weight", SIZE_MAX, &err), "weight");
    ck_assert_str_eq(arena_printf(&memory, &err, "h.%d.%s", 3, "up"), "h.3.up");
    ck_assert_uint_eq(strlen(arena_printf(&memory, &err, "%20000d", 1)), 20000);
    ASSERT_FINE(err);
    arena_free(&memory);
}
END_TEST

START_TEST(arena_refuses_what_does_not_fit) {
    brim_error err = {0};
    arena memory = {0};
    ck_assert_ptr_null(arena_alloc(&memory, SIZE_MAX, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "more than memory");
    ck_assert_ptr_null(arena_alloc(&memory, SIZE_MAX - 31, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "more than memory");
    ck_assert_ptr_null(arena_array(&memory, SIZE_MAX / 2, 3, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "3 bytes");
    ck_assert_ptr_nonnull(arena_array(&memory, 10, 3, &err));
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_ptr_null(arena_alloc(&memory, 1, &err));
    ck_assert_ptr_null(arena_printf(&memory, &err, "x"));
    arena_free(&memory);
}
END_TEST

START_TEST(strbuf_grows) {
    brim_error err = {0};
    strbuf out = {.err = &err};
    ck_assert_str_eq(strbuf_text(&out), "");
    for (int i = 0; i < 1000; i++) strbuf_printf(&out, "%d,", i);
    strbuf_puts(&out, "end");
    strbuf_putc(&out, '.');
    strbuf_append(&out, "a\0b", 3);
    ASSERT_FINE(err);
    ck_assert_uint_eq(out.length, 10 * 2 + 90 * 3 + 900 * 4 + 4 + 3);
    ck_assert_int_eq(strncmp(out.text, "0,1,2,3,", 8), 0);
    ck_assert_mem_eq(out.text + out.length - 7, "end.a\0b", 8);
    strbuf_clear(&out);
    ck_assert_str_eq(strbuf_text(&out), "");
    strbuf_puts(&out, "again");
    char *text = strbuf_take(&out);
    ck_assert_str_eq(text, "again");
    free(text);
    text = strbuf_take(&out);
    ck_assert_str_eq(text, "");
    free(text);
    strbuf_free(&out);
}
END_TEST

START_TEST(strbuf_remembers_an_error) {
    brim_error err = {0};
    strbuf out = {.err = &err};
    strbuf_puts(&out, "before");
    strbuf_append(&out, "", SIZE_MAX - 3);
    ASSERT_FAILS(err, BRIM_MEMORY, "more than memory");
    brim_fail(&err, BRIM_IO, "earlier");
    strbuf_puts(&out, "after");
    ck_assert_str_eq(strbuf_text(&out), "before");
    ck_assert_ptr_null(strbuf_take(&out));
    ck_assert_ptr_null(out.text);
}
END_TEST

Suite *core_memory_suite(void) {
    Suite *suite = suite_create("core/memory");
    TCase *tests = tcase_create("memory");
    tcase_add_test(tests, sizes_do_not_wrap);
    tcase_add_test(tests, arrays_are_zeroed_and_checked);
    tcase_add_test(tests, memory_that_is_not_there);
    tcase_add_test(tests, first_capacities);
    tcase_add_test(tests, arrays_grow);
    tcase_add_test(tests, arena_keeps_everything);
    tcase_add_test(tests, arena_takes_few_blocks);
    tcase_add_test(tests, arena_texts_lie_side_by_side);
    tcase_add_test(tests, texts_that_cannot_be_printed);
    tcase_add_test(tests, arena_texts);
    tcase_add_test(tests, arena_refuses_what_does_not_fit);
    tcase_add_test(tests, strbuf_grows);
    tcase_add_test(tests, strbuf_remembers_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}
