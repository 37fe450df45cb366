#!/usr/bin/env bash
# The checklist for a GPU machine: every step prints PASS, FAIL or NOTE with its numbers. Exits with 1 if one failed.
#
#   tests/gpu/check.sh [--kit KIT.tar.xz] [STEP...]      all steps, or these in this order
#
# Needs a build, or a kit of one (pack.sh), and a Python with torch (EPD_PYTHON) for networks of full size with random
# weights and for comparing numbers. Logs go to EPD_LOGS, by default a temporary folder. Timings are noted, never judged.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root bin=$root/build/bin python=${EPD_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readonly work logs=${EPD_LOGS:-$work}
readonly predictor=$root/models/demo/predictor.json all_steps=(device equality repeat killed train oom ranks fid compare warm_up speed)
failures=0

pass() { echo "PASS $step: $*"; }
note() { echo "NOTE $step: $*"; }
fail() {
  echo "FAIL $step: $*"
  failures=$((failures + 1))
}
# check CONDITION TEXT: the condition is one of Python's, of numbers.
check() { if "$python" -c "import sys; sys.exit(not ($1))"; then pass "$2"; else fail "$2; expected $1"; fi; }

# The libraries of the kit go to our programs alone: Python has its own.
run() { LD_LIBRARY_PATH=${kit_lib:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} timeout "${limit:-120}" "$@"; }
program() { run "$bin/$1" "${@:2}" 2>>"$logs/$step.log"; }
# sample OUTDIR OPTIONS...: of the demo model, unless the options name another
sample() { program sample --outdir "$work/$1" --overwrite True --json "${@:2}" >"$work/$1.json" || fail "sample ${*:2} (see $logs/$step.log)"; }
demo() { sample "$1" --predictor_path "$predictor" "${@:2}"; }
of_json() { "$python" -c "import json, sys; print(eval(sys.argv[2], json.load(open(sys.argv[1]))))" "$work/$1.json" "$2"; }
digest() { sha256sum <"$work/$1/$2" | cut -c 1-16; }

unpack() {
  mkdir -p "$work/kit" "$bin"
  tar -C "$work/kit" -xJf "$1"
  cp "$work"/kit/bin/* "$bin"
  kit_lib=$work/kit/lib:$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__) + "/lib")')
}

# full_size NAME: a published architecture with random weights
full_size() {
  local -r folder=$work/models/$1
  [[ -e $folder/denoiser.ts ]] && return
  mkdir -p "$folder"
  "$python" "$root/tests/models/full_size.py" --export "$1" "$folder" >>"$logs/$step.log" 2>&1 || fail "exporting $1"
}

step_device() {
  demo auto --seeds 0-255
  local -r device=$("$python" -c "import json; print(json.load(open('$work/auto/manifest.json'))['settings']['device'])")
  if [[ $device == cuda* ]]; then pass "drawn on $device"; else fail "drawn on $device, not on a GPU"; fi
}

# The largest relative and the root mean square deviation from the CPU's float32 images, pixels in [-1, 1].
step_equality() {
  demo cpu --device cpu --precision fp32 --seeds 0-127 --format raw
  local precision
  for precision in fp32 tf32 bf16 fp16; do
    demo $precision --precision $precision --seeds 0-127 --format raw
    read -r largest rms <<<"$("$python" - "$work/cpu/images.npy" "$work/$precision/images.npy" <<'PYTHON'
import sys, numpy
a, b = (numpy.load(path).astype(float) for path in sys.argv[1:])
print(f"{abs(a - b).max() / abs(a).max():.2e} {((a - b) ** 2).mean() ** 0.5:.2e}")
PYTHON
)"
    case $precision in
      fp32) check "$largest < 1e-4" "CPU and GPU in fp32: largest relative difference $largest" ;;
      tf32) check "$rms < 5e-3" "tf32: rms $rms" ;;
      *) check "$rms < 2e-2" "$precision: rms $rms" ;;
    esac
  done
}

step_repeat() {
  local first name
  demo first --seeds 0-1023 --format npz --batch 256
  first=$(digest first images.npz)
  demo again --seeds 0-1023 --format npz --batch 256
  demo batch64 --seeds 0-1023 --format npz --batch 64
  demo batch512 --seeds 0-1023 --format npz --batch 512
  for name in again batch64 batch512; do
    if [[ $(digest $name images.npz) == "$first" ]]; then pass "$name: the same bytes"; else fail "$name: other bytes"; fi
  done
}

step_killed() {
  local -r folder=$work/killed
  demo whole --seeds 0-1023
  run "$bin/sample" --predictor_path "$predictor" --seeds 0-1023 --batch 64 --outdir "$folder" 2>/dev/null >&2 &
  local id=$!
  until [[ $(find "$folder" -name '*.png' 2>/dev/null | wc -l) -gt 200 ]] || ! kill -0 $id 2>/dev/null; do sleep 0.02; done
  pkill -9 -f "$folder"
  wait $id 2>/dev/null
  local -r left=$(find "$folder" -name '*.png' | wc -l)
  program sample --predictor_path "$predictor" --seeds 0-1023 --batch 64 --outdir "$folder" >/dev/null
  local -r a=$(cd "$work/whole" && find . -name '*.png' | sort | xargs sha256sum | sha256sum)
  local -r b=$(cd "$folder" && find . -name '*.png' | sort | xargs sha256sum | sha256sum)
  if [[ $a == "$b" ]]; then pass "killed after $left of 1024 images, resumed: the same files"; else fail "killed after $left images, resumed: other files"; fi
}

step_train() {
  local name
  for name in one two; do
    program train --config "$root/exp/presets/train-demo.json" --total_kimg 0.256 --outdir "$work/train-$name" >"$work/train-$name.out" || fail "train (see $logs/$step.log)"
  done
  local -r a=$(sha256sum <"$(<"$work/train-one.out")/predictor.json") b=$(sha256sum <"$(<"$work/train-two.out")/predictor.json")
  if [[ $a == "$b" ]]; then pass "two runs of train: the same predictor"; else fail "two runs of train: other predictors"; fi
}

step_oom() {
  full_size cifar10
  local error code
  error=$(run "$bin/sample" --model_path "$work/models/cifar10/denoiser.ts" --predictor_path 2 --seeds 0-16383 --batch 16384 --chunk 16384 --outdir "$work/oom" 2>&1 >/dev/null)
  code=$?
  error=$(grep -v '^info' <<<"$error")
  if [[ $code == 1 && $(wc -l <<<"$error") == 1 && $error == *--chunk* ]]; then pass "out of memory: $error"; else fail "out of memory: exit code $code, $error"; fi
}

gpus() { nvidia-smi -L | grep -c '^GPU '; }

step_ranks() {
  local -r count=$(($(gpus) + 1))
  local error code
  error=$(run "$root/cmake/spawn.sh" $count 1 0 127.0.0.1 29471 "$bin/sample" --predictor_path "$predictor" --seeds 0-7 --outdir "$work/ranks" 2>&1)
  code=$?
  if [[ $code != 0 && $(grep -c '^error' <<<"$error") == 1 ]]; then pass "$count processes: $(grep '^error' <<<"$error")"; else fail "$count processes: exit code $code, $error"; fi
}

step_fid() {
  demo drawn --seeds 0-4999 --batch 512
  local device
  for device in cpu cuda; do
    program fid calc --images "$work/drawn" --ref "$root/models/demo/emoji32.zip" --detector demo --device $device >"$work/fid-$device"
  done
  local -r a=$(cat "$work/fid-cpu") b=$(cat "$work/fid-cuda")
  check "abs($a - $b) < 1e-4 * $a" "Frechet distance: CPU $a, GPU $b"
}

step_compare() {
  program compare --dataset_name demo --solvers euler unipc --nfe 5 --schedules logsnr --seeds 0-511 --outdir "$work/compare" >"$work/compare.out"
  note "$(grep -iE 'solver|unipc' "$work/compare.out" | tr '\n' ' ')"
}

step_warm_up() {
  local name
  for name in first second; do
    local begin=${EPOCHREALTIME/./}
    demo $name --seeds 0
    note "one image, $name run: $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
  done
}

step_speed() {
  full_size cifar10
  local precision chunk
  local images
  for precision in fp32 tf32 bf16; do
    images=$([[ $precision == fp32 ]] && echo 1024 || echo 4096)
    for chunk in 64 256; do
      sample speed --model_path "$work/models/cifar10/denoiser.ts" --predictor_path 2 --precision $precision --chunk $chunk --batch $chunk --seeds "1-$images" --format npz
      note "cifar10, 8 evaluations, $precision, chunk $chunk: $(of_json speed images_per_second) images/s"
    done
  done
}

step=start
if [[ ${1-} == --kit ]]; then
  unpack "$2"
  shift 2
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || fail "nvidia-smi"
for step in "${@:-${all_steps[@]}}"; do
  begin=$SECONDS
  "step_$step"
  echo "     ($step: $((SECONDS - begin)) s)"
done
((failures == 0))
