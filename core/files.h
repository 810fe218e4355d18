// Files and folders that appear whole or not at all, and a few helpers around them.
//
// A file:                                              A folder:
//   1. file_writer *w = file_create(path, err);          1. folder_writer *f =
//   folder_create("out/step-100", err);
//   2. file_write(w, data, size, err);                   2. make files in folder_path(f), which is
//   temporary
//   3. file_commit(w, err);                              3. folder_commit(f, false, err);
//
// What is written has a temporary name beside the final one (PATH.brim-tmp-0123abcd) until it is
// complete and on the disk (fsync); the rename that follows is atomic, and the parent folder is
// synced after it. So a reader, and a machine that lost its power, see the old contents or the new
// ones. A process that is killed leaves the temporary name behind; folder_clean removes it later.
//
// All text names the file and the system's reason; the status is BRIM_IO unless said otherwise.
#ifndef BRIM_CORE_FILES_H
#define BRIM_CORE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/error.h"

// --- one file ---

typedef struct file_writer file_writer;

// NULL on failure, in which case the calls below do nothing.
file_writer *file_create(const char *path, brim_error *err);

// Appends. Not buffered: each call is a system call.
bool file_write(file_writer *w, const void *data, size_t size, brim_error *err);

// Writes over bytes that were written before.
bool file_rewrite(file_writer *w, uint64_t offset, const void *data, size_t size, brim_error *err);

// Bytes appended so far.
uint64_t file_size(const file_writer *w);

// The name that the file will have.
const char *file_path(const file_writer *w);

// Gives the file its name, replacing what had it, and frees w. Where this fails, or err already
// holds an error, the temporary file is removed and what had the name stays.
bool file_commit(file_writer *w, brim_error *err);

// Removes the temporary file and frees w.
void file_discard(file_writer *w);

// A small file in one call, atomically as above.
bool file_replace(const char *path, const void *data, size_t size, brim_error *err);

// All of a small file, on the heap, with a NUL behind it; its length goes to *size unless that is
// NULL. NULL where it cannot be read or has more than max bytes (status BRIM_FORMAT).
char *file_read(const char *path, size_t max, size_t *size, brim_error *err);

// --- folders ---

typedef struct folder_writer folder_writer;

folder_writer *folder_create(const char *path, brim_error *err);

// The temporary folder, to make files in.
const char *folder_path(const folder_writer *f);

// Syncs every file in the folder, gives the folder its name and frees f. Where the name is taken:
// with replace, the old folder is exchanged and removed; without, it stays and the commit fails.
// Where the commit fails, or err already holds an error, the temporary folder is removed.
bool folder_commit(folder_writer *f, bool replace, brim_error *err);

void folder_discard(folder_writer *f);

// Makes a folder and its missing parents (mkdir -p). Fine where it exists; new ones get mode, less
// the umask.
bool folder_make(const char *path, unsigned mode, brim_error *err);

// Removes a folder with all that is in it, without following links. Fine where it does not exist.
bool folder_remove(const char *path, brim_error *err);

// Removes from a folder what killed processes left in it under temporary names, and gives a folder
// that they had moved aside its name back where that is free. What a live process writes is locked
// and stays, as does everything on a file system without locks. Failures are ignored.
void folder_clean(const char *path);

// fsync, until no signal interrupts it.
int sync_descriptor(int descriptor);

// Syncs a folder, so that the names in it are on the disk.
bool folder_sync(const char *path, brim_error *err);

// The folder for what can be made again, such as compiled kernels: $XDG_CACHE_HOME/brim, or
// ~/.cache/brim. It is made, private to the user, where it is missing.
bool brim_cache_dir(char *buffer, size_t size, brim_error *err);

// --- for both ---

// PATH.brim-SUFFIX-XXXXXXXX with random digits, on the heap. Different at each call; it may exist
// all the same.
char *path_temporary(const char *path, const char *suffix, brim_error *err);

// "." or "/" or what is before the last slash, on the heap.
char *path_parent(const char *path, brim_error *err);

// DIRECTORY/NAME, on the heap.
char *path_join(const char *directory, const char *name, brim_error *err);

#endif
