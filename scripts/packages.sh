# Debian and Ubuntu packages by purpose, and how to get them. Sourced by demo.sh, test.sh and the scripts here.

PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config opencl-c-headers ocl-icd-opencl-dev libcjson-dev zlib1g-dev"
# Found at run time: an OpenCL driver for the CPU, and libraries for matrix products.
PACKAGES_RUN="pocl-opencl-icd libdnnl-dev libopenblas0-pthread libclblast1"
PACKAGES_DEMO="dict-gcide"
PACKAGES_TEST="check g++ clang oclgrind"

# Installs those of the packages named that are missing, or names them where that is not permitted.
ensure_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local install=(apt-get install -y --no-install-recommends "${missing[@]}")
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then
            install=(sudo "${install[@]}")
        else
            echo "These packages are missing: ${missing[*]}"
            echo "Please run: sudo apt-get update && sudo ${install[*]}"
            return 1
        fi
    fi
    echo "Installing ${missing[*]}"
    local log; log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive "${install[@]}" || { ${install[0]/apt-get/} apt-get update &&
           DEBIAN_FRONTEND=noninteractive "${install[@]}"; }; } >"$log" 2>&1; then
        tail -n 5 "$log"
        echo "These packages could not be installed: ${missing[*]}"
        return 1
    fi
    rm -f "$log"
}

# Configures build/ once and builds what changed.
build_brim() {
    local tests=$1
    if [ ! -f build/build.ninja ] || ! grep -q "BRIM_TESTS:BOOL=$tests" build/CMakeCache.txt; then
        cmake -S . -B build -G Ninja -DBRIM_TESTS="$tests" >build.log 2>&1 || { cat build.log; rm -f build.log; return 1; }
        rm -f build.log
    fi
    cmake --build build -- --quiet || cmake --build build
}
