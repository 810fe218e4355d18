# What the test scripts share: a folder to work in, and checks that are counted. Sourced.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED $*"; }

# check NAME COMMAND...: the command must succeed. It may look at what the one before printed, in check.log.
check() {
    local name=$1; shift
    if "$@" >next.log 2>&1; then pass; else fail "$name: $*"; tail -n 5 next.log; fi
    mv next.log check.log
}

# fails_with NAME TEXT COMMAND...: exit status not 0, and TEXT in what it prints.
fails_with() {
    local name=$1 text=$2; shift 2
    if "$@" >check.log 2>&1; then fail "$name: it succeeded: $*"
    elif tr -s '\n ' '  ' <check.log | grep -qF -- "$text"; then pass
    else fail "$name: expected a text with: $text"; tail -n 5 check.log; fi
}

# refused NAME TEXT COMMAND...: exit status 1, one line on stderr that begins with "error: ", and TEXT in it.
refused() {
    local name=$1 text=$2 status; shift 2
    "$@" >out.log 2>err.log; status=$?
    if [ $status -eq 1 ] && [ "$(wc -l <err.log)" -eq 1 ] && grep -q '^error: ' err.log && grep -qF -- "$text" err.log
    then pass
    else fail "$name: status $status, expected one line with: $text"; head -n 5 err.log; fi
}

skip() { skipped=$((skipped + 1)); echo "skipped $1: $2"; }

same() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }
same_file() { cmp "$1" "$2"; }
differ() { ! cmp -s "$1" "$2"; }

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}
