#!/usr/bin/env bash
# Builds the packages: for each target the program (scripts/build-cross.sh), the package, its symbols, and what it is
# made of. The same commit gives the same bytes, in any directory.
# usage: build-packages.sh [TARGET...]        (default: all but riscv64-musl)
#
#   amd64 arm64 armhf                       twinward_VERSION_ARCH.deb, twinward-dbgsym_VERSION_ARCH.deb
#   x86_64-musl aarch64-musl armv6-musl     twinward-VERSION-TARGET.tar.xz: static program, units, manual, INSTALL
#   riscv64-musl                            the same; nobody has run it
#
# They are put into target/packages, each with NAME.cdx.json beside it: the crates that are linked in, in the form of
# CycloneDX, as read back from the program. SHA256SUMS has the sums of all that is there.
# It fails if a program or a package is larger than packaging/sizes allows.
# What is missing is installed, for which it must run as root; see scripts/build-cross.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DEB=3.8.0 TO_CDX=0.1.0
readonly TOOLS=$PWD/target/cross-tools OUT=$PWD/target/packages
export CARGO_TERM_COLOR=never

case ${1:-} in
  -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit ;;
esac
(($#)) || set -- amd64 arm64 armhf x86_64-musl aarch64-musl armv6-musl

say() { echo "build-packages.sh: $*" >&2; }

# Archives get the time of the commit.
if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then SOURCE_DATE_EPOCH=$(git log -1 --format=%ct); fi
export SOURCE_DATE_EPOCH

tools() {
  local missing=() file
  for file in llvm-objcopy:llvm xz:xz-utils dpkg-deb:dpkg; do
    command -v "${file%:*}" >/dev/null || missing+=("${file#*:}")
  done
  if ((${#missing[@]})); then
    [[ $(id -u) == 0 ]] || { say "install ${missing[*]}, or run as root"; return 1; }
    say "installing ${missing[*]}"
    { apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
  fi
  local cargo=cargo
  command -v cargo >/dev/null || cargo=/usr/bin/cargo
  [[ -x $TOOLS/bin/cargo-deb ]] ||
    CARGO_TARGET_DIR=$PWD/target/tools "$cargo" install --quiet --locked --root "$TOOLS" cargo-deb --version "$CARGO_DEB"
  [[ -x $TOOLS/bin/auditable2cdx ]] ||
    CARGO_TARGET_DIR=$PWD/target/tools "$cargo" install --quiet --locked --root "$TOOLS" auditable2cdx --version "$TO_CDX"
  # The one objcopy that knows all processors.
  mkdir -p "$TOOLS/all"
  ln -sf "$(command -v llvm-objcopy)" "$TOOLS/all/objcopy"
}

# Fails if a file is larger than packaging/sizes has it for this target. Lines there: TARGET KIND BYTES.
fits() {
  local target=$1 kind=$2 file=$3 size limit
  size=$(stat -c %s "$file")
  limit=$(awk -v t="$target" -v k="$kind" '$1 == t && $2 == k {print $3}' packaging/sizes)
  echo "$target $kind: $size bytes, at most $limit"
  ((size <= ${limit:-0})) || { say "$file is too large; see packaging/sizes"; return 1; }
}

# The crates that the list inside the program names.
sbom() {
  local program=$1 package=$2
  "$TOOLS/bin/auditable2cdx" "$program" >"$package.cdx.json"
  grep -q '"purl": *"pkg:cargo/rustls@' "$package.cdx.json" || { say "$package.cdx.json names no rustls"; return 1; }
}

deb() {
  local target=$1 triple=$2 program=$3 package work
  work=$(mktemp -d)
  PATH=$TOOLS/all:$PATH CARGO_TARGET_DIR=$PWD/target/cross \
    "$TOOLS/bin/cargo-deb" --no-build --dbgsym --target "$triple" --output "$work/" >/dev/null
  # Debian names packages of symbols .deb, Ubuntu .ddeb; apt takes the former.
  for package in "$work"/*.ddeb; do mv "$package" "${package%.ddeb}.deb"; done
  for package in "$work"/*.deb; do mv "$package" "$OUT/"; done
  rm -r "$work"
  package=$(echo "$OUT"/twinward_"$version"*_"$target".deb)
  fits "$target" deb "$package"
  dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/bin/twinward >"$OUT/.program"
  fits "$target" program "$OUT/.program"
  sbom "$OUT/.program" "$package"
  rm "$OUT/.program"
}

tarball() {
  local target=$1 program=$2 name=twinward-$version-$1 work
  work=$(mktemp -d)
  scripts/lay-out-tarball.sh "$work/$name"
  llvm-objcopy --strip-all "$program" "$work/$name/twinward"
  chmod 755 "$work/$name/twinward"
  fits "$target" program "$work/$name/twinward"
  tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --mode=u+rw,go=rX --format=gnu "$name" | xz -9 --threads=1 >"$OUT/$name.tar.xz"
  sbom "$work/$name/twinward" "$OUT/$name.tar.xz"
  rm -r "$work"
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
mkdir -p "$OUT"
tools
for target in "$@"; do
  program=$(scripts/build-cross.sh --device "$target")
  triple=$(basename "$(dirname "$(dirname "$program")")")
  case $target in
    *-musl) tarball "$target" "$program" ;;
    *) deb "$target" "$triple" "$program" ;;
  esac
done
rm -f "$OUT/SHA256SUMS"
sums=$(cd "$OUT" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum)
echo "$sums" >"$OUT/SHA256SUMS"
echo "$OUT"
