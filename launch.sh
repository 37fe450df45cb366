#!/usr/bin/env bash
# All commands. Without arguments it lists them.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly root

usage() {
  cat <<'TEXT'
EPD: few-step sampling of diffusion models with learned parallel directions.

  ./launch.sh demo [--quick] [OPTIONS]    distil a predictor on the demo model, sample with it, compare it with classical solvers
  ./launch.sh test [CTEST OPTIONS]        build everything with warnings as errors, run the tests and lint
  ./launch.sh format                      format the C++ and Python sources in place
  ./launch.sh lint                        check the format, the Python code and the shell scripts
  ./launch.sh build                       set up and build the programs into build/bin
  ./launch.sh train  [LAUNCH] OPTIONS     distil a predictor          (--help lists the options)
  ./launch.sh sample [LAUNCH] OPTIONS     draw images                 (--help)
  ./launch.sh fid    [LAUNCH] calc|ref|prepare   Frechet distance, statistics, datasets (--help)
  ./launch.sh compare [LAUNCH] OPTIONS    a table of solvers          (--help)
  ./launch.sh check  [LAUNCH] OPTIONS     test this machine on the demo model: PASS or FAIL, line by line, with the numbers
  ./launch.sh model NAME [OPTIONS]        download and export a model (--help); also done at first use
  ./launch.sh fetch NAME [checkpoints|statistics|captions]   download the files of a model without exporting it
  ./launch.sh import FILE... [OPTIONS]    convert predictors of EPD, DyWeight, AdaSDE, EPD-Solver++, NeuralSolver (--help)
  ./launch.sh clean                       remove the build

LAUNCH, as torchrun takes them:
  --nproc_per_node=N (or gpu: one for each GPU)   processes on this machine (1)
  --nnodes=N --node_rank=R --master_addr=HOST --master_port=PORT   several machines, each starts its own
  --preset=NAME                                   the options of exp/presets/NAME.json
  --                                              the program's own options follow

The first command sets everything up; LibTorch is taken from Torch_DIR, EPD_TORCH or the running Python, or installed.
TEXT
}

die() {
  echo "error: $*" >&2
  exit 2
}

# set_up programs|tests|python|lint
set_up() {
  "$root/cmake/setup.sh" "$1"
  # shellcheck source=/dev/null
  source "$root/build/setup.env"
  PATH=${tools_path-}$PATH
  export EPD_PYTHON=${python:-}
}

free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 10000))
    (exec 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

# check_number NAME LOWEST: the variable NAME holds a decimal number; leading zeros are taken off.
check_number() {
  local -r given=${!1}
  if ! [[ $given =~ ^[0-9]{1,6}$ ]] || ((10#$given < $2)); then
    die "--$1: expected a whole number from $2, got '$given'"
  fi
  printf -v "$1" %d "$((10#$given))"
}

# The GPUs that the programs will see: CUDA reads the variable up to its first entry that names none.
count_gpus() {
  if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | sed '/^-/,$d' | { grep -c . || true; }
  else
    { nvidia-smi -L 2>/dev/null || true; } | { grep -c '^GPU ' || true; }
  fi
}

# Takes the launcher's options out of the arguments: sets the variables below; `program_arguments` is what is left.
read_launch_options() {
  nproc_per_node='' nnodes=1 node_rank=0 master_addr='' master_port='' preset='' program_arguments=()
  local name value
  while (($# > 0)); do
    if [[ $1 == -- ]]; then
      program_arguments+=("${@:2}")
      break
    fi
    name=${1%%=*} name=${name#--} name=${name//-/_}
    case $name in
      nproc_per_node | nnodes | node_rank | master_addr | master_port | preset)
        if [[ $1 == *=* ]]; then value=${1#*=}; else value=${2-} && shift; fi
        [[ -n $value ]] || die "--$name needs a value"
        printf -v "$name" %s "$value"
        ;;
      standalone) ;;
      *) program_arguments+=("$1") ;;
    esac
    (($# == 0)) || shift
  done
  if [[ $nproc_per_node == gpu ]]; then
    nproc_per_node=$(count_gpus)
    if ((nproc_per_node == 0)); then
      [[ -z ${CUDA_VISIBLE_DEVICES+set} ]] || die "--nproc_per_node=gpu: CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES' shows no GPU"
      die "--nproc_per_node=gpu: nvidia-smi lists no GPU on this machine"
    fi
  fi
  [[ -z $nproc_per_node ]] || check_number nproc_per_node 1
  check_number nnodes 1
  check_number node_rank 0
  if [[ -n $master_port ]]; then
    check_number master_port 1
    ((master_port < 65536)) || die "--master_port: expected a port from 1 to 65535, got '$master_port'"
  fi
  ((node_rank < nnodes)) || die "--node_rank=$node_rank is outside of --nnodes=$nnodes: ranks count from 0"
  ((nnodes == 1)) || [[ -n $master_addr ]] || die "--nnodes=$nnodes needs --master_addr: the host of node 0"
  if [[ -n $preset ]]; then
    local -r file=$root/exp/presets/$preset.json
    [[ -e $file ]] || die "--preset=$preset: no such preset ($file); see exp/README.md"
    program_arguments=(--config "$file" "${program_arguments[@]}")
  fi
}

# run_program NAME [LAUNCH] OPTIONS: in one process, or in as many as the launch options say.
run_program() {
  local -r program=$root/build/bin/$1
  shift
  read_launch_options "$@"
  set_up programs
  local -r processes=${nproc_per_node:-1} cores=$(nproc)
  export EPD_LAUNCHER=$root/launch.sh  # a model that is missing is made by it
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 0 ? cores / processes : 1))}
  if ((processes * nnodes == 1)); then
    # Asked for one process, it is one, even inside a Slurm allocation for several.
    if [[ -n $nproc_per_node ]]; then export RANK=0 WORLD_SIZE=1 LOCAL_RANK=0; fi
    exec "$program" "${program_arguments[@]}"
  fi
  if [[ -z $master_port ]]; then
    if ((nnodes > 1)); then master_port=29500; else master_port=$(free_port); fi
  fi
  exec "$root/cmake/spawn.sh" "$processes" "$nnodes" "$node_rank" "${master_addr:-127.0.0.1}" "$master_port" \
    "$program" "${program_arguments[@]}"
}

# Trains a predictor for the demo's model (OPTIONS go to train) and compares it; --quick compares the shipped one.
run_demo() {
  cd "$root"  # the presets name files of the product
  if [[ ${1-} == --quick ]]; then run_program compare --preset=compare-demo-quick "${@:2}"; fi
  local folder
  folder=$(run_program train --preset=train-demo "$@")
  run_program compare --preset=compare-demo --predictors="$folder=EPD" \
    --predictors="models/demo/predictor-mean.json=EPD+mean (shipped)" \
    --predictors="models/demo/predictor-ns.json=ns (shipped)"
}

# A run killed half way and run again, against an undisturbed one.
check_resume() {
  local -r folder=$(mktemp -d)
  local -r images=$(($(count_gpus) > 0 ? 512 : 24))
  local -r draw=("$root/build/bin/sample" --predictor_path "$root/models/demo/predictor.json" --seeds "1-$images"
    --batch 4 --chunk 4 --quiet)
  local drawn=0
  "${draw[@]}" --outdir "$folder/whole" >/dev/null
  "${draw[@]}" --outdir "$folder/killed" >/dev/null &
  while ((drawn < 4)) && kill -0 $!; do
    sleep 0.02
    drawn=$(find "$folder/killed" -name '*.png' | wc -l)
  done 2>/dev/null
  kill -KILL $! 2>/dev/null || true
  wait $! 2>/dev/null || true
  "${draw[@]}" --outdir "$folder/killed" >/dev/null
  local result=FAIL
  if diff -rq --exclude='*.json' "$folder/whole" "$folder/killed" >&2; then result=PASS; fi
  echo "$result a run killed after $drawn of $images images and run again leaves the same files"
  rm -rf "$folder"
  [[ $result == PASS ]]
}

# The parts of this machine, one process for each GPU, then a killed run.
run_check() {
  local failed=0
  if (($(count_gpus) > 1)); then set -- --nproc_per_node=gpu "$@"; fi
  (run_program check "$@") || failed=1
  check_resume || failed=1
  return $failed
}

# has TOOL: whether it is there; says what is left out where it is not.
has() { command -v "$1" >/dev/null || { echo "left out: there is no $1" >&2 && return 1; }; }

# In place: C++ by clang-format, Python by ruff.
run_format() {
  cd "$root"
  if has clang-format-14; then git ls-files -z '*.h' '*.cpp' | xargs -0 clang-format-14 -i; fi
  if has ruff; then ruff check --quiet --fix . && ruff format --quiet .; fi
}

run_lint() {
  cd "$root"
  local wrong=''
  if has clang-format-14; then
    git ls-files -z '*.h' '*.cpp' | xargs -0 clang-format-14 --dry-run -Werror || wrong+=' clang-format-14'
  fi
  if has ruff; then { ruff check --quiet . && ruff format --quiet --check .; } || wrong+=' ruff'; fi
  # SC2317: what a trap calls looks unreachable.
  if has shellcheck; then git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -e SC2317 || wrong+=' shellcheck'; fi
  [[ -z $wrong ]] || { echo "error: see above what these found:$wrong; ./launch.sh format mends the format" >&2 && return 1; }
}

run_tests() {
  set_up tests
  ctest --test-dir "$root/build" --output-on-failure --parallel "$(nproc)" "$@"
  run_lint
}

readonly command=${1-}
shift || true
case $command in
  '' | help | -h | --help) usage ;;
  demo) run_demo "$@" ;;
  test) run_tests "$@" ;;
  format | lint)
    set_up lint
    "run_$command"
    ;;
  build) set_up programs ;;
  train | sample | fid | compare) run_program "$command" "$@" ;;
  check) run_check "$@" ;;
  model)
    set_up python
    # Python's sets in one order, and so the same file from the same checkpoint.
    PYTHONHASHSEED=0 exec "$EPD_PYTHON" "$root/models/export.py" "$@"
    ;;
  import)
    set_up python
    exec "$EPD_PYTHON" "$root/models/import_predictors.py" "$@"
    ;;
  fetch) exec "${EPD_PYTHON:-python3}" "$root/models/fetch.py" "$@" ;;
  clean) rm -rf "$root/build" ;;
  *)
    usage >&2
    die "unknown command '$command'"
    ;;
esac
