#include "core/dtype.h"
#include "core/json.h"
#include "core/philox.h"
#include "core/safetensors.h"
#include "test_core.h"

// A file of this header and so many bytes of data, which count up.
static const char *raw_file(const char *header, size_t header_size, size_t data_size) {
    static unsigned char bytes[1 << 16];
    ck_assert_uint_lt(8 + header_size + data_size, sizeof bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)header_size >> 8 * i);
    memcpy(bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++) bytes[8 + header_size + i] = (unsigned char)i;
    return test_file("raw.safetensors", bytes, 8 + header_size + data_size);
}

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

START_TEST(reads_what_the_format_allows) {
    // Tensors out of order, blanks, an unknown field, a type that Brim lacks, a scalar, one of no
    // bytes, sub-byte types.
    const char *header =
        "{ \"__metadata__\": {\"format\": \"pt\", \"note\": \"\\u00e4 \\\\u0000\"},\n"
        "\"b\": {\"shape\": [2, 3], \"extra\": [1], \"dtype\": \"BF16\", \"data_offsets\": [4, "
        "16]}," TENSOR("a.\\\"x\\\"", "F32", "[]", 0, 4) "," TENSOR(
            "empty", "F32", "[3,0,4]", 16, 16) "," TENSOR("flags", "BOOL", "[5]", 16,
                                                          21) "," TENSOR("nibbles", "F4", "[6]", 21,
                                                                         24) "}   ";
    brim_error err = {0};
    const char *path = raw_file(header, strlen(header), 24);
    safetensors *file = safetensors_open(path, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(safetensors_path(file), path);
    ck_assert_uint_eq(safetensors_count(file), 5);
    ck_assert_str_eq(safetensors_at(file, 0)->name, "a.\"x\"");
    ck_assert_str_eq(safetensors_at(file, 1)->name, "b");
    ck_assert_ptr_null(safetensors_at(file, 5));
    ck_assert_ptr_null(safetensors_find(file, "c"));
    ck_assert_str_eq(safetensors_metadata(file, "format"), "pt");
    ck_assert_str_eq(safetensors_metadata(file, "note"), "\xc3\xa4 \\u0000");
    ck_assert_ptr_null(safetensors_metadata(file, "none"));

    const safetensors_tensor *b = safetensors_find(file, "b");
    ck_assert(b->readable && b->dtype == BRIM_BF16 && b->dims == 2);
    ck_assert(b->shape[0] == 2 && b->shape[1] == 3 && b->count == 6 && b->bytes == 12);
    ck_assert_uint_eq(((const unsigned char *)b->data)[0], 4);
    const safetensors_tensor *scalar = safetensors_find(file, "a.\"x\"");
    ck_assert(scalar->dims == 0 && scalar->count == 1 && scalar->dtype == BRIM_F32);
    const safetensors_tensor *flags = safetensors_find(file, "flags");
    ck_assert(!flags->readable && flags->count == 5);
    ck_assert_str_eq(flags->dtype_name, "BOOL");
    ck_assert_uint_eq(safetensors_find(file, "empty")->bytes, 0);

    size_t size;
    ck_assert_mem_eq(safetensors_header(file, &size), header, strlen(header));
    ck_assert_uint_eq(size, strlen(header));
    ck_assert_uint_eq(((const unsigned char *)safetensors_data(file, &size))[23], 23);
    ck_assert_uint_eq(size, 24);
    safetensors_close(file);
    safetensors_close(NULL);
}
END_TEST

START_TEST(expectations) {
    const char *header =
        "{" TENSOR("w", "F16", "[2,3]", 0, 12) "," TENSOR("flags", "BOOL", "[4]", 12, 16) "}";
    brim_error err = {0};
    safetensors *file = safetensors_open(raw_file(header, strlen(header), 16), &err);
    ASSERT_FINE(err);
    // Behind the shape anything may lie.
    ck_assert_ptr_nonnull(safetensors_expect(file, "w", 2, (int64_t[]){2, 3, 99}, &err));
    ck_assert_ptr_null(safetensors_expect(file, "w", 2, (int64_t[]){3, 2}, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "raw.safetensors: tensor w has shape [2, 3], expected [3, 2]");
    ck_assert_ptr_null(safetensors_expect(file, "w", 1, (int64_t[]){2}, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "has shape [2, 3], expected [2]");
    ck_assert_ptr_null(safetensors_expect(file, "v", 1, (int64_t[]){2}, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "raw.safetensors: tensor v is missing");
    ck_assert_ptr_null(safetensors_expect(file, "flags", 1, (int64_t[]){4}, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "tensor flags has type BOOL, expected F32");
    safetensors_close(file);
}
END_TEST

static void assert_refused(const char *path, const char *part) {
    brim_error err = {0};
    safetensors *file = safetensors_open(path, &err);
    ck_assert_msg(!file, "was read, expected: %s", part);
    ck_assert_msg(strstr(err.text, path) == err.text, "the file is not named: %s", err.text);
    ASSERT_FAILS(err, BRIM_FORMAT, part);
}

typedef struct bad_header {
    const char *header;
    size_t data_size;
    const char *part;
} bad_header;

#define HUGE "9007199254740991"

static const bad_header bad_headers[] = {
    {"", 0, "not a JSON object"},
    {"[]", 0, "not a JSON object"},
    {"{", 0, "not a JSON object; the fault is near its byte"},
    {"{}x", 0, "not a JSON object; the fault is near its byte 2"},
    {"{} {}", 0, "not a JSON object; the fault is near its byte 3"},
    {"{\"a\":}", 0, "not a JSON object"},
    {"{}", 4, "4 bytes at the end belong to no tensor"},
    {"{\"a\":3}", 0, "tensor a: it is not an object"},
    {"{\"a\":[{\"dtype\":\"F32\"}]}", 0, "tensor a: it is not an object"},
    {"{\"a\":{}}", 0, "tensor a: \"dtype\" is missing"},
    {"{\"a\":{\"dtype\":3}}", 0, "\"dtype\" is missing or not a text"},
    {"{" TENSOR("a", "F33", "[1]", 0, 4) "}", 4, "tensor a: \"dtype\" is \"F33\""},
    {"{" TENSOR("a", "f32", "[1]", 0, 4) "}", 4, "\"dtype\" is \"f32\""},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "\"dtype\" is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"shape\" is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\" is not a list"},
    {"{" TENSOR("a", "F32", "1", 0, 4) "}", 4, "\"shape\" is missing or not a list"},
    {"{" TENSOR("a", "F32", "[-1]", 0, 4) "}", 4, "not a whole number"},
    {"{" TENSOR("a", "F32", "[1.5]", 0, 6) "}", 6, "not a whole number"},
    {"{" TENSOR("a", "F32", "[\"1\"]", 0, 4) "}", 4, "not a whole number"},
    {"{" TENSOR("a", "F32", "[1e300]", 0, 4) "}", 4, "not a whole number"},
    {"{" TENSOR("a", "F32", "[9007199254740993]", 0, 4) "}", 4, "not a whole number"},
    {"{" TENSOR("a", "F32", "[" HUGE "," HUGE "]", 0, 4) "}", 4, "more than 2^63 elements"},
    {"{" TENSOR("a", "F32", "[" HUGE ",1024]", 0, 4) "}", 4, "\"shape\" is too large"},
    // 2^61 elements of 4 bytes are 2^63, of 8 bytes 0 modulo 2^64
    {"{" TENSOR("a", "F64", "[2305843009213693952]", 0, 0) "}", 0, "not a whole number"},
    {"{" TENSOR("a", "F64", "[2147483648,1073741824]", 0, 0) "}", 0, "\"shape\" is too large"},
    {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1]", 0, 4) "}", 4, "7 dimensions, expected at most 6"},
    {"{" TENSOR("a", "F32", "[2]", 0, 4) "}", 4, "span 4 bytes, but 2 elements of type F32 take 8"},
    {"{" TENSOR("a", "F32", "[1]", 0, 5) "}", 5, "span 5 bytes"},
    {"{" TENSOR("a", "F4", "[3]", 0, 1) "}", 1, "span 1 bytes, but 3 elements of type F4 take 2"},
    {"{" TENSOR("a", "F32", "[1]", 0, 8) "}", 4, "[0, 8] is not a range of the 4 bytes"},
    {"{" TENSOR("a", "F32", "[1]", 4, 0) "}", 4, "[4, 0] is not a range"},
    {"{" TENSOR("a", "F32", "[1]", -4, 0) "}", 4, "not a list of two whole numbers"},
    {"{" TENSOR("a", "F32", "[1]", 9007199254740988, 9007199254740991) "}", 4, "is not a range"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "list of two"},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F32", "[1]", 0, 4) "}", 4, "overlap"},
    {"{" TENSOR("a", "F32", "[2]", 0, 8) "," TENSOR("b", "F32", "[1]", 4, 8) "}", 8,
     "tensors a and b overlap"},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F32", "[1]", 8, 12) "}", 12,
     "4 bytes before tensor b"},
    {"{" TENSOR("a", "F32", "[1]", 4, 8) "}", 8, "4 bytes before tensor a"},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "}", 8, "4 bytes at the end"},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("a", "F32", "[1]", 4, 8) "}", 8,
     "tensor a is there twice"},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("\\u0061", "F32", "[1]", 4, 8) "}", 8,
     "tensor a is there twice"},
    {"{" TENSOR("a\\u0000b", "F32", "[1]", 0, 4) "}", 4, "NUL"},
    {"{\"__metadata__\":3}", 0, "__metadata__: it is not an object"},
    {"{\"__metadata__\":[\"a\"]}", 0, "__metadata__: it is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: the value of \"a\" is not a text"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "\"a\" is there twice"},
    {"{\"__metadata__\":{\"a\":\"1\"},\"__metadata__\":[\"b\"]}", 0,
     "__metadata__: it is there twice"},
    {"{" TENSOR("\xff", "F32", "[1]", 0, 4) "}", 4, "the header is not UTF-8"},
    {"{\"__metadata__\":{\"a\":\"\xc3\"}}", 0, "the header is not UTF-8"},
};

START_TEST(refuses_bad_headers) {
    const bad_header *bad = &bad_headers[_i];
    assert_refused(raw_file(bad->header, strlen(bad->header), bad->data_size), bad->part);
}
END_TEST

START_TEST(refuses_raw_nuls) {
    static const char header[] =
        "{\"a\0b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    assert_refused(raw_file(header, sizeof header - 1, 4), "NUL");
}
END_TEST

// Where the file fills its last page, the byte behind a header without data belongs to nobody.
START_TEST(refuses_a_comma_at_the_end_of_a_page) {
    enum { PAGE = 4096 };
    static char header[PAGE - 8];
    memset(header, 'x', sizeof header);
    memcpy(header, "{\"__metadata__\":{\"a\":\"", 22);
    memcpy(header + sizeof header - 3, "\"},", 3);
    assert_refused(raw_file(header, sizeof header, 0), "the fault is near its byte 4088");
}
END_TEST

// Comparing each key with all others would take minutes.
START_TEST(reads_many_keys) {
    enum { KEYS = 200000 };
    brim_error err = {0};
    strbuf text = {.err = &err};
    for (int twice = 0; twice < 2; twice++) {
        strbuf_clear(&text);
        strbuf_append(&text, "\0\0\0\0\0\0\0\0", 8);
        strbuf_puts(&text, "{\"__metadata__\":{");
        for (int i = 0; i < KEYS; i++) strbuf_printf(&text, "\"%d\":\"\",", i);
        strbuf_printf(&text, "\"%d\":\"\"}}", twice ? 77 : KEYS);
        for (int i = 0; i < 8; i++) text.text[i] = (char)((uint64_t)(text.length - 8) >> 8 * i);
        const char *path = test_file("keys.st", text.text, text.length);
        if (twice) {
            assert_refused(path, "__metadata__: \"77\" is there twice");
            break;
        }
        safetensors *file = safetensors_open(path, &err);
        ASSERT_FINE(err);
        ck_assert_str_eq(safetensors_metadata_key(file, KEYS), "200000");
        safetensors_close(file);
    }
    strbuf_free(&text);
}
END_TEST

START_TEST(refuses_deep_nesting) {
    static char header[20000];
    memset(header, '[', sizeof header);
    memcpy(header, "{\"a\":", 5);
    assert_refused(raw_file(header, sizeof header, 0), "not a JSON object");
}
END_TEST

START_TEST(refuses_wrong_lengths) {
    static const unsigned char short_file[] = {2, 0, 0, 0, 0, 0, 0};
    assert_refused(test_file("short.st", short_file, 0), "0 bytes");
    assert_refused(test_file("short.st", short_file, 7), "7 bytes");
    static const unsigned char beyond[] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    assert_refused(test_file("beyond.st", beyond, sizeof beyond),
                   "length is 3, but the file has 10 bytes");
    unsigned char huge[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    assert_refused(test_file("huge.st", huge, sizeof huge), "expected at most 100000000");
    brim_error err = {0};
    ck_assert_ptr_null(safetensors_open("/nonexistent.st", &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent.st cannot be opened");
    brim_fail(&err, BRIM_SHAPE, "earlier");
    ck_assert_ptr_null(safetensors_open("/nonexistent.st", &err));
    ASSERT_FAILS(err, BRIM_SHAPE, "earlier");
}
END_TEST

// Whatever is done to a file, it is refused with one line or read without touching foreign memory,
// which the sanitizers watch.
START_TEST(survives_random_damage) {
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("a", "F32", "[2,3]", 0, 24) "," TENSOR(
            "b\\n", "I32", "[]", 24, 28) "," TENSOR("c", "U8", "[4]", 28, 32) "}";
    static const char alphabet[] = "{}[]\":,0123456789-.eEu\\ab\0 ";
    char damaged[512];
    size_t size = strlen(header);
    int refused = 0, read = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        memcpy(damaged, header, size);
        philox_block random = philox_at(1, 2, i);
        for (uint32_t k = 0; k <= random.v[0] % 3; k++) {
            damaged[random.v[1 + k] % size] = alphabet[(random.v[1 + k] >> 16) % sizeof alphabet];
        }
        brim_error err = {0};
        size_t cut = i % 5 == 0 ? random.v[3] % size : size;
        safetensors *file = safetensors_open(raw_file(damaged, cut, 32), &err);
        for (size_t t = 0; file && t < safetensors_count(file); t++) {
            const safetensors_tensor *tensor = safetensors_at(file, t);
            uint32_t sum = 0;
            for (size_t b = 0; b < tensor->bytes; b++) sum += ((const uint8_t *)tensor->data)[b];
            ck_assert_uint_le(sum, 32 * 32);
            ck_assert_ptr_eq(safetensors_find(file, tensor->name), tensor);
        }
        ck_assert_int_eq(file == NULL, failed(&err));
        refused += file == NULL;
        read += file != NULL;
        safetensors_close(file);
    }
    ck_assert_int_gt(refused, 1000);
    ck_assert_int_gt(read, 10);
}
END_TEST

// --- writing ---

static const safetensors_entry entries[] = {
    {"wte.weight", BRIM_F32, 2, {2, 3}},
    {"nothing", BRIM_F32, 2, {0, 3}},
    {"scale \"\\\n", BRIM_F32, 0, {0}},
    {"h.0.b\xc3\xa4r", BRIM_BF16, 1, {3}},
};

START_TEST(writes_what_it_reads) {
    brim_error err = {0};
    const float weights[6] = {1, -2, 3.5f, 1e-30f, 5, 6}, scale = 0.25f;
    const uint16_t rest[3] = {1, 2, 0x8003};
    const safetensors_pair pairs[] = {{"step", "12"}, {"quote", "\"x\"\t"}};
    file_writer *out = file_create(test_path("w.safetensors"), &err);
    safetensors_writer *w = safetensors_begin(out, entries, 4, pairs, 2, &err);
    ASSERT_FINE(err);
    ck_assert(safetensors_write(w, "wte.weight", weights, 8, &err)); // in two parts
    ck_assert(safetensors_write(w, "wte.weight", weights + 2, 16, &err));
    ck_assert(safetensors_write(w, entries[2].name, &scale, 4, &err));
    ck_assert(safetensors_write(w, entries[3].name, rest, 6, &err));
    size_t header_size;
    ck_assert_ptr_nonnull(safetensors_written_header(w, &header_size));
    ck_assert_uint_eq(header_size % 8, 0);
    ck_assert_uint_eq(file_size(out), 8 + header_size + 24 + 4 + 6);
    ck_assert(safetensors_end(w, &err));
    ck_assert(file_commit(out, &err));
    ASSERT_FINE(err);

    safetensors *file = safetensors_open(test_path("w.safetensors"), &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(safetensors_count(file), 4);
    for (int i = 0; i < 4; i++) {
        const safetensors_tensor *tensor =
            safetensors_expect(file, entries[i].name, entries[i].dims, entries[i].shape, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(tensor->dtype, entries[i].dtype);
    }
    ck_assert_mem_eq(safetensors_find(file, "wte.weight")->data, weights, sizeof weights);
    ck_assert_mem_eq(safetensors_find(file, entries[2].name)->data, &scale, 4);
    ck_assert_mem_eq(safetensors_find(file, entries[3].name)->data, rest, sizeof rest);
    ck_assert_str_eq(safetensors_metadata(file, "format"), "pt");
    ck_assert_str_eq(safetensors_metadata(file, "step"), "12");
    ck_assert_str_eq(safetensors_metadata(file, "quote"), "\"x\"\t");
    safetensors_close(file);
}
END_TEST

START_TEST(writes_no_tensors) {
    brim_error err = {0};
    file_writer *out = file_create(test_path("none.safetensors"), &err);
    ck_assert(safetensors_end(safetensors_begin(out, NULL, 0, NULL, 0, &err), &err));
    ck_assert(file_commit(out, &err));
    safetensors *file = safetensors_open(test_path("none.safetensors"), &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(safetensors_count(file), 0);
    ck_assert_ptr_null(safetensors_find(file, "x"));
    safetensors_close(file);
}
END_TEST

START_TEST(refuses_to_write_nonsense) {
    static const struct {
        safetensors_entry entries[2];
        const char *part;
    } cases[] = {
        {{{"a", BRIM_F32, 1, {1}}, {"a", BRIM_F16, 1, {1}}}, "two tensors have the name a"},
        {{{"a", BRIM_F32, 1, {1}}, {"__metadata__", BRIM_F32, 1, {1}}}, "reserved"},
        {{{"a", BRIM_F32, 1, {1}}, {"b", BRIM_F32, 1, {-1}}}, "tensor b has a shape"},
        {{{"a", BRIM_F32, 1, {1}}, {"b", BRIM_F32, 7, {1}}}, "tensor b has a shape"},
        {{{"a", BRIM_F32, 1, {1}}, {"b", BRIM_F32, 3, {1 << 30, 1 << 30, 8}}}, "tensor b"},
        {{{"a", BRIM_F32, 2, {1 << 25, 1 << 25}}, {"b", BRIM_F32, 2, {1 << 25, 1 << 26}}},
         "tensor b"},
    };
    brim_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_writer *out = file_create(test_path("bad"), &err);
        ck_assert_ptr_null(safetensors_begin(out, cases[i].entries, 2, NULL, 0, &err));
        ck_assert(!file_commit(out, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, cases[i].part);
    }
}
END_TEST

START_TEST(notices_wrong_order_and_sizes) {
    const float data[6] = {0};
    brim_error err = {0};
    for (int i = 0; i < 4; i++) {
        file_writer *out = file_create(test_path("bad"), &err);
        safetensors_writer *w = safetensors_begin(out, entries, 4, NULL, 0, &err);
        ASSERT_FINE(err);
        if (i == 0) safetensors_write(w, entries[2].name, data, 4, &err);
        if (i == 1) safetensors_write(w, "wte.weight", data, 28, &err);
        if (i == 2) safetensors_write(w, "wte.weight", data, 23, &err);
        if (i == 3) {
            safetensors_write(w, "wte.weight", data, 24, &err);
            safetensors_write(w, entries[2].name, data, 4, &err);
            safetensors_write(w, entries[3].name, data, 6, &err);
            safetensors_write(w, entries[3].name, data, 6, &err);
        }
        static const char *const parts[] = {
            "was written where wte.weight was due", "has 24 bytes, and more were written",
            "tensor wte.weight ends after 23 of its 24 bytes", "was written where none was due"};
        ck_assert(!safetensors_end(w, &err));
        ck_assert(!file_commit(out, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, parts[i]);
    }
}
END_TEST

START_TEST(json_texts) {
    brim_error err = {0};
    strbuf out = {.err = &err};
    json_put_string(&out, "a\"b\\c\n\x01\x1f \x7f\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    ck_assert_str_eq(
        strbuf_text(&out),
        "\"a\\\"b\\\\c\\u000a\\u0001\\u001f \x7f\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    strbuf_clear(&out);
    // A lone byte, an overlong slash, a surrogate, a code beyond the last, and a sequence that is
    // cut off.
    json_put_string(&out, "\xe4|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82");
#define R "\xef\xbf\xbd"
    ck_assert_str_eq(strbuf_text(&out), "\"" R "|" R R "|" R R R "|" R R R R "|" R R "\"");
#undef R
    strbuf_clear(&out);
    json_put_f64(&out, 0.1);
    strbuf_putc(&out, ' ');
    json_put_f64(&out, 0.0 / 0.0);
    strbuf_putc(&out, ' ');
    json_put_f32(&out, 0.1f);
    strbuf_putc(&out, ' ');
    json_put_f32(&out, 1.0f / 0.0f);
    ck_assert_str_eq(strbuf_text(&out), "0.1 null 0.1 null");
    strbuf_free(&out);
}
END_TEST

Suite *core_safetensors_suite(void) {
    Suite *suite = suite_create("core/safetensors");
    TCase *tests = tcase_create("safetensors");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, reads_what_the_format_allows);
    tcase_add_test(tests, expectations);
    tcase_add_loop_test(tests, refuses_bad_headers, 0, sizeof bad_headers / sizeof *bad_headers);
    tcase_add_test(tests, refuses_raw_nuls);
    tcase_add_test(tests, refuses_deep_nesting);
    tcase_add_test(tests, refuses_a_comma_at_the_end_of_a_page);
    tcase_add_test(tests, reads_many_keys);
    tcase_add_test(tests, refuses_wrong_lengths);
    tcase_add_test(tests, survives_random_damage);
    tcase_add_test(tests, writes_what_it_reads);
    tcase_add_test(tests, writes_no_tensors);
    tcase_add_test(tests, refuses_to_write_nonsense);
    tcase_add_test(tests, notices_wrong_order_and_sizes);
    tcase_add_test(tests, json_texts);
    suite_add_tcase(suite, tests);
    return suite;
}
