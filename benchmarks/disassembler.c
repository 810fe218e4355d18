#include "benchmarks/disassembler.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/strbuf.h"

extern char **environ;

// Runs the tool with both its outputs in `out`; false where it fails.
static bool run_tool(char *const *arguments, strbuf *out) {
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    bool started = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    char part[1 << 16];
    for (ssize_t got = 1; started && got > 0;) {
        got = read(ends[0], part, sizeof part);
        if (got > 0) strbuf_append(out, part, (size_t)got);
    }
    close(ends[0]);
    int status = 0;
    return started && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

bool disassembler_found(const char *tool) {
    brim_error ignored = {0};
    strbuf out = {.err = &ignored};
    bool found = run_tool((char *[]){(char *)tool, "--version", NULL}, &out);
    strbuf_free(&out);
    return found;
}

char *disassemble(const char *tool, const char *cubin_path, brim_error *err) {
    strbuf out = {.err = err};
    if (failed(err)) return NULL;
    if (run_tool((char *[]){(char *)tool, "-c", (char *)cubin_path, NULL}, &out))
        return strbuf_take(&out);
    const char *text = strbuf_text(&out);
    brim_fail(err, BRIM_UNSUPPORTED, "%s cannot list %s: %.*s", tool, cubin_path,
              (int)strcspn(text, "\n"), text);
    strbuf_free(&out);
    return NULL;
}
