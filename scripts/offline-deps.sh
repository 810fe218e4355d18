#!/usr/bin/env bash
# Gathers the packages that the build and the tests need, unpacked into a folder, for a machine with no network:
#
#   scripts/offline-deps.sh deps          here, where apt works
#   scripts/gpu-check.sh out --deps deps  there, with the folder beside it
#
# A compiler, libc's headers and CMake must be on that machine; so must be a C library at least as new as this one's.
set -eu
if [ $# -ne 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: scripts/offline-deps.sh DIR"
    echo "Downloads Debian or Ubuntu packages with apt (installing none) and unpacks them into DIR: OpenCL headers and"
    echo "loader, cJSON, zlib, Check, oneDNN, CLBlast, ninja, pkg-config. Some 50 MB; OpenCL drivers are left out."
    [ "${1:-}" = "--help" ]; exit
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
. scripts/packages.sh

fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT

# What a machine with a C compiler has anyhow, or what is too large to take along.
left_out="gcc|libc6-dev|cmake|g\+\+|clang|oclgrind|pocl-opencl-icd|libopenblas0-pthread|libdnnl-dev"
# Packages that those named cannot do without; the names of libraries' packages change from release to release.
needs() {
    apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
        sed -n 's/^ *|\?\(Pre\)\?Depends: \([a-z0-9][a-z0-9.+-]*\)$/\2/p' | sort -u
}
here_everywhere() { grep -qxE 'libc6|libc6-dev|libc-dev|libgcc-s1|libstdc\+\+6|gcc-.*|mawk|libgomp1|opencl-headers|libopencl.*' <<<"$1"; }

names=()
for name in $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_TEST $(needs libdnnl-dev); do
    grep -qxE "$left_out" <<<"$name" || names+=("$name")
done
wanted=()
while [ ${#names[@]} -gt 0 ]; do # with all that they depend on
    next=()
    for name in "${names[@]}"; do
        case " ${wanted[*]-} " in *" $name "*) continue ;; esac
        here_everywhere "$name" && continue
        wanted+=("$name")
        next+=($(needs "$name"))
    done
    names=(${next[@]+"${next[@]}"})
done

echo "Fetching ${wanted[*]}"
(cd "$fetched" && apt-get -q -o APT::Sandbox::User=root download "${wanted[@]}" >log 2>&1) || { tail -n 5 "$fetched/log"; exit 1; }
for package in "$fetched"/*.deb; do dpkg-deb -x "$package" "$dir"; done

# A build needs neither documentation nor the static form of what is there as a shared library.
rm -rf "$dir/usr/share/doc" "$dir/usr/share/man" "$dir/usr/share/locale" "$dir/usr/share/lintian" "$dir/usr/share/bug"
find "$dir" -name '*.a' | while read -r file; do
    if [ -e "${file%.a}.so" ] || [ -L "${file%.a}.so" ]; then rm "$file"; fi
done
# Links and pkg-config files name places on a system: they are made to name places in the folder.
find "$dir" -type l -lname '/*' | while read -r link; do
    target="$dir$(readlink "$link")"
    if [ -e "$target" ]; then ln -sfn "$(realpath --relative-to="$(dirname "$link")" "$target")" "$link"; fi
done
find "$dir" -name '*.pc' | while read -r file; do
    up=$(realpath --relative-to="$(dirname "$file")" "$dir/usr")
    sed -i "s|^prefix=/usr\$|prefix=\${pcfiledir}/$up|; s|=/usr/|=\${pcfiledir}/$up/|" "$file"
done

# Everything in it must find what it is linked with, in it or on a plain system.
libraries=$(find "$dir" -name '*.so*' -type f -printf '%h\n' | sort -u | paste -sd:)
lost=$(find "$dir" -name '*.so*' -type f -exec env LD_LIBRARY_PATH="$libraries" ldd {} + 2>/dev/null | grep 'not found' || true)
[ -z "$lost" ] || { echo "Libraries are missing from it:"; sort -u <<<"$lost"; exit 1; }
echo "$(du -sm "$dir" | cut -f1) MiB in $dir"
