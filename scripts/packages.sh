# Debian and Ubuntu packages by purpose, how to get them, and how to build. Sourced by demo.sh, test.sh and the scripts
# here, after they have gone to the repository's root.

PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config opencl-c-headers ocl-icd-opencl-dev libcjson-dev zlib1g-dev"
# Found at run time: an OpenCL driver for the CPU, and libraries for matrix products.
PACKAGES_RUN="pocl-opencl-icd libdnnl-dev libopenblas0-pthread libclblast1"
PACKAGES_DEMO="dict-gcide"
PACKAGES_TEST="check clang g++"
# Not in every distribution (Debian 12 has oclgrind, 13 has not; older ones have clang's runtime in another package): tests
# do without.
PACKAGES_TEST_OPTIONAL="oclgrind libclang-rt-dev"

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Installs those of the packages named that are missing, or names them where that is not permitted.
ensure_packages() {
    local missing=() name
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "This is neither Debian nor Ubuntu: going on with what is here. Debian's packages would be: $*"
        return 0
    fi
    for name in "$@"; do is_installed "$name" || missing+=("$name"); done
    [ ${#missing[@]} -eq 0 ] && return 0

    local as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" -ne 0 ]; then
        # On a terminal sudo may ask for a password; elsewhere nobody could answer.
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
            as_root=(sudo env DEBIAN_FRONTEND=noninteractive)
        else
            echo "These packages are missing, and installing them takes root: ${missing[*]}"
            echo "Please run: sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}"
            return 1
        fi
    fi
    echo "Installing ${missing[*]}"
    install_packages "${missing[@]}" && return 0
    echo "These packages could not be installed: ${missing[*]}"
    return 1
}

# Those of the packages named that can be had: installed already, or in the lists of packages.
available_packages() {
    local name
    command -v apt-cache >/dev/null || return 0
    for name in "$@"; do
        if is_installed "$name" || [ -n "$(apt-cache show --no-all-versions "$name" 2>/dev/null)" ]; then echo "$name"; fi
    done
}

# The lists of packages may be missing or old: they are fetched where the first try fails.
install_packages() {
    local log status=1; log=$(mktemp)
    local install=("${as_root[@]}" apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
    if "${install[@]}" >"$log" 2>&1 || { "${as_root[@]}" apt-get update && "${install[@]}"; } >"$log" 2>&1; then status=0
    else tail -n 5 "$log"; fi
    rm -f "$log"
    return $status
}

# build_brim TESTS [TARGET...]: configures build/ where that is needed and builds what changed. TESTS is ON, or AUTO to
# keep what was chosen before.
build_brim() {
    local tests=$1 log status=0; shift
    log=$(mktemp)
    if [ ! -f build/build.ninja ] || { [ "$tests" = ON ] && ! grep -q '^BRIM_TESTS:STRING=ON' build/CMakeCache.txt; }; then
        cmake -S . -B build -G Ninja -DBRIM_TESTS="$tests" >"$log" 2>&1 || status=1
    fi
    [ $status -ne 0 ] || cmake --build build ${@:+--target "$@"} >"$log" 2>&1 || status=1
    [ $status -eq 0 ] || tail -n 40 "$log"
    rm -f "$log"
    return $status
}
