#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ on the stable tool chain.
#
#   scripts/fuzz.sh                      # each target for 60 s
#   scripts/fuzz.sh 600 duration topic   # these for 10 minutes each
#
# It needs g++ for the runtime of libFuzzer. What it finds is in fuzz/artifacts/TARGET; it says how to look at it again,
# and ends with 1. With a nightly tool chain and cargo-fuzz the usual commands work in the same directory.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-60}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "usage: scripts/fuzz.sh [SECONDS] [TARGET...]" >&2; exit 2; }
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
for target in "${targets[@]}"; do
  [[ -f fuzz_targets/$target.rs ]] || { echo "no target $target in fuzz/fuzz_targets" >&2; exit 2; }
done

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes, without the sanitizers: they need a nightly compiler, and the crate forbids unsafe code.
flags=(--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares)
# With --target the flags are for the program alone, not for build scripts.
RUSTFLAGS="${flags[*]}" cargo build --release --locked --target "$host" --bins

run() {
  local target=$1 log=target/$1.log dictionary=() status=0
  mkdir -p "corpus/$target" "artifacts/$target"
  [[ -f $target.dict ]] && dictionary=("-dict=$target.dict")
  # Half a minute more than its time: what hangs is ended.
  timeout --kill-after=10 $((seconds + 30)) "target/$host/release/$target" "corpus/$target" "seeds/$target" \
    "-artifact_prefix=artifacts/$target/" "-max_total_time=$seconds" -timeout=5 -rss_limit_mb=1024 \
    -print_final_stats=1 "${dictionary[@]}" >"$log" 2>&1 || status=$?
  if ((status)); then
    tail -n 40 "$log"
    echo "$target: FOUND SOMETHING (status $status); look again with:"
    echo "  fuzz/target/$host/release/$target fuzz/artifacts/$target/NAME"
    return 1
  fi
  local last runs
  last=$(grep -E '(DONE|pulse|NEW|REDUCE|INITED) ' "$log" | tail -n 1 | grep -oE 'cov: [0-9]+ ft: [0-9]+')
  runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  echo "$target: $runs executions in $seconds s, $last, nothing found"
}

failed=0
pids=()
await() { wait "${pids[0]}" || failed=1; pids=("${pids[@]:1}"); }
for target in "${targets[@]}"; do
  ((${#pids[@]} < 2)) || await
  run "$target" &
  pids+=($!)
done
while ((${#pids[@]})); do await; done
exit "$failed"
