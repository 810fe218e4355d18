// config.json in Hugging Face's form, read and written with cJSON.
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpt.h"

enum { CONFIG_BYTES = 1 << 20 }; // no config.json is larger
enum { GPT2_END_OF_TEXT = 50256 };

static char *read_text(const char *file, brim_error *err) {
    FILE *in = fopen(file, "rb");
    if (!in) {
        brim_fail(err, BRIM_IO, "%s: %s", file, strerror(errno));
        return NULL;
    }
    char *text = malloc(CONFIG_BYTES + 1);
    size_t bytes = text ? fread(text, 1, CONFIG_BYTES + 1, in) : 0;
    bool bad = !text || ferror(in) || bytes > CONFIG_BYTES;
    fclose(in);
    if (bad) {
        brim_fail(err, BRIM_FORMAT, "%s: cannot be read as a JSON file of at most 1 MiB", file);
        free(text);
        return NULL;
    }
    text[bytes] = '\0';
    return text;
}

typedef struct size_field {
    const char *name;
    int64_t *value;
} size_field;

static void read_size(const cJSON *json, const char *file, const size_field *f, brim_error *err) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, f->name);
    if (cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= 1e9 &&
        floor(item->valuedouble) == item->valuedouble) {
        *f->value = (int64_t)item->valuedouble;
        return;
    }
    brim_fail(err, BRIM_FORMAT, "%s: field \"%s\" is %s; expected a whole number from 1 to 1e9",
              file, f->name, item ? "no such number" : "missing");
}

static void check_text(const cJSON *json, const char *file, const char *field, const char *wanted,
                       brim_error *err) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, field);
    if (!item) return;
    const char *found = cJSON_IsString(item) ? item->valuestring : "not a string";
    if (strcmp(found, wanted) != 0)
        brim_fail(err, BRIM_FORMAT, "%s: field \"%s\" is \"%.60s\"; expected \"%s\"", file, field,
                  found, wanted);
}

// Variants of GPT-2 that are not built, with the value that means "not this one".
typedef struct switch_field {
    const char *name;
    bool wanted;
} switch_field;
static const switch_field switches[] = {
    {"tie_word_embeddings", true},
    {"scale_attn_weights", true},
    {"scale_attn_by_inverse_layer_idx", false},
    {"add_cross_attention", false},
};

static void check_switch(const cJSON *json, const char *file, const switch_field *f,
                         brim_error *err) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, f->name);
    if (item && cJSON_IsTrue(item) != f->wanted)
        brim_fail(err, BRIM_UNSUPPORTED, "%s: field \"%s\" is not %s, the only form that is built",
                  file, f->name, f->wanted ? "true" : "false");
}

static void read_fields(const cJSON *json, const char *file, gpt_config *c, brim_error *err) {
    const size_field fields[] = {{"vocab_size", &c->vocabulary},
                                 {"n_positions", &c->positions},
                                 {"n_embd", &c->width},
                                 {"n_layer", &c->layers},
                                 {"n_head", &c->heads}};
    check_text(json, file, "model_type", "gpt2", err);
    check_text(json, file, "activation_function", "gelu_new", err);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        read_size(json, file, &fields[i], err);
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(json, "n_inner");
    if (cJSON_IsNumber(inner) && inner->valuedouble != 4.0 * (double)c->width)
        brim_fail(err, BRIM_FORMAT, "%s: field \"n_inner\" is %g; expected 4 n_embd = %lld", file,
                  inner->valuedouble, 4 * (long long)c->width);
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        check_switch(json, file, &switches[i], err);
    const cJSON *eps = cJSON_GetObjectItemCaseSensitive(json, "layer_norm_epsilon");
    c->norm_eps = cJSON_IsNumber(eps) && eps->valuedouble > 0 ? eps->valuedouble : 1e-5;
}

brim_status gpt_config_read(const char *file, gpt_config *out, brim_error *err) {
    if (err->status) return err->status;
    char *text = read_text(file, err);
    if (!text) return err->status;
    cJSON *json = cJSON_Parse(text);
    free(text);
    if (!cJSON_IsObject(json))
        brim_fail(err, BRIM_FORMAT, "%s: is not a JSON object", file);
    else
        read_fields(json, file, out, err);
    cJSON_Delete(json);
    return err->status ? err->status : gpt_config_check(out, err);
}

char *gpt_config_text(const gpt_config *c, brim_error *err) {
    cJSON *json = cJSON_CreateObject();
    cJSON *architectures = cJSON_AddArrayToObject(json, "architectures");
    cJSON_AddItemToArray(architectures, cJSON_CreateString("GPT2LMHeadModel"));
    cJSON_AddStringToObject(json, "model_type", "gpt2");
    cJSON_AddStringToObject(json, "activation_function", "gelu_new");
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"vocab_size", (double)c->vocabulary},
                   {"n_positions", (double)c->positions},
                   {"n_ctx", (double)c->positions},
                   {"n_embd", (double)c->width},
                   {"n_layer", (double)c->layers},
                   {"n_head", (double)c->heads},
                   {"embd_pdrop", c->dropout},
                   {"resid_pdrop", c->dropout},
                   {"attn_pdrop", 0},
                   {"layer_norm_epsilon", c->norm_eps},
                   {"initializer_range", 0.02}};
    bool complete = true;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        complete &= cJSON_AddNumberToObject(json, numbers[i].name, numbers[i].value) != NULL;
    // Text taken as bytes has no token that begins or ends a document.
    bool gpt2_tokens = c->vocabulary > GPT2_END_OF_TEXT;
    const char *const ends[] = {"bos_token_id", "eos_token_id"};
    for (int i = 0; i < 2; i++)
        complete &= (gpt2_tokens ? cJSON_AddNumberToObject(json, ends[i], GPT2_END_OF_TEXT)
                                 : cJSON_AddNullToObject(json, ends[i])) != NULL;
    complete &= cJSON_AddBoolToObject(json, "tie_word_embeddings", true) != NULL;
    char *text = complete ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (!text) brim_fail(err, BRIM_MEMORY, "config.json: no memory to write it");
    return text;
}

brim_status gpt_config_check(const gpt_config *c, brim_error *err) {
    if (c->width % c->heads != 0)
        return brim_fail(err, BRIM_ARGUMENT, "width %lld is no multiple of %lld heads",
                         (long long)c->width, (long long)c->heads);
    if (c->width / c->heads > 256)
        return brim_fail(err, BRIM_ARGUMENT,
                         "width %lld with %lld heads makes heads of %lld; at most 256 are possible",
                         (long long)c->width, (long long)c->heads,
                         (long long)(c->width / c->heads));
    return err->status;
}
