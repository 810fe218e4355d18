#!/usr/bin/env bash
# Installs a build into a folder of its own and uses it from outside: by CMake, by pkg-config, from C and from C++.
# usage: tests/install.sh BIN_DIR        Ends with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1
source=$PWD
build=$(cd "$1/.." && pwd)
. tests/checks.sh

prefix=$work/prefix
check "install" cmake --install "$build" --prefix "$prefix"
pc=$(find "$prefix" -name brim.pc) config=$(find "$prefix" -name brimConfig.cmake)
library=$(find "$prefix" -name libbrim.so.0)
check "brim.pc, brimConfig.cmake and libbrim.so.0 are there" test -n "$pc" -a -n "$config" -a -n "$library"
check "no path of the build or of the sources" same "" "$(grep -rlF -e "$build/" -e "$source/" "$prefix" 2>/dev/null)"

# The symbols that are exported are those that the headers declare.
nm -D --defined-only "$library" | awk '{ print $3 }' | sort >exported.txt
sed 's|//.*||; /define BRIM_API/d' "$prefix"/include/brim/*.h | tr '\n' ' ' |
    grep -oE 'BRIM_API [^(;]*\(' | grep -oE '[a-z0-9_]+ *\($' | tr -d ' (' | sort >declared.txt
check "headers declare some hundred functions" test "$(wc -l <declared.txt)" -gt 80
check "exported symbols are those declared" same_file declared.txt exported.txt

# Each header alone, in both languages.
for header in "$prefix"/include/brim/*.h; do
    name=$(basename "$header")
    printf '#include <brim/%s>\n#include <brim/%s>\ntypedef int nothing_else;\n' "$name" "$name" >alone.c
    cp alone.c alone.cpp
    check "$name alone, C11" gcc -std=c11 -Wall -Wextra -Werror -pedantic -I"$prefix/include" -fsyntax-only alone.c
    check "$name alone, C++17" g++ -std=c++17 -Wall -Wextra -Werror -pedantic -I"$prefix/include" -fsyntax-only alone.cpp
done

# The API from C++.
export PKG_CONFIG_PATH=${pc%/*} LD_LIBRARY_PATH=${library%/*}
cat >api.cpp <<'END'
#include <brim/brim.h>
#include <cmath>

static brim_loss build(brim_graph *g, int64_t batch, int64_t, void *) {
    brim_value x = brim_input(g, "x", BRIM_F32, batch, 2, 3);
    brim_value gain = brim_parameter(g, "gain", (brim_init{BRIM_ONES, 0}), 6);
    brim_value rows = brim_mul(brim_reshape(brim_permute(x, 0, 2, 1), batch, -1), brim_broadcast(gain, batch, 6));
    brim_value y = brim_linear(rows, "out", 1);
    return brim_mse(y, brim_input(g, "y", BRIM_F32, batch, 1));
}

int main() {
    brim_error err = {};
    brim_graph *g = brim_graph_create(&err);
    brim_value bad = brim_add(brim_input(g, "a", BRIM_F32, 2, 3), brim_input(g, "b", BRIM_F32, 4));
    bool refused = err.status == BRIM_SHAPE && bad.id < 0;
    brim_graph_free(g);

    err = {};
    brim_trainer_options options = {};
    options.batch = 4;
    options.optimizer.lr = 0.05f;
    brim_trainer *t = brim_trainer_create(build, nullptr, &options, &err);
    float x[4][6], y[4];
    for (int i = 0; i < 24; i++) x[i / 6][i % 6] = float(i % 7) - 3;
    for (int b = 0; b < 4; b++) y[b] = x[b][0] + x[b][5];
    brim_journal *log = brim_journal_open("cpp.jsonl", 0, &err);
    brim_step_result r = {};
    double first = 0;
    while (!err.status && r.step < 100) {
        brim_trainer_feed(t, "x", x, sizeof x, &err);
        brim_trainer_feed(t, "y", y, sizeof y, &err);
        brim_trainer_step(t, &r, &err);
        brim_journal_put(log, &err, {"step", double(r.step)}, {"loss", r.loss});
        if (r.step == 1) first = r.loss;
    }
    brim_journal_close(log);
    brim_trainer_free(t);
    if (!err.status && !(refused && r.loss < first / 2)) brim_fail(&err, BRIM_DEVICE, "loss went from %g to %g", first, r.loss);
    return brim_error_report(&err);
}
END
check "C++ by pkg-config" g++ -std=c++17 -Wall -Wextra -Werror -pedantic api.cpp -o api $(pkg-config --cflags --libs brim)
check "C++ trains" ./api

# A project outside, by both ways. mlp.c is what a user would copy.
mkdir outside
cp "$source/examples/mlp.c" outside/
cat >outside/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.20)
project(outside C)
find_package(brim 0.1 REQUIRED)
add_executable(mlp mlp.c)
target_link_libraries(mlp PRIVATE brim::brim m)
END
check "find_package" cmake -S outside -B outside/build -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
check "build by CMake" cmake --build outside/build
check "mlp outside" outside/build/mlp
check "build by pkg-config" gcc outside/mlp.c -o outside/mlp $(pkg-config --cflags --libs brim) -lm
check "mlp by pkg-config" outside/mlp
sed -i 's/brim 0.1/brim 7.0/' outside/CMakeLists.txt
fails_with "another version is not found" "0.1.0" cmake -S outside -B outside/other -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
unset LD_LIBRARY_PATH

# An installed tree works wherever it is moved to.
mv "$prefix" "$work/moved"
check "installed programs run" "$work/moved/bin/train_gpt" --help
check "installed devices" "$work/moved/bin/devices"

# Backends that are left out, or asked for and cannot be built.
quick() { cmake -S "$source" -B "$1" -G Ninja -DBRIM_TESTS=OFF -DCMAKE_BUILD_TYPE=Debug "${@:2}"; }
fails_with "CUDA=ON without headers" "BRIM_CUDA is ON" quick on -DBRIM_CUDA=ON -DBRIM_CUDA_HEADERS=/nowhere
fails_with "OpenCL=ON without headers" "BRIM_OPENCL is ON" quick on -DBRIM_CUDA=OFF -DBRIM_OPENCL=ON -DBRIM_OPENCL_HEADERS=/nowhere
fails_with "neither ON, OFF nor AUTO" "expected AUTO, ON or OFF" quick on -DBRIM_CUDA=MAYBE
check "configure without backends" quick off -DBRIM_CUDA=OFF -DBRIM_OPENCL=OFF
check "build without backends" cmake --build off --target devices train_gpt
off/bin/devices >devices.txt
check "devices without a device: status" same 1 $?
check "devices says why: cuda" grep -q "^cuda .*not available" devices.txt
check "devices says why: opencl" grep -q "^opencl .*not available" devices.txt
echo "some text, again and again and again" >text.txt
refused "training without a device" "none was found" off/bin/train_gpt --data text.txt --seq 4 --batch 1 --out o

finish
