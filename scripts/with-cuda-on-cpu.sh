#!/usr/bin/env bash
# Runs a command with CUDA on the CPU, for tests. See --help.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
usage() {
    cat <<END
usage: scripts/with-cuda-on-cpu.sh [--build DIR] [SETTING=VALUE...] COMMAND [ARGUMENT...]

Runs COMMAND, for example build/bin/train_gpt --device cuda:0 ..., with libraries that stand in for NVIDIA's driver, NVRTC
and cuBLASLt and work on the CPU. They show whether the CUDA backend is right, not how fast it is: kernels run hundreds
of times slower than on a GPU.

Settings (all of them are in tests/cuda_on_cpu/cuda_on_cpu.h):
  seed=N          of the order in which streams and threads run; it is printed, and drawn anew where not given
  devices=N  memory=8G  capability=89
  pinned=BYTES    the largest piece of host memory that can be pinned
  fail=CALL:N     the N-th call of that name fails: fail=cuMemAlloc:1, fail=any:500, fail=cuLaunchKernel:3:700
  check=0         does not look at each access of kernels: faster
  nvrtc=0         does not show kernels to the real NVRTC, where it is installed: faster
  record=FILE     a line for each call of the driver
  --build DIR     where Brim was built (build)
END
}
build=$here/build
settings=
while [ $# -gt 0 ]; do
    case "$1" in
        --help) usage; exit 0 ;;
        --build) build=$(cd "$2" && pwd); shift 2 ;;
        *=*) settings="$settings $1"; shift ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }
libraries=$build/cuda_on_cpu
[ -e "$libraries/libcuda.so.1" ] || {
    echo "$libraries/libcuda.so.1 is missing: the tests are to be built, with CUDA's headers (-DBRIM_TESTS=ON -DBRIM_CUDA=ON)" >&2
    exit 2
}
# Kernels that were compiled by other libraries than these are not to be found.
export XDG_CACHE_HOME=$libraries/cache/$(cat "$libraries"/libnvrtc.so.* "$here"/tests/cuda_on_cpu/{image,device_side}.h | cksum | tr -d ' ')
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export CUDA_ON_CPU="${CUDA_ON_CPU:-}$settings"
exec "$@"
