// config.json in Hugging Face's form, read and written with cJSON.
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"

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
    bool bad = ferror(in) || bytes > CONFIG_BYTES;
    fclose(in);
    if (!text) {
        brim_fail(err, BRIM_MEMORY, "%s: no memory to read it", file);
        return NULL;
    }
    if (bad) {
        brim_fail(err, BRIM_FORMAT, "%s: cannot be read as a JSON file of at most 1 MiB", file);
        free(text);
        return NULL;
    }
    text[bytes] = '\0';
    return text;
}

// ---- families -----------------------------------------------------------------------------------

// A whole number of the file and where it goes.
typedef struct size_field {
    const char *name;
    size_t offset;
    double most;   // as on the command line: the number of parameters then fits 63 bits
    bool optional; // 0 where the file lacks it, or has null
} size_field;

// A variant that is not built, with the value that means "not this one". Missing is fine.
typedef struct switch_field {
    const char *name;
    bool wanted;
} switch_field;

typedef struct family {
    const char *model_type, *class_name;
    model_architecture architecture;
    bool qkv_bias, qk_norm; // what tells relatives of one architecture apart
    const char *activation_field, *activation, *eps_field;
    const size_field *sizes;
    const switch_field *switches;
} family;

#define SIZE(name, field, most)                                                                    \
    { name, offsetof(model_config, field), most, false }
#define OPTIONAL_SIZE(name, field, most)                                                           \
    { name, offsetof(model_config, field), most, true }

static const size_field gpt2_sizes[] = {
    SIZE("vocab_size", vocabulary, 1e9), SIZE("n_positions", positions, 1e9),
    SIZE("n_embd", width, 1e6),          SIZE("n_layer", layers, 1e4),
    SIZE("n_head", heads, 1e4),          {0}};
static const switch_field gpt2_switches[] = {{"tie_word_embeddings", true},
                                             {"scale_attn_weights", true},
                                             {"scale_attn_by_inverse_layer_idx", false},
                                             {"add_cross_attention", false},
                                             {0}};

static const size_field llama_sizes[] = {SIZE("vocab_size", vocabulary, 1e9),
                                         SIZE("max_position_embeddings", positions, 1e9),
                                         SIZE("hidden_size", width, 1e6),
                                         SIZE("num_hidden_layers", layers, 1e4),
                                         SIZE("num_attention_heads", heads, 1e4),
                                         SIZE("intermediate_size", ffn, 1e7),
                                         OPTIONAL_SIZE("num_key_value_heads", kv_heads, 1e4),
                                         OPTIONAL_SIZE("head_dim", head_size, 1e6),
                                         {0}};
static const switch_field llama_switches[] = {
    {"attention_bias", false}, {"mlp_bias", false}, {"use_sliding_window", false}, {0}};

static const family families[] = {
    {"gpt2", "GPT2LMHeadModel", MODEL_GPT2, false, false, "activation_function", "gelu_new",
     "layer_norm_epsilon", gpt2_sizes, gpt2_switches},
    {"llama", "LlamaForCausalLM", MODEL_LLAMA, false, false, "hidden_act", "silu", "rms_norm_eps",
     llama_sizes, llama_switches},
    {"qwen2", "Qwen2ForCausalLM", MODEL_LLAMA, true, false, "hidden_act", "silu", "rms_norm_eps",
     llama_sizes, llama_switches},
    {"qwen3", "Qwen3ForCausalLM", MODEL_LLAMA, false, true, "hidden_act", "silu", "rms_norm_eps",
     llama_sizes, llama_switches},
};
enum { FAMILIES = sizeof families / sizeof *families };

static const family *family_of(const model_config *c) {
    for (int i = 0; i < FAMILIES; i++) {
        const family *f = &families[i];
        bool relative = f->qkv_bias == c->qkv_bias && f->qk_norm == c->qk_norm;
        if (f->architecture == c->architecture && (c->architecture == MODEL_GPT2 || relative))
            return f;
    }
    return NULL;
}

// ---- reading ------------------------------------------------------------------------------------

// The file's object, and where what is wrong goes.
typedef struct source {
    const cJSON *json;
    const char *file;
    brim_error *err;
} source;

static const cJSON *field_of(const source *s, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(s->json, name);
}

static void read_size(const source *s, const size_field *f, model_config *c) {
    const cJSON *item = field_of(s, f->name);
    int64_t *value = (int64_t *)((char *)c + f->offset);
    if (f->optional && (!item || cJSON_IsNull(item))) return;
    if (cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= f->most &&
        floor(item->valuedouble) == item->valuedouble) {
        *value = (int64_t)item->valuedouble;
        return;
    }
    brim_fail(s->err, BRIM_FORMAT, "%s: field \"%s\" is %s; expected a whole number from 1 to %g",
              s->file, f->name, item ? "no such number" : "missing", f->most);
}

static void check_text(const source *s, const char *field, const char *wanted) {
    const cJSON *item = field_of(s, field);
    if (!item) return;
    const char *found = cJSON_IsString(item) ? item->valuestring : "not a string";
    if (strcmp(found, wanted) != 0)
        brim_fail(s->err, BRIM_FORMAT, "%s: field \"%s\" is \"%.60s\"; expected \"%s\"", s->file,
                  field, found, wanted);
}

static void check_switch(const source *s, const switch_field *f) {
    const cJSON *item = field_of(s, f->name);
    if (item && cJSON_IsTrue(item) != f->wanted)
        brim_fail(s->err, BRIM_UNSUPPORTED,
                  "%s: field \"%s\" is not %s, the only form that is built", s->file, f->name,
                  f->wanted ? "true" : "false");
}

// A number above 0 of the file's object or one in it; otherwise where it is missing or null.
static double read_positive(const source *s, const cJSON *object, const char *name,
                            double otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item || cJSON_IsNull(item)) return otherwise;
    if (cJSON_IsNumber(item) && item->valuedouble > 0 && isfinite(item->valuedouble))
        return item->valuedouble;
    brim_fail(s->err, BRIM_FORMAT, "%s: field \"%s\" is no number above 0", s->file, name);
    return otherwise;
}

// A file without model_type is GPT-2's, as older tools wrote them.
static const family *read_family(const source *s) {
    const cJSON *item = field_of(s, "model_type");
    const char *found = !item ? "gpt2" : cJSON_IsString(item) ? item->valuestring : "not a string";
    for (int i = 0; i < FAMILIES; i++)
        if (strcmp(families[i].model_type, found) == 0) return &families[i];
    brim_fail(s->err, BRIM_FORMAT,
              "%s: field \"model_type\" is \"%.60s\"; expected gpt2, llama, qwen2 or qwen3",
              s->file, found);
    return NULL;
}

static void check_gpt2_ffn(const source *s, const model_config *c) {
    const cJSON *inner = field_of(s, "n_inner");
    if (cJSON_IsNumber(inner) && inner->valuedouble != 4.0 * (double)c->width)
        brim_fail(s->err, BRIM_FORMAT, "%s: field \"n_inner\" is %g; expected 4 n_embd = %lld",
                  s->file, inner->valuedouble, 4 * (long long)c->width);
}

static void read_llama3(const source *s, const cJSON *object, const char *field, model_config *c) {
    static const char *const names[] = {"factor", "low_freq_factor", "high_freq_factor",
                                        "original_max_position_embeddings"};
    double value[4];
    for (int i = 0; i < 4; i++) {
        value[i] = read_positive(s, object, names[i], 0);
        if (value[i] == 0)
            brim_fail(s->err, BRIM_FORMAT,
                      "%s: field \"%s\" has no \"%s\" that is a number above 0", s->file, field,
                      names[i]);
    }
    c->rotary_scaling = (brim_rotary_scaling){value[0], value[1], value[2], value[3]};
}

// Other angles than those of the base ("yarn", ...) are refused: the model would be another one.
// Files of transformers 5 have an object "rope_parameters", older ones "rope_theta" and, where
// something is scaled, "rope_scaling".
static void read_rotary(const source *s, model_config *c) {
    static const char *const objects[] = {"rope_parameters", "rope_scaling"};
    static const char *const kinds[] = {"rope_type", "type"};
    c->rotary_base = read_positive(s, s->json, "rope_theta", 10000);
    for (int i = 0; i < 2; i++) {
        const cJSON *object = field_of(s, objects[i]), *item = NULL;
        if (!cJSON_IsObject(object)) continue;
        for (int k = 0; k < 2 && !item; k++)
            item = cJSON_GetObjectItemCaseSensitive(object, kinds[k]);
        const char *kind = cJSON_IsString(item) ? item->valuestring : "default";
        if (strcmp(kind, "llama3") == 0)
            read_llama3(s, object, objects[i], c);
        else if (strcmp(kind, "default") != 0)
            brim_fail(s->err, BRIM_UNSUPPORTED,
                      "%s: field \"%s\" asks for angles of type \"%.40s\"; \"default\" and "
                      "\"llama3\" are built",
                      s->file, objects[i], kind);
        c->rotary_base = read_positive(s, object, "rope_theta", c->rotary_base);
    }
}

static void read_fields(const source *s, model_config *c) {
    const family *f = read_family(s);
    if (!f) return;
    *c = (model_config){
        .architecture = f->architecture, .qkv_bias = f->qkv_bias, .qk_norm = f->qk_norm};
    check_text(s, f->activation_field, f->activation);
    for (const size_field *size = f->sizes; size->name; size++) read_size(s, size, c);
    for (const switch_field *w = f->switches; w->name; w++) check_switch(s, w);
    if (f->architecture == MODEL_GPT2) {
        check_gpt2_ffn(s, c);
        c->norm_eps = read_positive(s, s->json, f->eps_field, 1e-5);
        return;
    }
    read_rotary(s, c);
    c->norm_eps = read_positive(s, s->json, f->eps_field, 1e-6);
    c->tied = cJSON_IsTrue(field_of(s, "tie_word_embeddings"));
}

brim_status model_config_read(const char *file, model_config *out, brim_error *err) {
    if (err->status) return err->status;
    char *text = read_text(file, err);
    if (!text) return err->status;
    cJSON *json = cJSON_Parse(text);
    free(text);
    if (!cJSON_IsObject(json))
        brim_fail(err, BRIM_FORMAT, "%s: is not a JSON object", file);
    else
        read_fields(&(source){json, file, err}, out);
    cJSON_Delete(json);
    return err->status ? err->status : model_config_check(out, err);
}

// ---- writing ------------------------------------------------------------------------------------

static bool add_number(cJSON *json, const char *name, double value) {
    return cJSON_AddNumberToObject(json, name, value) != NULL;
}

static bool add_bool(cJSON *json, const char *name, bool value) {
    return cJSON_AddBoolToObject(json, name, value) != NULL;
}

static bool add_text(cJSON *json, const char *name, const char *value) {
    return cJSON_AddStringToObject(json, name, value) != NULL;
}

static bool write_gpt2(cJSON *json, const model_config *c) {
    bool complete = add_number(json, "n_ctx", (double)c->positions) &&
                    add_number(json, "embd_pdrop", c->dropout) &&
                    add_number(json, "resid_pdrop", c->dropout) &&
                    add_number(json, "attn_pdrop", 0);
    // Text taken as bytes has no token that begins or ends a document.
    bool gpt2_tokens = c->vocabulary > GPT2_END_OF_TEXT;
    const char *const ends[] = {"bos_token_id", "eos_token_id"};
    for (int i = 0; i < 2; i++)
        complete &= (gpt2_tokens ? cJSON_AddNumberToObject(json, ends[i], GPT2_END_OF_TEXT)
                                 : cJSON_AddNullToObject(json, ends[i])) != NULL;
    return complete && add_bool(json, "tie_word_embeddings", true);
}

static bool write_scaling(cJSON *json, const brim_rotary_scaling *r) {
    if (r->factor == 0) return cJSON_AddNullToObject(json, "rope_scaling") != NULL;
    cJSON *object = cJSON_AddObjectToObject(json, "rope_scaling");
    return object && add_text(object, "rope_type", "llama3") &&
           add_number(object, "factor", r->factor) &&
           add_number(object, "low_freq_factor", r->low) &&
           add_number(object, "high_freq_factor", r->high) &&
           add_number(object, "original_max_position_embeddings", r->length);
}

static bool write_llama(cJSON *json, const model_config *c) {
    return add_number(json, "rope_theta", c->rotary_base) &&
           write_scaling(json, &c->rotary_scaling) &&
           add_bool(json, "tie_word_embeddings", c->tied) &&
           add_number(json, "attention_dropout", 0) &&
           cJSON_AddNullToObject(json, "bos_token_id") &&
           cJSON_AddNullToObject(json, "eos_token_id");
}

static bool write_fields(cJSON *json, const model_config *c, const family *f) {
    cJSON *classes = cJSON_AddArrayToObject(json, "architectures");
    bool complete = classes && cJSON_AddItemToArray(classes, cJSON_CreateString(f->class_name)) &&
                    add_text(json, "model_type", f->model_type) &&
                    add_text(json, f->activation_field, f->activation) &&
                    add_number(json, f->eps_field, c->norm_eps) &&
                    add_number(json, "initializer_range", 0.02);
    model_config all = *c; // what is left to a default is written out
    if (!all.kv_heads) all.kv_heads = c->heads;
    if (!all.head_size) all.head_size = c->width / c->heads;
    for (const size_field *size = f->sizes; size->name; size++)
        complete = complete &&
                   add_number(json, size->name, (double)*(int64_t *)((char *)&all + size->offset));
    return complete && (c->architecture == MODEL_GPT2 ? write_gpt2(json, c) : write_llama(json, c));
}

char *model_config_text(const model_config *c, brim_error *err) {
    if (model_config_check(c, err)) return NULL;
    cJSON *json = cJSON_CreateObject();
    char *text = write_fields(json, c, family_of(c)) ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (!text) brim_fail(err, BRIM_MEMORY, "config.json: no memory to write it");
    return text;
}

// ---- checking -----------------------------------------------------------------------------------

enum { LARGEST_HEAD = 256 };

static void check_llama(const model_config *c, int64_t size, brim_error *err) {
    if (c->kv_heads && c->heads % c->kv_heads != 0)
        brim_fail(err, BRIM_ARGUMENT, "%lld heads are no multiple of %lld key-value heads",
                  (long long)c->heads, (long long)c->kv_heads);
    if (size % 2 != 0)
        brim_fail(err, BRIM_ARGUMENT, "heads of %lld: rotary positions need an even number",
                  (long long)size);
    if (c->qkv_bias && c->qk_norm)
        brim_fail(err, BRIM_UNSUPPORTED,
                  "both biases of q, k, v and norms of q, k: no model of this kind is known");
}

brim_status model_config_check(const model_config *c, brim_error *err) {
    if (c->head_size == 0 && c->width % c->heads != 0)
        return brim_fail(err, BRIM_ARGUMENT, "width %lld is no multiple of %lld heads",
                         (long long)c->width, (long long)c->heads);
    int64_t size = c->head_size ? c->head_size : c->width / c->heads;
    if (size > LARGEST_HEAD)
        return brim_fail(err, BRIM_ARGUMENT,
                         "width %lld with %lld heads makes heads of %lld; at most %d are possible",
                         (long long)c->width, (long long)c->heads, (long long)size, LARGEST_HEAD);
    if (c->architecture == MODEL_LLAMA) check_llama(c, size, err);
    return err->status;
}
