#!/usr/bin/env bash
# Packs the built programs and tests, stripped, with the system libraries that they need, for a GPU machine that has
# torch but neither this build nor its libraries. `check.sh --kit FILE` unpacks them there, into the same source folder.
#
#   tests/gpu/pack.sh KIT.tar.xz [TEST PROGRAM...]
set -euo pipefail
(($# > 0)) || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2 && exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" "$folder/lib"
for program in train sample fid compare check "${@:2}"; do
  strip -o "$folder/bin/$program" "$root/build/bin/$program"
done
# LibTorch and its CUDA libraries come from the other machine's torch, the C library from its system.
ldd "$folder"/bin/* | awk '$3 ~ "^(/usr)?/lib/" {print $3}' | sort -u |
  { grep -vE '/(libc|libm|libdl|librt|libpthread|libutil|libgcc_s)\.so' || true; } |
  xargs -I{} cp -L {} "$folder/lib"
tar -C "$folder" -cJf "$1" bin lib
