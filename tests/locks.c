// The locks of our objects in run_tests (by the linker's --wrap; see CMakeLists.txt): a thread
// gives back only what it holds. Without this a lock that is not taken is seen by nobody but the
// thread sanitizer.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_HELD = 16 };
static _Thread_local const pthread_mutex_t *held[MOST_HELD];

static void exchange(const pthread_mutex_t *from, const pthread_mutex_t *to, const char *what) {
    for (int i = 0; i < MOST_HELD; i++)
        if (held[i] == from) {
            held[i] = to;
            return;
        }
    fprintf(stderr, "locks: %s\n", what);
    abort();
}

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
    int status = __real_pthread_mutex_lock(mutex);
    if (status == 0) exchange(NULL, mutex, "more are held at once than a test knows");
    return status;
}

int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
    exchange(mutex, NULL, "a thread gives back a lock that it does not hold");
    return __real_pthread_mutex_unlock(mutex);
}
