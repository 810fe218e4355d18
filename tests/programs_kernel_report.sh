# What NVRTC makes of the kernels, of which one is asked for. Sourced by programs.sh.

report_one() { "$bin/kernel_report" --arch 75,90 --filter accumulate --json report.json; }
if [ ! -x "$bin/kernel_report" ]; then
    skip "kernel_report" "this build has no CUDA backend: CUDA kernels are not compiled here"
elif ! "$bin/kernel_report" --filter accumulate --arch 90 >/dev/null 2>report.log && grep -q nvrtc report.log; then
    skip "kernel_report" "libnvrtc is not installed: CUDA kernels are not compiled here"
else
    check "kernel_report" report_one
    check "kernel_report: a row for each architecture" same 2 "$(grep -c '^sm_' check.log)"
    check "kernel_report: registers" same 2 "$(grep -o '"registers": [1-9]' report.json | wc -l)"
    refused "kernel_report: unknown architecture" "75,80,86,89,90,120" "$bin/kernel_report" --arch 91
    refused "kernel_report: no such kernel" "nothing" "$bin/kernel_report" --filter nothing
    refused "kernel_report: no such tool" "nowhere" "$bin/kernel_report" --nvdisasm ./nowhere
    usage "kernel_report: unknown option" "--fast" "$bin/kernel_report" --fast
fi
