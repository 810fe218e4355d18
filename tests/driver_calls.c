#include "tests/driver_calls.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "tests/faults/faults.h"

enum { MOST_THINGS = 16384 };

static struct {
    pthread_mutex_t lock;
    struct {
        const char *function;
        const void *caller;
        int calls;
    } place[DRIVER_MOST_PLACES];
    int places, fail_place, fail_call;
    bool failed;
    struct {
        uintptr_t thing;
        const char *function;
    } held[MOST_THINGS]; // once for each time that it was taken
    int things;
} driver = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_place = -1};

static int place_of(const char *function, const void *caller) {
    int i = 0;
    while (i < driver.places &&
           (driver.place[i].caller != caller || driver.place[i].function != function))
        i++;
    if (i == DRIVER_MOST_PLACES) return -1;
    if (i < driver.places) return i;
    driver.place[i].function = function;
    driver.place[i].caller = caller;
    return driver.places++;
}

bool faults_strike(fault_kind kind, const char *call, const void *caller) {
    (void)kind;
    pthread_mutex_lock(&driver.lock);
    int at = place_of(call, caller);
    bool fails = at >= 0 && ++driver.place[at].calls == driver.fail_call && at == driver.fail_place;
    driver.failed |= fails;
    pthread_mutex_unlock(&driver.lock);
    return fails;
}

void faults_take(fault_kind kind, const char *call, const void *caller, uintptr_t thing) {
    (void)kind, (void)caller;
    pthread_mutex_lock(&driver.lock);
    if (driver.things < MOST_THINGS) {
        driver.held[driver.things].thing = thing;
        driver.held[driver.things++].function = call;
    }
    pthread_mutex_unlock(&driver.lock);
}

void faults_give(fault_kind kind, uintptr_t thing) {
    (void)kind;
    pthread_mutex_lock(&driver.lock);
    int i = driver.things;
    while (i > 0 && driver.held[i - 1].thing != thing) i--;
    if (i > 0) driver.held[i - 1] = driver.held[--driver.things];
    pthread_mutex_unlock(&driver.lock);
}

const char *driver_calls_left(void) {
    static char text[120];
    text[0] = '\0';
    if (driver.things)
        snprintf(text, sizeof text, "of %s, and %d more", driver.held[0].function,
                 driver.things - 1);
    return text;
}

void driver_calls_count(void) {
    for (int i = 0; i < driver.places; i++) driver.place[i].calls = 0;
    driver.fail_place = -1;
    driver.failed = false;
}

int driver_calls_places(void) {
    return driver.places;
}

int driver_calls_of(int place, const char **function) {
    *function = driver.place[place].function;
    return driver.place[place].calls;
}

void driver_calls_fail(int place, int call) {
    driver.fail_place = place;
    driver.fail_call = call;
}

bool driver_calls_failed(void) {
    return driver.failed;
}
