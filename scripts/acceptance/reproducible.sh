#!/usr/bin/env bash
# Whether the same commit and compiler give the same bytes: builds the packages of HEAD twice, in two directories of other
# names and depths, with another time zone, language and umask, and compares every file.
# usage: reproducible.sh [TARGET...]     (as root; targets as in scripts/build-packages.sh; default amd64)
#
# The packages of symbols are not compared: zig writes into the symbols of its start files where it was called.
# It takes twice as long as building them. Both builds have the tools of this tree, if they are here (target/cross-tools).
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
(($#)) || set -- amd64

work=$(mktemp -d /var/tmp/reproducible.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT

build() {
  local place=$1
  shift
  git clone --quiet "$top" "$place"
  if [[ -d $top/target/cross-tools ]]; then
    mkdir "$place/target"
    cp -r "$top/target/cross-tools" "$place/target/"
  fi
  (cd "$place" && scripts/build-packages.sh "$@" >build.log 2>&1) || { cat "$place/build.log"; return 1; }
}

build "$work/first" "$@"
(
  umask 077
  export TZ=Pacific/Chatham LC_ALL=C.UTF-8 LANG=C.UTF-8
  build "$work/a/second one" "$@"
)
sums() { grep -v dbgsym "$1/target/packages/SHA256SUMS"; }
if diff <(sums "$work/first") <(sums "$work/a/second one"); then
  sums "$work/first"
  echo "the same bytes twice"
else
  echo "reproducible.sh: the second build (>) differs from the first (<)" >&2
  exit 1
fi
