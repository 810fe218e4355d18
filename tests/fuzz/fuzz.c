#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sanitizer/allocator_interface.h>
#include "core/mapfile.h"
#include "core/utf8.h"

static bool inside;

bool fuzz_inside(void) {
    return inside;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    inside = true;
    fuzz_one(data, size);
    inside = false;
    return 0;
}

void fuzz_fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

// ---- files --------------------------------------------------------------------------------------

static void write_whole(int file, const void *data, size_t size) {
    for (const char *bytes = data; size > 0;) {
        ssize_t count = write(file, bytes, size);
        FUZZ_CHECK(count > 0, "the input cannot be written");
        bytes += count, size -= (size_t)count;
    }
}

const char *fuzz_file(const void *data, size_t size) {
    static char path[32];
    static int file = -1;
    if (file < 0) {
        file = memfd_create("input", MFD_CLOEXEC);
        FUZZ_CHECK(file >= 0, "memfd_create failed");
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    FUZZ_CHECK(ftruncate(file, 0) == 0 && lseek(file, 0, SEEK_SET) == 0, "no empty file");
    write_whole(file, data, size);
    return path;
}

// Files are copied to the end of a page that has none behind it, so that a read beyond their end is
// seen in libraries, too.
bool __real_mapfile_open(mapfile *file, const char *path, brim_error *err);
void __real_mapfile_close(mapfile *file);
bool __wrap_mapfile_open(mapfile *file, const char *path, brim_error *err);
void __wrap_mapfile_close(mapfile *file);

enum { PAGE = 4096 };

static size_t room_for(size_t size) {
    return (size + PAGE - 1) / PAGE * PAGE;
}

bool __wrap_mapfile_open(mapfile *file, const char *path, brim_error *err) {
    mapfile mapped;
    *file = (mapfile){0};
    if (!__real_mapfile_open(&mapped, path, err)) return false;
    size_t room = room_for(mapped.size);
    char *pages =
        mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FUZZ_CHECK(pages != MAP_FAILED && mprotect(pages + room, PAGE, PROT_NONE) == 0, "no pages");
    char *copy = pages + room - mapped.size;
    memcpy(copy, mapped.data, mapped.size);
    *file = (mapfile){(unsigned char *)copy, mapped.size};
    __real_mapfile_close(&mapped);
    return true;
}

void __wrap_mapfile_close(mapfile *file) {
    size_t room = room_for(file->size);
    if (file->data) munmap((char *)file->data + file->size - room, room + PAGE);
    *file = (mapfile){0};
}

// ---- a folder -----------------------------------------------------------------------------------

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type;
    if (place->level > 0) remove(path);
    return 0;
}

void fuzz_clear(void) {
    nftw(fuzz_folder(), remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void remove_folder(void) {
    fuzz_clear();
    rmdir(fuzz_folder());
}

const char *fuzz_folder(void) {
    static char folder[64];
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/brim-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_CHECK(mkdtemp(folder), "no folder for files");
    atexit(remove_folder);
    return folder;
}

const char *fuzz_path(const char *name) {
    enum { PATHS = 4 };
    static char paths[PATHS][512];
    static int next;
    char *path = paths[next = (next + 1) % PATHS];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

void fuzz_write(const char *name, const void *data, size_t size) {
    int file = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(file >= 0, "%s cannot be made", name);
    write_whole(file, data, size);
    close(file);
}

char *fuzz_read(const char *name, size_t *size) {
    int file = open(fuzz_path(name), O_RDONLY | O_CLOEXEC);
    struct stat status;
    FUZZ_CHECK(file >= 0 && fstat(file, &status) == 0, "%s is not there", name);
    *size = (size_t)status.st_size;
    char *text = malloc(*size + 1);
    FUZZ_CHECK(text && read(file, text, *size) == (ssize_t)*size, "%s cannot be read", name);
    text[*size] = '\0';
    close(file);
    return text;
}

// ---- errors -------------------------------------------------------------------------------------

bool fuzz_error(brim_error *err) {
    if (err->status == BRIM_OK) return false;
    size_t length = strnlen(err->text, sizeof err->text);
    FUZZ_CHECK(length > 0, "an error without a text");
    FUZZ_CHECK(length < sizeof err->text, "an error text without an end");
    for (const char *c = err->text; *c;) {
        int bytes = utf8_length(c);
        FUZZ_CHECK(bytes > 0, "an error text that is not UTF-8: %s", err->text);
        FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7f, "a control character: %s", err->text);
        bool high = *c == '\xc2' && (unsigned char)c[1] < 0xa0;
        FUZZ_CHECK(!high, "a control character of two bytes: %s", err->text);
        c += bytes;
    }
    FUZZ_CHECK(brim_status_name(err->status)[0], "a status without a name");
    *err = (brim_error){0};
    return true;
}

// ---- memory -------------------------------------------------------------------------------------

static size_t live, limit;
static bool watching;

static void taken(const volatile void *block, size_t size) {
    (void)block;
    if (!watching) return;
    live += size;
    FUZZ_CHECK(live <= limit, "%zu bytes are taken, %zu are fine for this input", live, limit);
}

// What was taken before may be freed in between.
static void given_back(const volatile void *block) {
    size_t size = watching && block ? __sanitizer_get_allocated_size(block) : 0;
    live -= size < live ? size : live;
}

void fuzz_begin(size_t size, size_t factor) {
    static bool installed;
    if (!installed) __sanitizer_install_malloc_and_free_hooks(taken, given_back);
    installed = true;
    live = 0, limit = factor * size + FUZZ_USUAL_BYTES;
    watching = true;
}

void fuzz_end(void) {
    watching = false;
}

// ---- parts of the input -------------------------------------------------------------------------

char *fuzz_line(const uint8_t **data, size_t *size) {
    const uint8_t *end = *size ? memchr(*data, '\n', *size) : NULL;
    size_t length = end ? (size_t)(end - *data) : *size;
    char *line = malloc(length + 1);
    FUZZ_CHECK(line, "no memory for a line");
    if (length) memcpy(line, *data, length);
    line[length] = '\0';
    size_t used = length + (end != NULL);
    *data += used, *size -= used;
    return line;
}
