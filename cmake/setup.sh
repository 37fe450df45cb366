#!/usr/bin/env bash
# Finds or creates what the programs need, and builds them. Does nothing where all of it is there.
#
#   cmake/setup.sh programs    LibTorch, the libraries, and train, sample, fid and compare in build/bin
#   cmake/setup.sh tests       the same and the tests, warnings as errors
#   cmake/setup.sh python      a Python with torch, for models/export.py
#   cmake/setup.sh lint        clang-format-14 and shellcheck (as root), and ruff; the tests bring them too
#
# LibTorch is the first of: Torch_DIR; EPD_TORCH (a LibTorch folder, or a Python that has torch); the running Python's
# torch, 2.7 or newer; torch 2.11.0 in a virtual environment in the cache (EPD_CACHE, ~/.cache/epd), made here.
# Everything is said on stderr. What was found stands in build/setup.env.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly build=$root/build
readonly cache=${EPD_CACHE:-${HOME:?is not set; name the cache folder with EPD_CACHE}/.cache/epd}
readonly wanted=${1:-programs}
readonly torch_version=2.11.0 oldest_torch=2.7 oldest_cmake=3.25 oldest_gcc=12

say() { echo "setup: $*" >&2; }
die() {
  echo "error: $*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null; }
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# --- System packages -------------------------------------------------------------------------------------------------

# A package and the header that shows it is there: the names are the same in Debian 12 and Ubuntu 22.04 and 24.04.
readonly headers="
libarchive-dev archive.h
libcli11-dev CLI/CLI.hpp
libcsv-dev csv.h
libdeflate-dev libdeflate.h
libgif-dev gif_lib.h
libgloo-dev gloo/algorithm.h
libicu-dev unicode/unistr.h
libjpeg-dev jpeglib.h
libpng-dev png.h
libspdlog-dev spdlog/spdlog.h
libssl-dev openssl/evp.h
libstb-dev stb/stb_image_write.h
libtiff-dev tiffio.h
libwebp-dev webp/decode.h
libzip-dev zip.h
nlohmann-json3-dev nlohmann/json.hpp
"
readonly test_headers="
libgmock-dev gmock/gmock.h
libgtest-dev gtest/gtest.h
"

have_header() {
  local folder
  local -a folders
  IFS=':;' read -ra folders <<<"${CPATH-}:${CMAKE_PREFIX_PATH-}"
  for folder in "${folders[@]}" /usr/include /usr/local/include /usr/include/*-linux-gnu; do
    [[ -z $folder ]] || [[ ! -e $folder/$1 && ! -e $folder/include/$1 ]] || return 0
  done
  return 1
}

gcc_is_old() { [[ $(c++ --version) == *"Free Software Foundation"* ]] && ! at_least "$(c++ -dumpversion)" $oldest_gcc; }

# Sets CXX and CC to a newer g++ where c++ is too old.
choose_compiler() {
  [[ -z ${CXX:-} ]] && have c++ && gcc_is_old || return 0
  local version
  for version in 14 13 12; do
    if have g++-$version; then
      export CXX=g++-$version CC=gcc-$version
      return
    fi
  done
}

missing_packages() {
  local package header
  have c++ || [[ -n ${CXX:-} ]] || echo build-essential
  if [[ -z ${CXX:-} ]] && have c++ && gcc_is_old; then echo g++-$oldest_gcc; fi
  have ninja || have make || echo ninja-build
  have pkg-config || echo pkg-config
  have python3 || echo python3
  # A cmake that is too old comes from the package index instead (tools below).
  have cmake || echo cmake
  while read -r package header; do
    [[ -z $package ]] || have_header "$header" || echo "$package"
  done <<<"$headers$([[ $wanted != tests ]] || echo "$test_headers")"
}

# install_packages PACKAGE...: as root; otherwise says the command and ends.
install_packages() {
  local -r install="apt-get install -y --no-install-recommends $*"
  have apt-get || die "missing packages (Debian names): $*; install them and run the command again"
  [[ $(id -u) == 0 ]] || die "packages are missing; run: sudo apt-get update && sudo $install"
  say "installing $*"
  DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && $install" >"$build/apt.log" 2>&1 ||
    die "the packages could not be installed (see $build/apt.log); run: apt-get update && $install"
}

ensure_packages() {
  local names
  local -a missing
  choose_compiler
  names=$(missing_packages)
  read -ra missing <<<"${names//$'\n'/ }"
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
  choose_compiler
}

# --- Python environments in the cache ---------------------------------------------------------------------------------

ensure_venv_module() {
  if ! have python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then install_packages python3 python3-venv; fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "torch $torch_version needs Python 3.10 or newer, python3 is $(python3 -V 2>&1); name another Python or a LibTorch with EPD_TORCH"
}

# environment NAME MODULES REQUIREMENT...: a virtual environment in the cache. It stands once it is complete, or once its
# Python imports the modules, as one made by hand does; an installation that was cut short is made anew.
environment() {
  local -r name=$1 folder=$cache/$1 modules=$2
  shift 2
  [[ ! -e $folder/.complete ]] || return 0
  ensure_venv_module
  { mkdir -p "$cache" && exec 8>"$cache/$name.lock"; } 2>/dev/null ||
    die "cannot write to $cache; name another folder with EPD_CACHE"
  flock 8  # another set-up may be at it
  if [[ ! -e $folder/.complete ]] && ! "$folder/bin/python3" -c "import $modules" 2>/dev/null; then
    say "installing $* into $folder (once; this takes a while)"
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || die "python3 -m venv $folder failed"
    local -r quiet=$([[ -t 2 ]] || echo 1)
    "$folder/bin/python3" -m pip install --disable-pip-version-check ${quiet:+--quiet} "$@" >&2 ||
      die "pip could not install $*; fix the problem and run the command again, or set EPD_TORCH to an existing LibTorch"
  fi
  touch "$folder/.complete"
  exec 8>&-
}

# The CUDA that the GPU's driver knows, as nvidia-smi prints it; nothing where there is no driver.
cuda_of_driver() { { nvidia-smi 2>/dev/null || true; } | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1; }

# Says so where the driver is too old for the torch that pip brings, which is built for CUDA 13.
warn_of_old_driver() {
  local -r cuda=$(cuda_of_driver)
  [[ -z $cuda ]] || at_least "$cuda" 13.0 ||
    say "the GPU's driver knows CUDA $cuda, torch $torch_version needs 13.0: update the driver, or name with EPD_TORCH a Python whose torch is built for CUDA $cuda; the GPU will not be used until then"
}

# The cached LibTorch, and CUDA's compile-time headers for NCCL's collectives where pip brought a LibTorch for GPUs.
torch_environment() {
  local -r folder=$cache/libtorch-$torch_version
  warn_of_old_driver
  environment libtorch-$torch_version numpy,torch torch==$torch_version numpy
  local -r cuda=$(echo "$folder"/lib/python3*/site-packages/nvidia/cu13)
  [[ -e $cuda && ! -e $cuda/include/crt ]] || return 0
  "$folder/bin/python3" -m pip install --disable-pip-version-check --quiet --no-deps 'nvidia-cuda-crt==13.0.*' \
    'nvidia-cuda-cccl==13.0.*' >&2 ||
    say "no nvidia-cuda-crt and nvidia-cuda-cccl: multi-GPU sums will go through the CPU (Gloo)"
}

ensure_cmake() {
  if have cmake && at_least "$(cmake --version | awk 'NR == 1 {print $3}')" $oldest_cmake; then return; fi
  environment tools cmake,ninja "cmake>=$oldest_cmake,<4" ninja
  add_tools tools
}

# add_tools NAME: the programs of that environment come first, at the next call too.
add_tools() {
  tools_path=$cache/$1/bin:$tools_path
  PATH=$cache/$1/bin:$PATH
}

# What `./launch.sh lint` runs. It does without those that cannot be had; .ruff.toml pins ruff's version.
ensure_lint_tools() {
  local -a missing=()
  local ruff
  have clang-format-14 || missing+=(clang-format-14)
  have shellcheck || missing+=(shellcheck)
  if ((${#missing[@]} > 0)); then (install_packages "${missing[@]}") || say "going on without ${missing[*]}"; fi
  ruff=$(sed -n 's/^required-version = "==\(.*\)"$/\1/p' "$root/.ruff.toml")
  [[ $(ruff --version 2>/dev/null) != "ruff $ruff" ]] || return 0
  if (environment "ruff-$ruff" ruff "ruff==$ruff"); then add_tools "ruff-$ruff"; else say "going on without ruff $ruff"; fi
}

# --- LibTorch ---------------------------------------------------------------------------------------------------------

# torch_of PYTHON: the folder of its torch, if that is new enough; nothing otherwise. torch is not imported.
torch_of() {
  "$1" - $oldest_torch 2>/dev/null <<'PYTHON' || true
import importlib.metadata, importlib.util, os, re, sys
number = lambda text: tuple(int(part) for part in re.match(r"\d+\.\d+", text).group().split("."))
if number(importlib.metadata.version("torch")) >= number(sys.argv[1]):
    folder = os.path.dirname(importlib.util.find_spec("torch").origin)
    if os.path.exists(folder + "/share/cmake/Torch/TorchConfig.cmake"):
        print(folder)
PYTHON
}

# Sets torch_dir (where TorchConfig.cmake is) and python (one with torch, or empty).
find_torch() {
  local folder
  python=''
  if [[ -n ${Torch_DIR:-} ]]; then
    torch_dir=$Torch_DIR
    [[ -e $torch_dir/TorchConfig.cmake ]] || die "Torch_DIR=$Torch_DIR holds no TorchConfig.cmake"
  elif [[ -n ${EPD_TORCH:-} && -e $EPD_TORCH/share/cmake/Torch/TorchConfig.cmake ]]; then
    torch_dir=$EPD_TORCH/share/cmake/Torch
  elif [[ -n ${EPD_TORCH:-} ]]; then
    python=$EPD_TORCH
    [[ ! -x $EPD_TORCH/bin/python3 ]] || python=$EPD_TORCH/bin/python3
    folder=$(torch_of "$python")
    [[ -n $folder ]] ||
      die "EPD_TORCH=$EPD_TORCH is neither a LibTorch folder nor a Python with torch $oldest_torch or newer"
    torch_dir=$folder/share/cmake/Torch
  elif have python3 && folder=$(torch_of python3) && [[ -n $folder ]]; then
    python=$(command -v python3)
    torch_dir=$folder/share/cmake/Torch
  else
    torch_environment
    python=$cache/libtorch-$torch_version/bin/python3
    torch_dir=$(torch_of "$python")/share/cmake/Torch
    [[ -e $torch_dir/TorchConfig.cmake ]] || die "no torch in $cache/libtorch-$torch_version; remove that folder and run the command again"
  fi
}

# For models/export.py: where LibTorch came without a Python, the running one or the cached environment.
find_python() {
  [[ -z $python ]] || return 0
  if have python3 && [[ -n $(torch_of python3) ]] && python3 -c 'import numpy' 2>/dev/null; then
    python=$(command -v python3)
  else
    torch_environment
    python=$cache/libtorch-$torch_version/bin/python3
  fi
}

# --- Build ------------------------------------------------------------------------------------------------------------

# One compiler of Torch's headers takes up to 1.5 GB.
jobs() {
  local memory limit cores
  memory=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null || echo 4096)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  if [[ $limit =~ ^[0-9]+$ ]] && ((limit / 1048576 < memory)); then memory=$((limit / 1048576)); fi
  cores=$(nproc)
  memory=$((memory / 1536))
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

configure() {
  local options=(-DCMAKE_BUILD_TYPE=Release "-DTorch_DIR=$torch_dir")
  if [[ -e $build/CMakeCache.txt ]] && ! grep -qx "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt"; then
    rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"  # the clone was moved
  fi
  if [[ $wanted == tests ]]; then
    options+=(-DEPD_BUILD_TESTS=ON -DEPD_WERROR=ON)
  elif [[ ! -e $build/CMakeCache.txt ]]; then
    options+=(-DEPD_BUILD_TESTS=OFF)
    # With the compiler that the tests run on, the tests then need no second build of the library.
    [[ $("${CXX:-c++}" -dumpversion) != "$oldest_gcc" ]] || options+=(-DEPD_WERROR=ON)
  fi
  if [[ ! -e $build/CMakeCache.txt ]] && have ninja; then options+=(-G Ninja); fi
  say "configuring $build with LibTorch of $torch_dir"
  cmake -S "$root" -B "$build" "${options[@]}" >"$build/configure.log" 2>&1 || {
    grep -A 6 'CMake Error' "$build/configure.log" >&2 || tail -n 20 "$build/configure.log" >&2
    die "cmake failed: see $build/configure.log"
  }
}

up_to_date() {
  [[ -e $build/build.ninja ]] && have ninja && ninja -C "$build" -n "$target" 2>/dev/null | grep -q 'no work to do'
}

compile() {
  local -r target=$([[ $wanted == tests ]] && echo all || echo programs)
  local number
  if up_to_date; then return; fi
  number=$(jobs)
  say "building with $number jobs"
  cmake --build "$build" --parallel "$number" --target "$target" >&2 || die "the build failed: see the message above"
}

# --- All of it --------------------------------------------------------------------------------------------------------

# What decides how the build is configured: as long as it stays the same, the last set-up stands.
signature() { echo "$root|${Torch_DIR:-}|${EPD_TORCH:-}|${VIRTUAL_ENV:-}|$cache|${CXX:-}"; }

# The last set-up's answers, if they still hold for what is wanted.
recall() {
  configured='' torch_dir='' python='' tools_path=''
  [[ -e $build/setup.env ]] || return 1
  # shellcheck source=/dev/null
  source "$build/setup.env"
  if [[ ${setup_signature:-} != "$(signature)" ]]; then
    configured='' tools_path=''
    return 1
  fi
  PATH=$tools_path$PATH
  [[ $wanted != lint ]] || return 1
  [[ $wanted == python ]] && { [[ -n $python && -x $python ]]; return; }
  [[ $configured == "$wanted" || $configured == tests ]] && [[ -e $torch_dir/TorchConfig.cmake && -e $build/CMakeCache.txt ]]
}

remember() {
  printf '%s=%q\n' setup_signature "$our_signature" configured "$configured" torch_dir "$torch_dir" python "$python" \
    tools_path "$tools_path" >"$build/setup.env.new"
  mv "$build/setup.env.new" "$build/setup.env"
}

main() {
  case $wanted in programs | tests | python | lint) ;; *) die "unknown set-up '$wanted': programs, tests, python or lint" ;; esac
  local our_signature
  our_signature=$(signature)
  mkdir -p "$build" || die "cannot write to $root"
  exec 9>"$build/setup.lock"
  flock 9
  if ! recall; then
    case $wanted in
      programs | tests)
        ensure_packages
        ensure_cmake
        find_torch
        configure
        configured=$wanted
        ;;
      python)
        find_torch
        find_python
        ;;
    esac
    case $wanted in tests | lint) ensure_lint_tools ;; esac
    remember
  fi
  case $wanted in programs | tests) compile ;; esac
}

main
