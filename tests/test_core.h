// What the suites of core share.
#ifndef BRIM_TEST_CORE_H
#define BRIM_TEST_CORE_H

#include <string.h>
#include <check.h>
#include "core/error.h"

// The call before went well; its error text is shown where it did not.
#define ASSERT_FINE(err) ck_assert_msg((err).status == BRIM_OK, "unexpected error: %s", (err).text)

// The call before failed with this status and a text that names this; err is cleared.
#define ASSERT_FAILS(err, expected, part)                                                          \
    do {                                                                                           \
        ck_assert_msg((err).status == (expected), "status %s: %s", brim_status_name((err).status), \
                      (err).text);                                                                 \
        ck_assert_msg(strstr((err).text, (part)), "\"%s\" is not in: %s", (part), (err).text);     \
        ck_assert_msg(!strchr((err).text, '\n'), "more than one line: %s", (err).text);            \
        (err) = (brim_error){0};                                                                   \
    } while (0)

#endif
