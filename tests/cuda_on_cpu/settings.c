#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static driver_settings current = {.devices = 1,
                                  .memory = (int64_t)8 << 30,
                                  .overhead = (int64_t)256 << 20,
                                  .pinned = (int64_t)1 << 40,
                                  .capability = 89,
                                  .driver = 13000,
                                  .check = 1,
                                  .nvrtc = 1};
static char problem[256];

typedef struct setting {
    const char *name;
    int64_t *value, least, most;
} setting;

static const setting numbers[] = {
    {"seed", &current.seed, 0, INT64_MAX},
    {"devices", &current.devices, 0, 16},
    {"memory", &current.memory, 0, (int64_t)1 << 40},
    {"overhead", &current.overhead, 0, (int64_t)1 << 40},
    {"pinned", &current.pinned, 0, (int64_t)1 << 40},
    {"pinned_from", &current.pinned_from, 0, (int64_t)1 << 40},
    {"capability", &current.capability, 10, 200},
    {"driver", &current.driver, 10000, 20000},
    {"check", &current.check, 0, 1},
    {"nvrtc", &current.nvrtc, 0, 1},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

// A number with K, M or G behind it.
static bool parse_number(const char *text, int64_t *out) {
    static const char units[] = "KMG";
    char *end;
    long long n = strtoll(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || (*end && (!unit || end[1]))) return false;
    *out = n << (unit ? 10 * (unit - units + 1) : 0);
    return true;
}

static bool take_number(const char *name, const char *value) {
    for (int i = 0; i < NUMBERS; i++) {
        int64_t n;
        if (strcmp(numbers[i].name, name) != 0) continue;
        if (!parse_number(value, &n) || n < numbers[i].least || n > numbers[i].most) return false;
        *numbers[i].value = n;
        current.seeded |= numbers[i].value == &current.seed;
        return true;
    }
    return false;
}

static bool take_failure(const char *value) {
    char call[64];
    long long at = 1, status = 999;
    if (sscanf(value, "%63[^:]:%lld:%lld", call, &at, &status) < 1 || at < 1 || status < 1)
        return false;
    snprintf(current.fail_call, sizeof current.fail_call, "%s", call);
    current.fail_at = at, current.fail_status = status;
    return true;
}

static bool take_word(char *word) {
    char *value = strchr(word, '=');
    if (!value) return false;
    *value++ = '\0';
    if (strcmp(word, "fail") == 0) return take_failure(value);
    if (strcmp(word, "record") == 0)
        return snprintf(current.record, sizeof current.record, "%s", value) > 0;
    if (strcmp(word, "order") == 0) {
        current.in_submitted_order = strcmp(value, "submitted") == 0;
        return current.in_submitted_order || strcmp(value, "random") == 0;
    }
    return take_number(word, value);
}

static void take_words(const char *words) {
    char copy[2048], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", words);
    problem[0] = '\0';
    while ((word = strtok_r(rest, " ", &rest))) {
        char shown[200];
        snprintf(shown, sizeof shown, "%s", word);
        if (!take_word(word) && !*problem)
            snprintf(problem, sizeof problem, "\"%.199s\" is no setting; see cuda_on_cpu.h", shown);
    }
}

driver_settings *settings(void) {
    static bool read;
    if (read) return &current;
    read = true;
    const char *words = getenv("CUDA_ON_CPU");
    if (words) take_words(words);
    if (*problem) cuda_on_cpu_complain("CUDA_ON_CPU", "%s", problem);
    if (!current.seeded) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        current.seed = now.tv_nsec ^ now.tv_sec;
    }
    return &current;
}

const char *cuda_on_cpu_configure(const char *words) {
    settings()->failed_call[0] = '\0';
    memory_note(NULL);
    take_words(words);
    return *problem ? problem : NULL;
}

bool cuda_on_cpu_asks_nvrtc(void) {
    return settings()->nvrtc;
}
