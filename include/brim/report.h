// What a training script shows and keeps beside its model: a log of numbers, a curve of them, a line of progress.
//
//   1. brim_lock *lock = brim_folder_lock("out", &err);
//      brim_journal *log = brim_journal_open("out/log.jsonl", steps_done, &err);
//      brim_progress *progress = brim_progress_open(stdout, &err);
//   2. each step:
//      brim_journal_put(log, &err, {"step", r.step}, {"loss", r.loss});
//      brim_progress_step(progress, r.step, steps, "loss %.4f", r.loss);
//   3. brim_journal_plot(log, "out/loss.svg", &err);
//      brim_progress_close(progress);
//      brim_journal_close(log);
//      brim_folder_unlock(lock);
#ifndef BRIM_REPORT_H
#define BRIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <brim/error.h>

#ifdef __cplusplus
extern "C" {
#endif

// The journal: a file of lines that are a JSON object each -------------------------------------------------------------

typedef struct brim_journal brim_journal;

typedef struct brim_field {
    const char *name;
    double value; // written so that it reads back to the same bits; NaN and infinities as null
} brim_field;

// Opens a log to go on with, or makes it. Of a log that is there already, lines whose "step" is above last_step are
// dropped, since a resumed run writes them again, and so is a last line that a crash cut off; the rest stays. NULL, and
// the file untouched, where it is something else than such a log.
BRIM_API brim_journal *brim_journal_open(const char *path, int64_t last_step, brim_error *err);

// Adds a line. It is in the file when the call returns.
BRIM_API bool brim_journal_write(brim_journal *journal, const brim_field *fields, size_t count, brim_error *err);

// The same with the fields in place: brim_journal_put(log, &err, {"step", 3}, {"loss", 1.5}).
#define brim_journal_put(journal, err, ...)                                                                            \
    brim_journal_write((journal), BRIM_FIELDS(__VA_ARGS__), BRIM_COUNT_FIELDS(__VA_ARGS__), (err))

// Adds a line with a text, such as the device's name.
BRIM_API bool brim_journal_note(brim_journal *journal, const char *name, const char *text, brim_error *err);

// Draws "loss" and "held_out_loss" over "step", as far as the log has them, into an SVG file.
BRIM_API bool brim_journal_plot(const brim_journal *journal, const char *svg, brim_error *err);

// Closing NULL is fine, here and below.
// Lines are with the system as soon as they are written; from here on also a power cut leaves them: to be called before a
// checkpoint is saved, which would otherwise survive its own log.
BRIM_API bool brim_journal_sync(brim_journal *journal, brim_error *err);

BRIM_API void brim_journal_close(brim_journal *journal);

// Progress: on a terminal one line that changes in place, elsewhere a plain line every few seconds ----------------------

typedef struct brim_progress brim_progress;

BRIM_API brim_progress *brim_progress_open(FILE *out, brim_error *err);

// done of total steps are done; the text is shown beside them, with the time left. As cheap as a clock reading where
// nothing is due. The last step (done == total) is always shown.
BRIM_API void brim_progress_step(brim_progress *progress, int64_t done, int64_t total, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Writes a line that stays.
BRIM_API void brim_progress_say(brim_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Takes the changing line away; other output can follow. Does nothing elsewhere than on a terminal.
BRIM_API void brim_progress_end(brim_progress *progress);

BRIM_API void brim_progress_close(brim_progress *progress);

// Small things ---------------------------------------------------------------------------------------------------------

// Makes a folder and its missing parents. Fine where it exists.
BRIM_API bool brim_folder_make(const char *path, brim_error *err);

// The right of one run at a time to write to a folder, which is made where it is missing.
typedef struct brim_lock brim_lock;

// NULL where another process has it (status BRIM_IO; the text names the folder and that process), or where the folder
// cannot be written to. The right is a lock on the file PATH/lock, which the kernel releases when its process ends,
// however it ends: a file that a killed run left there hinders nobody. Where the file system offers no locks, as some
// network file systems do, every run gets the right. What killed runs left in the folder under temporary names is
// removed.
BRIM_API brim_lock *brim_folder_lock(const char *path, brim_error *err);

// Removes the file, and a folder that the lock made and that is still empty. Unlocking NULL is fine.
BRIM_API void brim_folder_unlock(brim_lock *lock);

// "512 B", "3.2 GiB"; cut off where size is too small. Returns text.
BRIM_API const char *brim_bytes_text(int64_t bytes, char *text, size_t size);

// A number of bytes such as "8G", "512M", "1.5GiB" (powers of 1024; kB MB GB TB are powers of 1000). name is what an
// error text calls it, such as "--vram".
BRIM_API bool brim_bytes_parse(const char *text, const char *name, int64_t *bytes, brim_error *err);

// Field lists for the macro above.
#ifdef __cplusplus
} // extern "C"
#include <initializer_list>
#define BRIM_FIELDS(...) (std::initializer_list<brim_field>{__VA_ARGS__}.begin())
#define BRIM_COUNT_FIELDS(...) (std::initializer_list<brim_field>{__VA_ARGS__}.size())
#else
#define BRIM_FIELDS(...) ((const brim_field[]){__VA_ARGS__})
#define BRIM_COUNT_FIELDS(...) (sizeof BRIM_FIELDS(__VA_ARGS__) / sizeof(brim_field))
#endif

#endif
