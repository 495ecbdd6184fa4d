#!/usr/bin/env bash
# The signed repository, as a device sees it: apt installs and upgrades from it, and refuses each way to forge it.
# usage: apt-repo.sh PACKAGE.deb [SUITE...]     (as root; default bullseye bookworm trixie)
#
# First make-apt-repo.sh itself: what it must refuse, and that the same input gives the same bytes. Then, in a Debian
# tree of each suite, apt with the key in `signed-by`, against http on 127.0.0.1. Every refusal is tried beside the same
# repository unharmed, which must be taken. Keys are made for this run only.
#
# What is missing is installed. The trees stay in target/apt-repo, so that a second run is quick. A suite that the
# mirror no longer has is named as not tried, if it was not asked for.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=$top/target/apt-repo
asked=yes
(($#)) || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "apt-repo.sh: must run as root: it installs into Debian trees" >&2; exit 77; }
package=$(readlink -e "$1") || { echo "apt-repo.sh: $1 is missing" >&2; exit 1; }
shift
(($#)) || { asked=no; set -- bullseye bookworm trixie; }

missing=()
for pair in mmdebstrap:mmdebstrap apt-ftparchive:apt-utils ar:binutils gpg:gpg gpgv:gpgv xz:xz-utils python3:python3; do
  command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
if ((${#missing[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
export GNUPGHOME=$work/gnupg
server=
finish() {
  [[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null || :
  gpgconf --kill all 2>/dev/null || :
  rm -rf --one-file-system "$work"
}
trap finish EXIT
mkdir -m 700 "$GNUPGHOME"
mkdir -p "$cache" "$work/www"
# _apt, the user that fetches, must come through.
chmod 755 "$work"

passed=0
ok() { echo "ok: $*"; passed=$((passed + 1)); }
fail() { echo "FAILED: $*" >&2; exit 1; }

# --- keys and packages ---

# A key of its own for each use; prints its fingerprint.
make_key() {
  local name=$1 kind=$2 expires=$3
  shift 3
  gpg --batch --quiet --passphrase '' "$@" \
    --quick-gen-key "$name <$name@example.invalid>" "$kind" sign,cert "$expires" 2>/dev/null
  gpg --batch --with-colons --list-keys "$name@example.invalid" 2>/dev/null | awk -F: '$1 == "fpr" {print $10; exit}'
}

# The package once more, with one field of its control file changed.
variant() {
  local field=$1 value=$2 result=$3
  dpkg-deb -R "$package" "$work/unpacked"
  sed -i "s/^$field: .*/$field: $value/" "$work/unpacked/DEBIAN/control"
  dpkg-deb -Zxz -z1 --root-owner-group -b "$work/unpacked" "$result" >/dev/null
  rm -rf --one-file-system "$work/unpacked"
}

make_repo() { "$top/scripts/make-apt-repo.sh" "$@" >/dev/null; }

# The script must fail, and say why.
refuses() {
  local why=$1 text
  shift
  if text=$("$top/scripts/make-apt-repo.sh" "$@" 2>&1); then fail "took what it must refuse: $why"; fi
  grep -q "$why" <<<"$text" || fail "did not say '$why' but: $text"
  ok "refused: $why"
}

version=$(dpkg-deb -f "$package" Version)
architecture=$(dpkg-deb -f "$package" Architecture)
newer=$version+1
key=$(make_key good ed25519 1y)
other=$(make_key other rsa4096 1y)
expired=$(make_key expired ed25519 1d --faked-system-time 20240101T000000)
short=$(make_key short rsa2048 1y)
variant Version "$newer" "$work/newer.deb"
variant Maintainer "Somebody else <else@example.invalid>" "$work/changed.deb"
variant Architecture mips64el "$work/mips.deb"
head -c $(($(stat -c %s "$package") / 2)) "$package" >"$work/cut.deb"
echo "no package" >"$work/text.deb"

# --- the script ---

good=$work/www/good
make_repo --key "$key" --out "$good" "$package"
[[ -s $good/dists/stable/InRelease && -s $good/dists/stable/Release.gpg ]] || fail "no signature"
cp -a "$good" "$work/before"
make_repo --key "$key" --out "$good" "$package"
diff -r "$work/before" "$good" || fail "the second time something changed"
ok "adding the same package again changes nothing"

for name in one two; do
  SOURCE_DATE_EPOCH=1700000000 make_repo --key "$key" --out "$work/$name" "$package" "$work/newer.deb"
done
diff -r "$work/one" "$work/two" || fail "the same packages gave other bytes"
ok "the same packages, key and time give the same bytes"

refuses 'other bytes' --key "$key" --out "$good" "$work/changed.deb"
refuses 'are the same version and differ' --key "$key" --out "$work/new" "$package" "$work/changed.deb"
refuses 'is for mips64el' --key "$key" --out "$work/new" "$work/mips.deb"
refuses 'damaged\|no Debian package' --key "$key" --out "$work/new" "$work/cut.deb"
refuses 'no Debian package' --key "$key" --out "$work/new" "$work/text.deb"
refuses 'expired on 2024-01-02' --key "$expired" --out "$work/new" "$package"
refuses 'too short' --key "$short" --out "$work/new" "$package"
refuses 'no secret key' --key 0123456789ABCDEF0123456789ABCDEF01234567 --out "$work/new" "$package"
gpg --batch --export "$key" >"$work/public.key"
refuses 'public key only' --key "$work/public.key" --out "$work/new" "$package"
refuses 'not signed by a key that is given' --key "$other" --out "$good" "$work/newer.deb"
cp -a "$good" "$work/poisoned"
find "$work/poisoned/pool" -name '*.deb' -exec cp "$work/changed.deb" {} \;
refuses 'the pool is not what the index says' --key "$key" --out "$work/poisoned" "$work/newer.deb"
cp "$work/changed.deb" "$good/pool/main/stranger.deb"
refuses 'is in no index' --key "$key" --out "$good"
rm "$good/pool/main/stranger.deb"
cp -a "$good" "$work/dated"
make_repo --key "$key" --out "$work/dated" --valid-days 14
cp -a "$work/dated" "$work/dated-before"
refuses 'valid for some days only' --key "$key" --out "$work/dated" "$work/newer.deb"
diff -r "$work/dated-before" "$work/dated" || fail "a refusal changed the repository"
make_repo --key "$key" --out "$work/dated" --valid-days 14 "$work/newer.deb"
grep -q '^Valid-Until:' "$work/dated/dists/stable/InRelease" || fail "no Valid-Until"
make_repo --key "$key" --out "$work/dated" --valid-days 0
! grep -q '^Valid-Until:' "$work/dated/dists/stable/InRelease" || fail "Valid-Until has not ended"
make_repo --key "$key" --out "$work/dated"
ok "Valid-Until ends when that is said, and only then"
diff -r "$work/before" "$good" || fail "a refusal changed the repository"
ok "what is refused changes nothing"

# --- the repositories that a device must not believe ---

copy() { cp -a "$good" "$work/www/$1"; echo "$work/www/$1"; }

# Puts other bytes in the place of an index, under all its names.
replace_index() {
  local repo=$1 place=$1/dists/stable/main/binary-$architecture name
  sed -i "s/^Maintainer: .*/Maintainer: Mallory <mallory@example.invalid>/" "$place/Packages"
  gzip -9nkf "$place/Packages"
  xz -9kf "$place/Packages"
  for name in Packages Packages.gz Packages.xz; do
    cp "$place/$name" "$place/by-hash/SHA256/$(sha256sum <"$good/${place#"$repo"/}/$name" | cut -c 1-64)"
  done
}

# Tells Release about the indices as they are now.
adjust() {
  local lists=$1/dists/stable path sum
  while read -r _ _ path; do
    sum=$(sha256sum <"$lists/$path" | cut -c 1-64)
    sed -i "s|^ [0-9a-f]* [0-9]* $path\$| $sum $(stat -c %s "$lists/$path") $path|" "$lists/Release" "$lists/InRelease"
  done < <(grep -E '^ [0-9a-f]{64} ' "$lists/Release")
}

replace_index "$(copy tampered-index)"
repo=$(copy tampered-release)
replace_index "$repo"
adjust "$repo"
for path in "$repo"/dists/stable/main/binary-"$architecture"/Packages*; do
  cp "$path" "${path%/*}/by-hash/SHA256/$(sha256sum <"$path" | cut -c 1-64)"
done
repo=$(copy tampered-package)
deb=$(find "$repo/pool" -name '*.deb')
printf '\xff' | dd of="$deb" bs=1 seek=$(($(stat -c %s "$deb") - 100)) conv=notrunc status=none
! cmp -s "$deb" "$package" || fail "the package was to be changed"
repo=$(copy unsigned)
rm "$repo/dists/stable/InRelease" "$repo/dists/stable/Release.gpg"
make_repo --key "$other" --out "$work/www/other-key" "$package"
SOURCE_DATE_EPOCH=1700000000 make_repo --key "$key" --out "$work/www/stale" --valid-days 1 "$package"

# --- apt ---

(cd "$work/www" && exec python3 -u -m http.server --bind 127.0.0.1 0) >"$work/server" 2>"$work/server.log" &
server=$!
for _ in $(seq 100); do
  port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$work/server")
  [[ -z $port ]] || break
  kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat "$work/server.log")"
  sleep 0.1
done
[[ -n $port ]] || fail "the server is not there after 10 s"

mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
  awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)
[[ -n $mirror ]] || fail "apt's sources name no mirror of Debian"

# What the package depends on is in the tree, so that no other source is needed.
tree() {
  local suite=$1 file=$cache/$1.tar
  [[ -s $file ]] && return
  echo "unpacking $suite"
  rm -f "$file.part"
  mmdebstrap --quiet --variant=minbase --include=systemd,ca-certificates --format=tar "$suite" - "$mirror" \
    >"$file.part" && mv "$file.part" "$file"
}

# Runs a command in the tree, with processes and mounts of its own.
inside() {
  unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" chroot "$root" \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# Makes one repository the only source, with nothing remembered of another.
use() {
  local name=$1 words=${2:-}
  rm -rf --one-file-system "$root/var/lib/apt/lists" "$root"/var/cache/apt/archives/*.deb
  mkdir -p "$root/var/lib/apt/lists/partial"
  chmod 755 "$root/var/lib/apt/lists"
  cat >"$root/etc/apt/sources.list.d/twinward.sources" <<TEXT
Types: deb
URIs: http://127.0.0.1:$port/$name
Suites: stable
Components: main
Signed-By: /etc/apt/keyrings/twinward-archive-keyring.gpg
$words
TEXT
}

# shellcheck disable=SC2016 # dpkg-query fills them in
absent() { ! inside dpkg-query -W -f '${db:Status-Status}' twinward 2>/dev/null | grep -qx installed; }
# shellcheck disable=SC2016
installed() { inside dpkg-query -W -f '${Version}' twinward; }

# apt must refuse this source at `apt-get update`, for this reason, and then know no such package.
update_refused() {
  local name=$1 why=$2 text
  use "$name"
  if text=$(inside apt-get update 2>&1); then fail "$suite: apt takes $name: $text"; fi
  grep -Eq "$why" <<<"$text" || fail "$suite: apt refuses $name, but not for '$why': $text"
  ! inside apt-get install -y twinward >"$work/text" 2>&1 || fail "$suite: apt installs from $name"
  absent || fail "$suite: twinward is installed from $name"
  ok "$suite: refused at update: $name ($(grep -Eo -m1 "$why" <<<"$text"))"
}

try_suite() {
  local suite=$1 root=$work/$1 text
  mkdir "$root"
  tar -C "$root" -xf "$cache/$suite.tar" --exclude='./dev/*' ||
    fail "the tree of $suite does not unpack; remove $cache/$suite.tar"
  mknod -m 666 "$root/dev/null" c 1 3
  mknod -m 666 "$root/dev/urandom" c 1 9
  rm -rf "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  install -D -m 644 "$good/twinward-archive-keyring.gpg" "$root/etc/apt/keyrings/twinward-archive-keyring.gpg"

  update_refused tampered-index 'Hash Sum mismatch|unexpected size'
  update_refused tampered-release 'BADSIG|invalid signature|[Bb]ad signature|not signed'
  update_refused unsigned 'is not signed'
  update_refused other-key 'NO_PUBKEY|[Mm]issing key'
  update_refused stale 'expired|not valid anymore'
  # The last four differ from a good one in what the signature says and in nothing else: unasked, apt takes them.
  for name in unsigned other-key tampered-release; do
    use "$name" 'Trusted: yes'
    inside apt-get update >"$work/text" 2>&1 || fail "$suite: $name is broken in another way too: $(cat "$work/text")"
  done
  use stale 'Check-Valid-Until: no'
  inside apt-get update >"$work/text" 2>&1 || fail "$suite: stale is broken in another way too: $(cat "$work/text")"
  ok "$suite: with the checks off apt takes the forged ones"

  use tampered-package
  inside apt-get update >"$work/text" 2>&1 || fail "$suite: $(cat "$work/text")"
  if text=$(inside apt-get install -y twinward 2>&1); then fail "$suite: apt installs a changed package"; fi
  grep -Eq 'Hash Sum mismatch|unexpected size' <<<"$text" || fail "$suite: refused for another reason: $text"
  absent || fail "$suite: a changed package is installed"
  ok "$suite: refused at install: a changed package"

  use good
  inside apt-get update >"$work/text" 2>&1 || fail "$suite: $(cat "$work/text")"
  ! grep -q '^[WE]:' "$work/text" || fail "$suite: apt warns: $(cat "$work/text")"
  inside apt-get install -y twinward >"$work/text" 2>&1 || fail "$suite: $(cat "$work/text")"
  [[ $(installed) == "$version" ]] || fail "$suite: $(installed) is installed"
  inside twinward version >/dev/null || fail "$suite: the program does not run"
  ok "$suite: apt installs $version, and it runs"

  use grown
  inside apt-get update >"$work/text" 2>&1 || fail "$suite: $(cat "$work/text")"
  grep -q '/by-hash/SHA256/' "$work/server.log" || fail "$suite: nothing was asked for by hash"
  inside apt-get upgrade -y >"$work/text" 2>&1 || fail "$suite: $(cat "$work/text")"
  [[ $(installed) == "$newer" ]] || fail "$suite: $(installed) is installed after the upgrade"
  inside apt-get install -y --allow-downgrades "twinward=$version" >"$work/text" 2>&1 ||
    fail "$suite: $(cat "$work/text")"
  [[ $(installed) == "$version" ]] || fail "$suite: $(installed) is installed after going back"
  ok "$suite: apt upgrades to $newer and goes back to $version, which is still there"
  rm -rf --one-file-system "$root"
}

# One key follows another: devices that know only the first must still take what both have signed.
grown=$(copy grown)
make_repo --key "$key" --key "$other" --out "$grown" "$work/newer.deb"

not_tried=()
for suite in "$@"; do
  if ! tree "$suite"; then
    [[ $asked == no && $suite == bullseye ]] || fail "no tree of $suite can be had from $mirror"
    not_tried+=("$suite")
    continue
  fi
  try_suite "$suite"
done
echo "$passed checks passed${not_tried:+; NOT TRIED, as the mirror has it no more: ${not_tried[*]}}"
