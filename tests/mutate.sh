#!/usr/bin/env bash
# Mutants: small mistakes put into the product, one at a time. The suites that should notice must fail.
# usage: tests/mutate.sh BIN_DIR [--count N] [--seed TEXT] [--jobs N] [--areas AREA,...] [--written [INDEX...] | --random [INDEX...]]
# Ends with "N passed, N failed, N skipped".
#
# --written and --random leave the others out; an INDEX takes single ones again. --areas draws from these of tests/mutate/suites alone.
#
#   tests/mutate/written.def      mistakes written by hand, a sixth of them each day in the short form: all must be noticed
#   tests/mutate/mutate.c         rules that make mistakes from a seed: 8 in the short form, with a seed of the day, and 240 in the
#                                 long one (BRIM_TEST_LONG), with a seed of its own
#   tests/mutate/suites           which suites should notice what
#   tests/mutate/equivalent.def   mistakes that change nothing, each with its reason
#
# Of the random ones that are not known to change nothing 95% must be noticed in the long form; both shares are said. In the short form up to two
# unknown ones may live: where 4% do, three of eight are less than one day in 300, and they show suites that have gone blind.
#
# A mutant is built in a copy of the tree. What was built already is not built again: its file is compiled anew and the test
# program linked with it, in BUILD/mutate. One that does not compile, or comes to the same code, is none, and another
# is drawn. The suites run in a cage (tests/mutate/cage.c), and not longer than several times what they take without the mistake.
set -u
source=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1/.." && pwd) here=$build/mutate; shift
. "$source/tests/checks.sh"
cd "$source" || exit 1

if [ -n "${BRIM_TEST_LONG:-}" ]; then count=240 seed=brim jobs=2; else count=8 seed=$(date -u +%F) jobs=1; fi
# Areas take turns, so that each has its share.
areas=(kernels planner shapes lowering io passes autograd training kernels planner devices lowering io)
written=() random=() only='' most_unknown=2
while [ $# -gt 0 ]; do
    case "$1" in
        --count) count=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        --jobs) jobs=$2; shift 2 ;;
        --areas) IFS=, read -ra areas <<<"$2"; shift 2 ;;
        --written) only=written; shift; written=("$@"); break ;;
        --random) only=random; shift; random=("$@"); break ;;
        *) echo "mutate.sh: $1 is not known; usage: see its head"; exit 2 ;;
    esac
done
for index in "${written[@]}" "${random[@]}"; do
    [[ $index =~ ^[1-9][0-9]*$ ]] || { echo "mutate.sh: $index is no index; usage: see its head"; exit 2; }
done
[ ${#random[@]} -gt 0 ] || mapfile -t random < <(seq "$count")
all_written=$(grep -c '^== ' tests/mutate/written.def)
if [ ${#written[@]} -eq 0 ] && { [ -n "${BRIM_TEST_LONG:-}" ] || [ -n "$only" ]; }; then
    mapfile -t written < <(seq "$all_written")
elif [ ${#written[@]} -eq 0 ]; then # the short form takes turns
    mapfile -t written < <(seq $(($(date -u +%s) / 86400 % 6 + 1)) 6 "$all_written")
fi

rm -rf "$here"; mkdir -p "$here"/{cache,results,draws,passes}
# Kernels that were compiled for this user before need not be compiled again.
kernels=${XDG_CACHE_HOME:-$HOME/.cache}/brim/kernels
[ ! -d "$kernels" ] || { mkdir -p "$here/cache/brim"; cp -a "$kernels" "$here/cache/brim/"; }
cc -std=c11 -D_GNU_SOURCE -O1 tests/mutate/mutate.c tests/mutate/tokens.c -o "$here/mutate" &&
    cc -std=c11 -D_GNU_SOURCE -O1 tests/mutate/cage.c -o "$here/cage" || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
mkdir -p "$here/try/tmp"
if ! "$here/cage" 10 "$here/try" "$here/try/none" true 2>"$here/try/said"; then
    skip "mutants" "$(cat "$here/try/said"): they would not be kept from other files"
    finish; exit
fi

# ---- building ------------------------------------------------------------------------------------------------------

ninja -C "$build" -t commands run_tests >"$here/commands.run_tests"
ninja -C "$build" -t commands brim >"$here/commands.brim"
# Objects and what they are made of: "OBJECT FILE" a line.
ninja -C "$build" -t deps | awk '/^[^ ].*: #deps/ { sub(":", "", $1); object = $1; next } NF == 1 { print object, $1 }' >"$here/parts"

# in_copy SLOT COMMAND: the command, with the slot's copy of the tree in place of the tree.
in_copy() {
    local command=${2//$build\//@BUILD@}
    command=${command//$source/$1/tree}
    printf %s "${command//@BUILD@/$build/}"
}

# compile SLOT OBJECT SOURCE [FLAG...]: as it was built, and with the flags. Status: 0 it is another object than before, 1 it does not
# compile, 2 it is the same.
compile() {
    local slot=$1 object=$2 from=$3 command to=$1/obj/${2//\//_}; shift 3
    command=$(grep -F -- " -o $object -c " "$here/commands.run_tests" | head -n 1)
    [ -n "$command" ] || return 1
    command=$(in_copy "$slot" "$command" | sed -E "s/ -MD -MT [^ ]+ -MF [^ ]+//; s/ -o [^ ]+ -c [^ ]+$//")
    (cd "$build" && $command -w "$@" -o "$to" -c "$from") 2>"$slot/compiler.log" || return 1
    ! cmp -s "$to" "$build/$object" || return 2
}

# compile_all SLOT PATH [FLAG...]: the mutated file's objects, or the embedded text's and those of tests that include it. Writes their
# names to SLOT/objects. Status as compile's.
compile_all() {
    local slot=$1 path=$2 object command status=2; shift 2
    : >"$slot/objects"
    if [[ $path == backends/kernels/* ]]; then
        object=$(awk '/kernel_source\.c$/ { print $1; exit }' "$here/parts")
        command=$(grep -F embed_kernels.cmake "$here/commands.run_tests" | head -n 1 | sed "s|-DOUTPUT=[^ ]*|-DOUTPUT=$slot/kernel_source.c|")
        (cd "$build" && eval "$(in_copy "$slot" "$command" | sed "s|$build/[^ ]*kernel_source.c|$slot/kernel_source.c|g")") >/dev/null || return 1
        compile "$slot" "$object" "$slot/kernel_source.c" || return $?
        echo "$object" >"$slot/objects"
        while read -r object file; do
            compile "$slot" "$object" "$(in_copy "$slot" "$(command_source "$object")")"
            case $? in 0) echo "$object" >>"$slot/objects" ;; 1) return 1 ;; esac
        done < <(grep -E " ($source/|(\.\./)+)?$path\$" "$here/parts" | grep run_tests)
        return 0
    fi
    while read -r object file; do
        compile "$slot" "$object" "$(in_copy "$slot" "$(command_source "$object")")" "$@"
        case $? in 0) status=0; echo "$object" >>"$slot/objects" ;; 1) return 1 ;; esac
    done < <(grep -E " ($source/|(\.\./)+)?$path\$" "$here/parts" | grep -E '^CMakeFiles/brim_objects')
    return $status
}

command_source() { grep -F -- " -o $1 -c " "$here/commands.run_tests" | head -n 1 | sed -E 's/.* -c //'; }

# link SLOT TARGET LINE OUT [FLAG...]: the target's command of that form, with the slot's objects in place of those built.
link() {
    local slot=$1 command object out=$4
    command=$(grep -E -- "$3" "$here/commands.$2" | tail -n 1); shift 4
    while read -r object; do command=${command/ $object / $slot/obj/${object//\//_} }; done <"$slot/objects"
    (cd "$build" && eval "$(sed -E "s| -o [^ ]+| $* -o $out|" <<<"$command")") >"$slot/linker.log" 2>&1
}
link_tests() { link "$1" run_tests ' -o bin/run_tests' "$1/run_tests" "${@:2}"; }
link_library() { mkdir -p "$1/lib"; link "$1" brim ' -shared .* -o libbrim\.so' "$1/lib/libbrim.so.0"; }

new_slot() {
    local slot=$1
    rm -rf "$slot"; mkdir -p "$slot"/{tree,obj,tmp,home}
    cp -r core graph autograd backends optim include tests examples benchmarks "$slot/tree/"
    : >"$slot/objects"
}

# ---- running -------------------------------------------------------------------------------------------------------

# run_suite SLOT PROGRAM SPEC SECONDS: status 0 passed, 1 failed, 2 too long, 3 no cage. The slot's library, if there is one, is what
# programs are run with.
run_suite() {
    local slot=$1 program=$2 spec=$3 tap=$1/report command
    local env=(XDG_CACHE_HOME="$slot/cache" HOME="$slot/home" TEMP=/tmp CK_TAP_LOG_FILE_NAME="$tap"
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:hard_rss_limit_mb=4000)
    local suite=${spec#cuda:}
    command=("$program" "${suite%%[/@]*}")
    case "$spec" in cuda:*) command=("$source/scripts/with-cuda-on-cpu.sh" --build "$build" "$program" --device cuda "${suite%%[/@]*}") ;; esac
    case "$spec" in
        */*) env+=(CK_RUN_CASE="${spec#*/}") ;;
        *@*) env+=(BRIM_TEST_OPS=",${spec#*@}," CK_RUN_CASE=devices) ;;
        train) env+=(LD_LIBRARY_PATH="$slot/lib") command=("$source/tests/mutate/train.sh" "$build/bin") ;;
    esac
    rm -f "$tap"
    env "${env[@]}" "$here/cage" "$4" "$slot" "$tap" "${command[@]}" >"$slot/said" 2>&1
}

# How long a suite may take: several times the seconds of processor time that tests/mutate/suites says.
seconds_for() {
    awk -v suite="$1" '$1 == "time" && $2 == suite { s = $3 } END { print 15 + 4 * (s ? s : suite ~ /@/ ? 100 : 2) }' tests/mutate/suites
}

# Kernels that were compiled once are there for all mutants; what a mutant of what only plans and lowers compiled, too.
take_cache() { rm -rf "$1/cache"; (flock 9; cp -al "$here/cache" "$1/cache") 9>"$here/lock"; }
keep_cache() {
    case "$2" in graph/* | autograd/* | optim/* | backends/lower* | backends/program*)
        (flock 9; cp -aln "$1/cache/." "$here/cache/" 2>/dev/null) 9>"$here/lock" ;;
    esac
}

suites_for() {
    local area pattern suites
    while read -r area pattern suites; do
        # shellcheck disable=SC2254 # a pattern is meant
        case "$1" in $pattern) [ "$area" = "#" ] || { echo "$area $suites"; return; } ;; esac
    done <tests/mutate/suites
}

# try_suites SLOT PATH SUITE...: prints the first that notices, and how; nothing where none does.
try_suites() {
    local slot=$1 path=$2 spec status; shift 2
    take_cache "$slot"
    for spec in "$@"; do
        [ "$spec" != train ] || [ -d "$slot/lib" ] || link_library "$slot"
        run_suite "$slot" "$slot/run_tests" "$spec" "$(seconds_for "$spec")"
        status=$?
        keep_cache "$slot" "$path"
        case $status in
            0)
                : >"$here/passes/${spec//\//_}"
                ! grep -q "no OpenCL device" "$slot/said" || echo "suite $spec finds no device" >>"$here/broken"
                ! grep -q "ran no test" "$slot/said" || echo "suite $spec has no such case" >>"$here/broken" ;;
            2) echo "$spec (too long)"; return ;;
            *) echo "$spec"; return ;;
        esac
    done
}

# A suite that has noticed something and never passed may fail without any mistake. (In the short form all suites run elsewhere.)
check_suites() {
    local spec slot=$here/slot-0
    [ -n "${BRIM_TEST_LONG:-}" ] || return
    cut -f 7 "$here/results/all" | sed 's/,.*sanitizer//; s/ (too long)//' | sort -u | while read -r spec; do
        if [ "$spec" = - ] || [ -e "$here/passes/${spec//\//_}" ]; then continue; fi
        rm -rf "${slot:?}/lib"; take_cache "$slot"
        run_suite "$slot" "$build/bin/run_tests" "$spec" 900 || echo "suite $spec fails without any mistake" >>"$here/broken"
    done
}

is_known() { # DESCRIPTION: is it on the list of those that change nothing?
    local place before after
    IFS=$'\t' read -r place _ before after <<<"$1"
    # By the environment: awk's -v takes backslashes for escapes.
    path=${place%:*} before="- $before" after="+ $after" awk '
        /^[^-+ #]/ { file = $0; old = "" }
        /^- / { old = $0 }
        /^\+ / && file == ENVIRON["path"] && old == ENVIRON["before"] && $0 == ENVIRON["after"] { found = 1 }
        END { exit !found }' FS='\n' tests/mutate/equivalent.def
}

# note RESULT NAME DESCRIPTION BY SECONDS
note() { printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" >>"$here/results/all"; }

# judge SLOT NAME DESCRIPTION SUITE...: builds the slot's tree and lets the suites look. Status 1: it is no mutant. What no suite
# notices is built once more, with the address sanitizer in the file, so that the first suite notices bytes out of bounds;
# kernels have no such thing.
judge() {
    local slot=$1 name=$2 description=$3 start=$EPOCHREALTIME by path result=noticed; shift 3
    path=${description%%:*}
    rm -rf "${slot:?}/obj" "$slot/lib"; mkdir -p "$slot/obj"
    compile_all "$slot" "$path" && link_tests "$slot" || return 1
    by=$(try_suites "$slot" "$path" "$@")
    if [ -z "$by" ] && [[ $path == *.[ch] && $path != backends/kernels/* ]]; then
        compile_all "$slot" "$path" -O1 -fsanitize=address && link_tests "$slot" -fsanitize=address &&
            by=$(try_suites "$slot" "$path" "$1") && by=${by:+$by, address sanitizer}
    fi
    [ -n "$by" ] || result=lives
    note $result "$name" "$description" "${by:--}" "$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')"
    return 0
}

# ---- random ones ---------------------------------------------------------------------------------------------------

git ls-files core graph autograd backends optim | grep -E '\.c$|\.k$|/dialect\.h$' >"$here/files"
while read -r file; do
    row=$(suites_for "$file"); [ -z "$row" ] || echo "$file" >>"$here/results/files.${row%% *}"
done <"$here/files"
for area in "${areas[@]}"; do
    [ -e "$here/results/files.$area" ] || { echo "mutate.sh: area $area has no files (tests/mutate/suites)"; exit 2; }
done

# draw_one SLOT INDEX
draw_one() {
    local slot=$1 index=$2 attempt description path files row
    local area=${areas[$(((index - 1) % ${#areas[@]}))]}
    mapfile -t files <"$here/results/files.$area"
    for attempt in $(seq 30); do
        description=$("$here/mutate" draw "$seed $index $attempt" "$slot/mutant" "${files[@]}" 2>"$slot/said") || continue # a table, say
        path=${description%%:*}
        # One that was drawn already is not drawn again.
        mkdir "$here/draws/$(md5sum <<<"${description#*:}$path" | cut -c 1-16)" 2>/dev/null || continue
        if is_known "$description"; then note known "$index $area" "$description" - 0; return; fi
        cp "$slot/mutant" "$slot/tree/$path"
        row=$(suites_for "$path")
        # shellcheck disable=SC2086 # a list of suites
        judge "$slot" "$index $area" "$description" ${row#* }
        local status=$?
        cp "$source/$path" "$slot/tree/$path"
        [ $status -ne 0 ] || return
    done
}

# ---- those written by hand -----------------------------------------------------------------------------------------

# written.def has blocks: "== NAME", "PATH : SUITE...", lines "- " and "+ " with the text and what stands for it.
write_one() {
    local slot=$1 index=$2 name path suites from to description
    block() { awk -v n="$index" '/^== / { k++ } k == n' tests/mutate/written.def; }
    name=$(block | sed -n 's/^== //p')
    IFS=: read -r path suites < <(block | sed -n 2p); path=${path% }
    from=$(block | sed -n 's/^- //p') to=$(block | sed -n 's/^+ \{0,1\}//p')
    description=$("$here/mutate" replace "$slot/mutant" "$path" "$from" "$to") || { note broken "$name" "$path:0	-	$from	$to" - 0; return; }
    cp "$slot/mutant" "$slot/tree/$path"
    # shellcheck disable=SC2086
    judge "$slot" "$name" "$description" $suites || note broken "$name" "$description" "does not build, or is the same code" 0
    cp "$source/$path" "$slot/tree/$path"
}

# ---- all of it -----------------------------------------------------------------------------------------------------

worker() {
    local slot=$here/slot-$1 k=0 item
    new_slot "$slot"
    for item in "${work_list[@]}"; do
        k=$((k + 1)); [ $((k % jobs)) -eq "$1" ] || continue
        case "$item" in written:*) write_one "$slot" "${item#*:}" ;; *) draw_one "$slot" "$item" ;; esac
    done
}

: >"$here/results/all"; rm -f "$here/broken"
work_list=()
[ "$only" = random ] || work_list+=("${written[@]/#/written:}")
[ "$only" = written ] || work_list+=("${random[@]}")
echo "seed $seed: ${#work_list[@]} mutants"
for ((j = 0; j < jobs; j++)); do worker "$j" & done
wait
check_suites

number() { awk -F'\t' -v result="$1" -v random="$2" '$1 == result && ($4 != "written") == random { n++ } END { print n + 0 }' "$here/results/all"; }

noticed=$(number noticed 1) lives=$(number lives 1) known=$(number known 1)
all=$((noticed + lives + known))
passed=$((noticed + known + $(number noticed 0))) failed=$(($(number lives 0) + $(number broken 0) + $(number broken 1)))
[ "$(number lives 0)" -eq 0 ] || echo "Written by hand, and not noticed:"
awk -F'\t' '($1 == "lives" && $4 == "written") || $1 == "broken" { printf "  %s: %s\n    - %s\n    + %s\n    %s\n", $2, $3, $5, $6, $7 }' "$here/results/all"
if [ "$all" -gt 0 ]; then
    awk -F'\t' '$4 != "written" { split($2, part, " "); area = part[2]; n[area]++; good[area] += $1 == "noticed" }
        END { for (a in n) printf "  %-9s %d of %d noticed\n", a, good[a], n[a] }' "$here/results/all" | sort
    echo "Random mutants: $noticed of $all noticed ($((100 * noticed / all))%), $known known to change nothing, $lives not noticed"
    [ "$lives" -eq 0 ] || { echo "Not noticed:"; awk -F'\t' '$4 != "written"' "$here/results/all" >"$here/results/random"
        awk -F'\t' '$1 == "lives" { printf "  %s, %s, %s\n    - %s\n    + %s\n", $3, $4, $2, $5, $6 }' "$here/results/random"; }
    if [ -n "${BRIM_TEST_LONG:-}" ]; then
        failed=$((failed + lives))
        [ $((100 * noticed)) -ge $((95 * (all - known))) ] || fail "less than 95% of $((all - known)) mutants were noticed"
    else
        [ "$lives" -le $most_unknown ] || fail "$lives of $all mutants are not noticed"
    fi
fi
if [ -s "$here/broken" ]; then sort -u "$here/broken"; fail "suites that fail without a mistake notice nothing"; fi
[ "$passed" -gt 0 ] || fail "no mutant was tried"
finish
