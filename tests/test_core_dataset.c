#include <sys/stat.h>
#include <zlib.h>
#include <brim/data.h>
#include "test_core.h"

// One file of llm.c's token format, built field by field.
static const char *token_file(const char *name, const int32_t header[3], const uint16_t *tokens,
                              size_t bytes_of_tokens) {
    static unsigned char data[4096];
    memset(data, 0, sizeof data);
    memcpy(data, header,
           3 * sizeof *header); // the tests, unlike the library, may assume little-endian
    memcpy(data + 1024, tokens, bytes_of_tokens);
    return test_file(name, data, 1024 + bytes_of_tokens);
}

static size_t gzip(const void *text, size_t size, unsigned char *out, size_t capacity) {
    z_stream stream = {0};
    ck_assert_int_eq(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (z_const Bytef *)text;
    stream.avail_in = (uInt)size;
    stream.next_out = out;
    stream.avail_out = (uInt)capacity;
    ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

static brim_dataset *open_one(const char *path, brim_error *err) {
    return brim_dataset_open(&path, 1, err);
}

static void assert_refused(const char *path, brim_status status, const char *part) {
    brim_error err = {0};
    ck_assert_ptr_null(open_one(path, &err));
    ck_assert_msg(strstr(err.text, path) != NULL, "the file is not named: %s", err.text);
    ASSERT_FAILS(err, status, part);
}

START_TEST(text_is_bytes) {
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("a.txt", "a\xc3\xa4\n\0z", 6), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_kind_of(data), BRIM_DATA_TEXT);
    ck_assert_int_eq(brim_dataset_count(data), 6);
    ck_assert_int_eq(brim_dataset_token_limit(data), 256);
    int32_t tokens[6];
    const int32_t expected[6] = {'a', 0xc3, 0xa4, '\n', 0, 'z'};
    ck_assert(brim_dataset_read(data, 0, tokens, 6, &err));
    ck_assert_mem_eq(tokens, expected, sizeof tokens);
    ck_assert_int_eq(brim_dataset_max_token(data, NULL, NULL), 0xc3);
    brim_dataset_close(data);
}
END_TEST

START_TEST(files_form_one_stream) {
    char names[3][160];
    strcpy(names[0], test_file("1.txt", "abc", 3));
    strcpy(names[1], test_file("2.txt", "d", 1));
    unsigned char packed[100];
    size_t size = gzip("efgh", 4, packed, sizeof packed);
    strcpy(names[2], test_file("3.txt", packed, size));
    const char *paths[] = {names[0], names[1], names[2]};
    brim_error err = {0};
    brim_dataset *data = brim_dataset_open(paths, 3, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_count(data), 8);
    for (int64_t from = 0; from <= 8; from++) {
        for (int64_t count = 0; count <= 8 - from; count++) {
            int32_t tokens[9] = {0};
            ck_assert(brim_dataset_read(data, from, tokens, count, &err));
            for (int64_t i = 0; i < count; i++) ck_assert_int_eq(tokens[i], 'a' + from + i);
            ck_assert_int_eq(tokens[count], 0);
        }
    }
    int64_t within;
    ck_assert_str_eq(brim_dataset_locate(data, 3, &within), names[1]);
    ck_assert_int_eq(within, 0);
    ck_assert_str_eq(brim_dataset_locate(data, 7, &within), names[2]);
    ck_assert_int_eq(within, 3);
    brim_dataset_close(data);
}
END_TEST

START_TEST(reads_stay_inside) {
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("a.txt", "abcd", 4), &err);
    int32_t tokens[8] = {7, 7, 7, 7, 7, 7, 7, 7};
    static const int64_t wrong[][2] = {{0, 5},  {4, 1},         {-1, 2},        {5, 0},
                                       {2, -1}, {INT64_MAX, 2}, {2, INT64_MAX}, {INT64_MIN, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert(!brim_dataset_read(data, wrong[i][0], tokens, wrong[i][1], &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, "not inside the 4");
    }
    ck_assert_int_eq(tokens[0], 7);
    ck_assert(brim_dataset_read(data, 4, tokens, 0, &err));
    brim_dataset_close(data);
}
END_TEST

static int64_t calls, last_done;

static void count_calls(void *user, int64_t done, int64_t total) {
    ck_assert_str_eq(user, "user");
    ck_assert(done > last_done && done <= total);
    last_done = done;
    calls++;
}

START_TEST(token_files) {
    brim_error err = {0};
    const uint16_t tokens[] = {0, 65535, 1000, 256};
    const int32_t header[] = {20240520, 1, 4};
    brim_dataset *data = open_one(token_file("t.bin", header, tokens, 8), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_kind_of(data), BRIM_DATA_TOKENS);
    ck_assert_int_eq(brim_dataset_count(data), 4);
    ck_assert_int_eq(brim_dataset_token_limit(data), 65536);
    int32_t read[4];
    ck_assert(brim_dataset_read(data, 0, read, 4, &err));
    for (int i = 0; i < 4; i++) ck_assert_int_eq(read[i], tokens[i]);
    ck_assert_int_eq(brim_dataset_max_token(data, count_calls, "user"), 65535);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(last_done, 4);
    brim_dataset_close(data);

    data = open_one(token_file("told-by-magic", header, tokens, 8), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_kind_of(data), BRIM_DATA_TOKENS);
    brim_dataset_close(data);
}
END_TEST

START_TEST(wrong_token_files) {
    const uint16_t tokens[] = {0, 65535, 1000, 256};
    static const struct {
        int32_t header[3];
        size_t bytes;
        const char *part;
    } cases[] = {
        {{20240801, 1, 4}, 8, "field 0 (magic) is 20240801, expected 20240520"},
        {{20240520, 7, 4}, 8, "field 1 (version) is 7, expected 1"},
        {{20240520, 1, 0}, 8, "field 2 (tokens) is 0"},
        {{20240520, 1, -4}, 8, "field 2 (tokens) is -4"},
        {{20240520, 1, 5}, 8, "would have 1034 bytes; it has 1032"},
        {{20240520, 1, 3}, 8, "would have 1030 bytes; it has 1032"},
        {{20240520, 1, 4}, 7, "would have 1032 bytes; it has 1031"},
        {{20240520, 1, INT32_MAX}, 8, "would have 4294968318 bytes"},
        {{20240520, 1, 4}, 0, "it has 1024"},
        {{20240520 + (1 << 24), 1, 4}, 8, "field 0 (magic) is 37017736, expected 20240520"},
        {{20240520, 0x01020304, 4}, 8, "field 1 (version) is 16909060"},
        {{20240520, 1, 0x00030201}, 8, "field 2 (tokens) is 197121"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_refused(token_file("t.bin", cases[i].header, tokens, cases[i].bytes), BRIM_FORMAT,
                       cases[i].part);
    }
    assert_refused(test_file("short.bin", "\x88\xd8\x34\x01", 4), BRIM_FORMAT, "4 bytes");
    assert_refused(test_file("short", "\x88\xd8\x34\x01", 4), BRIM_FORMAT, "header of 1024");
    assert_refused(test_file("empty.bin", "", 0), BRIM_FORMAT, "0 bytes");
    assert_refused(test_file("text.bin", "text", 4), BRIM_FORMAT, "4 bytes");
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("text-bin", "\x88\xd8\x34", 3), &err);
    ASSERT_FINE(err); // three bytes are no magic number, and -bin no end of a name
    ck_assert_int_eq(brim_dataset_kind_of(data), BRIM_DATA_TEXT);
    brim_dataset_close(data);
}
END_TEST

START_TEST(wrong_lists_of_files) {
    brim_error err = {0};
    ck_assert_ptr_null(brim_dataset_open(NULL, 0, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "no data file");
    const uint16_t tokens[] = {1};
    const int32_t header[] = {20240520, 1, 1};
    char names[2][160];
    strcpy(names[0], test_file("a.txt", "text", 4));
    strcpy(names[1], token_file("b.bin", header, tokens, 2));
    const char *mixed[] = {names[0], names[1]};
    ck_assert_ptr_null(brim_dataset_open(mixed, 2, &err));
    ck_assert_ptr_nonnull(strstr(err.text, names[0]));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "b.bin is a token file but");
    const char *mixed_back[] = {names[1], names[0]};
    ck_assert_ptr_null(brim_dataset_open(mixed_back, 2, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "a.txt is text but");
    const char *with_missing[] = {names[0], "/nonexistent/file"};
    ck_assert_ptr_null(brim_dataset_open(with_missing, 2, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/file cannot be opened: No such file");
}
END_TEST

START_TEST(what_is_no_text) {
    assert_refused(test_file("empty.txt", "", 0), BRIM_FORMAT, "is empty");
    assert_refused(test_directory, BRIM_IO, "is a directory");
    ck_assert_int_eq(mkfifo(test_path("pipe"), 0600), 0);
    assert_refused(test_path("pipe"), BRIM_IO, "not a regular file");
    assert_refused(test_file("a.zst", "\x28\xb5\x2f\xfd\0\0", 6), BRIM_FORMAT, "zstd");
    assert_refused(test_file("a.xz",
                             "\xfd"
                             "7zXZ\0",
                             6),
                   BRIM_FORMAT, "xz");
    assert_refused(test_file("a.txt",
                             "\xff\xfe"
                             "a\0",
                             4),
                   BRIM_FORMAT, "UTF-16");
    unsigned char packed[100];
    assert_refused(test_file("e.gz", packed, gzip("", 0, packed, 100)), BRIM_FORMAT, "is empty");
    size_t size = gzip("\x88\xd8\x34\x01rest", 8, packed, sizeof packed);
    assert_refused(test_file("t.bin.gz", packed, size), BRIM_FORMAT, "token file in gzip");
    brim_error err = {0};
    brim_dataset *data =
        open_one(test_file("B.txt", "B", 1), &err); // shorter than any magic number
    ASSERT_FINE(err);
    brim_dataset_close(data);
}
END_TEST

// What begins as a file of another kind is refused, be it no longer than that; what only looks like
// it is text.
START_TEST(beginnings_of_other_formats) {
    static const struct {
        const char *beginning, *name;
    } cases[] = {
        {"\x28\xb5\x2f\xfd", "compressed by zstd"},
        {"\xfd"
         "7zXZ",
         "compressed by xz"},
        {"BZh", "compressed by bzip2"},
        {"PK\x03\x04", "a zip archive"},
        {"\x04\x22\x4d\x18", "compressed by lz4"},
        {"\xff\xfe", "in UTF-16"},
        {"\xfe\xff", "in UTF-16"},
        {"PAR1", "in Parquet"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[20];
        size_t length = strlen(cases[i].beginning);
        snprintf(text, sizeof text, "%s and more", cases[i].beginning);
        assert_refused(test_file("other", text, length), BRIM_FORMAT, cases[i].name);
        assert_refused(test_file("other", text, strlen(text)), BRIM_FORMAT, cases[i].name);
        for (int shorter = 0; shorter < 2; shorter++) {
            brim_error err = {0};
            text[length - 1] = 'x';
            size_t size = shorter ? length - 1 : strlen(text);
            brim_dataset *data = open_one(test_file("other", text, size), &err);
            ASSERT_FINE(err);
            ck_assert_int_eq(brim_dataset_count(data), (int64_t)size);
            brim_dataset_close(data);
        }
    }
}
END_TEST

// Files of many lengths: each place of the stream is found in its file.
START_TEST(places_in_many_files) {
    enum { FILES = 9 };
    static const int lengths[FILES] = {3, 1, 1, 7, 2, 1, 4, 1, 5};
    char names[FILES][160];
    const char *paths[FILES];
    for (int f = 0; f < FILES; f++) {
        char name[] = "0.txt";
        name[0] = (char)('0' + f);
        strcpy(names[f], test_file(name, "abcdefg", (size_t)lengths[f]));
        paths[f] = names[f];
    }
    brim_error err = {0};
    brim_dataset *data = brim_dataset_open(paths, FILES, &err);
    ASSERT_FINE(err);
    int64_t position = 0;
    for (int f = 0; f < FILES; f++)
        for (int i = 0; i < lengths[f]; i++, position++) {
            int64_t within;
            int32_t token;
            ck_assert_str_eq(brim_dataset_locate(data, position, &within), names[f]);
            ck_assert_int_eq(within, i);
            ck_assert(brim_dataset_read(data, position, &token, 1, &err));
            ck_assert_int_eq(token, 'a' + i);
        }
    ck_assert_int_eq(brim_dataset_count(data), position);
    brim_dataset_close(data);
}
END_TEST

// The largest token is found wherever it stands, by parts of 2^14 of which every 256th is told.
START_TEST(largest_token_of_many) {
    enum { SIZE = (256 << 14) + 100 };
    static const int places[] = {0, (1 << 14) - 1, 1 << 14, SIZE - 101, SIZE - 1};
    char *text = malloc(SIZE);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', SIZE);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        brim_error err = {0};
        text[places[i]] = 'b';
        brim_dataset *data = open_one(test_file("long", text, SIZE), &err);
        text[places[i]] = 'a';
        calls = last_done = 0;
        ck_assert_int_eq(brim_dataset_max_token(data, count_calls, "user"), 'b');
        ck_assert_int_eq(calls, 2);
        ck_assert_int_eq(last_done, SIZE);
        brim_dataset_close(data);
    }
    free(text);
}
END_TEST

START_TEST(damaged_gzip) {
    static char text[200000];
    static unsigned char packed[200000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i * i % 23);
    size_t size = gzip(text, sizeof text, packed, sizeof packed - 100);
    static const size_t cuts[] = {2, 5, 10, 18};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        assert_refused(test_file("cut.gz", packed, cuts[i]), BRIM_FORMAT, "ends early");
    }
    assert_refused(test_file("cut.gz", packed, size - 1), BRIM_FORMAT, "ends early");
    assert_refused(test_file("cut.gz", packed, size - 8), BRIM_FORMAT, "ends early");
    packed[size - 8] ^= 1; // the checksum
    assert_refused(test_file("crc.gz", packed, size), BRIM_FORMAT, "incorrect data check");
    packed[size - 8] ^= 1;
    packed[size - 1] ^= 1; // the length
    assert_refused(test_file("crc.gz", packed, size), BRIM_FORMAT, "incorrect length check");
    packed[size - 1] ^= 1;
    packed[2] = 9; // the method
    assert_refused(test_file("method.gz", packed, size), BRIM_FORMAT, "unknown compression method");
    packed[2] = 8;
    memcpy(packed + size, "rest", 4);
    char place[100];
    snprintf(place, sizeof place, "at byte %zu of %zu, there is something else", size, size + 4);
    assert_refused(test_file("rest.gz", packed, size + 4), BRIM_FORMAT, place);
    for (size_t i = 0; i < 4; i++) { // one byte among zeros
        memset(packed + size, 0, 4);
        packed[size + i] = 'x';
        assert_refused(test_file("rest.gz", packed, size + 4), BRIM_FORMAT, place);
    }
    memset(packed + size, 0, 4); // padding
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("padded.gz", packed, size + 4), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_count(data), sizeof text);
    brim_dataset_close(data);
}
END_TEST

START_TEST(gzip_of_several_members) {
    unsigned char packed[200];
    size_t first = gzip("abc", 3, packed, 100);
    size_t second = gzip("defg", 4, packed + first, 100);
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("two.gz", packed, first + second), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_count(data), 7);
    int32_t tokens[7];
    ck_assert(brim_dataset_read(data, 0, tokens, 7, &err));
    for (int i = 0; i < 7; i++) ck_assert_int_eq(tokens[i], 'a' + i);
    brim_dataset_close(data);
    assert_refused(test_file("two.gz", packed, first + second - 1), BRIM_FORMAT, "ends early");
}
END_TEST

// dictzip, as dict-gcide comes: gzip with an extra field that lists the chunks.
START_TEST(gzip_with_an_extra_field) {
    unsigned char plain[100], packed[120];
    size_t size = gzip("dictionary", 10, plain, sizeof plain);
    static const unsigned char extra[] = {10, 0, 'R', 'A', 6, 0, 1, 0, 10, 0, 1, 0};
    memcpy(packed, plain, 10);
    packed[3] |= 4; // FEXTRA
    memcpy(packed + 10, extra, sizeof extra);
    memcpy(packed + 10 + sizeof extra, plain + 10, size - 10);
    brim_error err = {0};
    brim_dataset *data = open_one(test_file("d.dict.dz", packed, size + sizeof extra), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_dataset_count(data), 10);
    brim_dataset_close(data);
}
END_TEST

Suite *core_dataset_suite(void) {
    Suite *suite = suite_create("core/dataset");
    TCase *tests = tcase_create("dataset");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, text_is_bytes);
    tcase_add_test(tests, files_form_one_stream);
    tcase_add_test(tests, reads_stay_inside);
    tcase_add_test(tests, token_files);
    tcase_add_test(tests, wrong_token_files);
    tcase_add_test(tests, wrong_lists_of_files);
    tcase_add_test(tests, what_is_no_text);
    tcase_add_test(tests, beginnings_of_other_formats);
    tcase_add_test(tests, places_in_many_files);
    tcase_add_test(tests, largest_token_of_many);
    tcase_add_test(tests, damaged_gzip);
    tcase_add_test(tests, gzip_of_several_members);
    tcase_add_test(tests, gzip_with_an_extra_field);
    suite_add_tcase(suite, tests);
    return suite;
}
