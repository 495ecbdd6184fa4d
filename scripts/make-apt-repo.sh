#!/usr/bin/env bash
# Makes a signed apt repository of packages, or adds packages to one. What is in it already stays.
# usage: make-apt-repo.sh --key KEY [--key KEY] [--out DIR] [--suite NAME] [--valid-days N] [--url URL] [DEB...]
#
# --key         who signs: a fingerprint in the key ring of gpg, or a file with an exported secret key. Twice while one
#               key follows another: then both sign. How to make and keep a key: docs/repository.md
# --out         the repository; default target/apt
# --suite       default stable
# --valid-days  apt refuses the index when it is older than this; then it must be signed anew in time, without a DEB.
#               A repository that has it once wants it each time; 0 ends it
# --url         where the repository will be found, for the text that is printed
# DEB           amd64, arm64 or armhf. *-dbgsym go into the component `debug`, all others into `main`
#
# The same packages, key and SOURCE_DATE_EPOCH give the same bytes. Nothing is published: copy pool/ first, then dists/.
# What is missing is installed (apt-utils, binutils, gpg, gpgv, xz-utils), for which it must run as root.
set -euo pipefail
umask 022

readonly ARCHITECTURES=(amd64 arm64 armhf) COMPONENTS=(main debug)
readonly KEYRING=twinward-archive-keyring.gpg
keys=() out=target/apt suite=stable days='' url=https://REPOSITORY

die() { echo "make-apt-repo.sh: $*" >&2; exit 1; }
usage() { sed -n '3s/^# //p' "$0" >&2; exit 2; }

while (($#)); do
  case $1 in
    --key | --out | --suite | --valid-days | --url)
      (($# > 1)) || usage
      case $1 in
        --key) keys+=("$2") ;;
        --out) out=$2 ;;
        --suite) suite=$2 ;;
        --valid-days) days=$2 ;;
        --url) url=${2%/} ;;
      esac
      shift 2 ;;
    --) shift; break ;;
    -*) usage ;;
    *) break ;;
  esac
done
((${#keys[@]})) || usage
[[ $suite =~ ^[a-z][a-z0-9.-]*$ ]] || die "a suite is named in small letters, not '$suite'"
[[ -z $days || $days =~ ^(0|[1-9][0-9]{0,3})$ ]] || die "--valid-days takes a number of days, not '$days'"
[[ ${SOURCE_DATE_EPOCH:-0} =~ ^[0-9]{1,12}$ ]] || die "SOURCE_DATE_EPOCH must be seconds since 1970"

# Installs what is missing of these pairs of a command and the Debian package that brings it.
need() {
  local missing=()
  while (($#)); do
    command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || die "install ${missing[*]}, or run as root"
  echo "installing ${missing[*]}" >&2
  { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}

# --- the keys ---

# Refuses a key that some apt would not take, or that nobody should sign with, and prints the fingerprint of its part
# that signs: the newest subkey whose secret is here, else the primary key.
signer() {
  local home=$1 key=$2 now listing type validity bits algorithm created expires fingerprint uses token
  local primary='' candidate='' chosen='' newest=0 reason=''
  now=$(date +%s)
  listing=$(gpg --homedir "$home" --batch --with-colons --fixed-list-mode --list-secret-keys -- "$key" 2>/dev/null) ||
    die "gpg has no secret key '$key'"
  [[ $(grep -c '^sec' <<<"$listing") == 1 ]] || die "'$key' means several keys; give the fingerprint of one"
  while IFS=: read -r type validity bits algorithm _ created expires _ _ fingerprint _ uses _ _ token _; do
    case $type in
      sec | ssb) ;;
      fpr)
        [[ -n $primary ]] || primary=$fingerprint
        [[ -z $candidate ]] || { chosen=$fingerprint newest=$candidate candidate=; }
        continue ;;
      *) continue ;;
    esac
    candidate=
    if [[ $type == sec ]]; then
      [[ $validity != r ]] || die "the key '$key' is revoked"
      [[ -z $expires ]] || ((expires > now)) || die "the key '$key' expired on $(date -u -d "@$expires" +%F)"
    fi
    # Capital letters say what the key can do as a whole, small ones this part of it.
    [[ $uses == *s* && $token != '#' ]] || continue
    if [[ $validity == r ]]; then reason="its signing subkey is revoked"; continue; fi
    if [[ -n $expires ]] && ((expires <= now)); then
      reason="its signing subkey expired on $(date -u -d "@$expires" +%F)"
      continue
    fi
    case $algorithm in
      1) ((bits >= 3072)) || { reason="RSA with $bits bits is too short; it takes 3072, better 4096"; continue; } ;;
      22) ;;
      *) reason="it is neither RSA nor ed25519"; continue ;;
    esac
    # A subkey comes after its primary key, and the newest of several is meant.
    ((created < newest)) || candidate=$created
  done <<<"$listing"
  [[ -n $chosen ]] || die "the key '$key' cannot sign here: ${reason:-the secret of a part that signs is not here}"
  # Debian 13 takes no key whose parts are bound by SHA-1.
  if gpg --homedir "$home" --batch --export-options export-minimal --export "$primary" |
    gpg --homedir "$home" --batch --list-packets 2>/dev/null | grep -Eq 'digest algo [1-3],'; then
    die "the key '$key' is bound by SHA-1 or older, which apt refuses; extend its expiry to have it bound anew"
  fi
  echo "$chosen"
}

# Fills `homes` and `signers`, and writes the public keys as apt wants them.
load_keys() {
  local key home fingerprint
  for key in "${keys[@]}"; do
    home=${GNUPGHOME:-$HOME/.gnupg}
    if [[ -f $key ]]; then
      # Not beside the repository: a secret key has no business on its disk, and names of sockets must be short.
      home=$(mktemp -d)
      copies+=("$home")
      gpg --homedir "$home" --batch --quiet --import -- "$key" || die "$key holds no key that gpg can read"
      key=$(gpg --homedir "$home" --batch --with-colons --list-secret-keys | awk -F: '$1 == "fpr" {print $10; exit}')
      [[ -n $key ]] || die "the file holds a public key only; it takes an exported secret key"
    fi
    fingerprint=$(signer "$home" "$key")
    signers+=("$fingerprint")
    homes+=("$home")
    gpg --homedir "$home" --batch --quiet --export-options export-minimal --export "$fingerprint" >>"$work/$KEYRING"
  done
}

# The time of creation of each signer: no signature can be older.
created() {
  gpg --homedir "$1" --batch --with-colons --fixed-list-mode --list-keys "$2" 2>/dev/null |
    awk -F: -v wanted="$2" '$1 ~ /^(pub|sub)$/ {time = $6} $1 == "fpr" && $10 == wanted {print time; exit}'
}

# Signs with every key. gpg takes several only from one home, so each makes a signature of its own and they are joined.
sign() {
  local release=$1 date=$2 i time moment=0 options
  for i in "${!signers[@]}"; do
    time=$(created "${homes[i]}" "${signers[i]}")
    ((moment > time)) || moment=$time
  done
  ((moment > date)) || moment=$date
  for i in "${!signers[@]}"; do
    options=(--homedir "${homes[i]}" --batch --yes --quiet --digest-algo SHA512 --faked-system-time "$moment!"
      --local-user "${signers[i]}!")
    # What gpg says is of use only if it fails: each time it warns of the time that it was given.
    { gpg "${options[@]}" --output "$work/part.$i" --detach-sign "$release" &&
      gpg "${options[@]}" --output "$work/text.$i" --textmode --clearsign "$release"; } 2>"$work/gpg.log" ||
      { cat "$work/gpg.log" >&2; die "gpg could not sign with ${signers[i]}"; }
    gpg --homedir "${homes[i]}" --batch --yes --dearmor --output "$work/inline.$i" \
      <(sed -n '/^-----BEGIN PGP SIGNATURE/,$p' "$work/text.$i")
  done
  cat "$work"/part.* | gpg --homedir "${homes[0]}" --batch --enarmor 2>/dev/null |
    sed 's/PGP ARMORED FILE/PGP SIGNATURE/; /^Comment:/d' >"${release%/*}/Release.gpg"
  {
    sed '/^-----BEGIN PGP SIGNATURE/,$d' "$work/text.0"
    cat "$work"/inline.* | gpg --homedir "${homes[0]}" --batch --enarmor 2>/dev/null |
      sed 's/PGP ARMORED FILE/PGP SIGNATURE/; /^Comment:/d'
  } >"${release%/*}/InRelease"
}

# --- the packages ---

# Refuses what is no package for the devices meant. Prints where in the pool it belongs.
place() {
  local deb=$1 fields name version architecture maintainer description component=main
  [[ -f $deb ]] || die "$deb is missing"
  # shellcheck disable=SC2016 # dpkg-deb fills them in
  fields=$(dpkg-deb --show --showformat='${Package}\n${Version}\n${Architecture}\n${Maintainer}\n${Description}\n' \
    "$deb" 2>/dev/null) || die "$deb is no Debian package"
  { read -r name; read -r version; read -r architecture; read -r maintainer; read -r description; } <<<"$fields"
  [[ $name =~ ^[a-z0-9][a-z0-9+.-]+$ && $version =~ ^[0-9][A-Za-z0-9.+~:-]*$ ]] ||
    die "$deb has no proper name and version: '$name' '$version'"
  [[ -n $maintainer && -n $description ]] || die "$deb lacks Maintainer or Description"
  [[ " ${ARCHITECTURES[*]} " == *" $architecture "* ]] || die "$deb is for $architecture, not ${ARCHITECTURES[*]}"
  # The second and third member; Debian 11 cannot open zstd.
  [[ $(ar t "$deb" | tr '\n' ' ') =~ ^debian-binary\ control\.tar\.[gx]z\ data\.tar\.[gx]z\ $ ]] ||
    die "$deb is not packed with xz or gzip, so Debian 11 could not open it"
  dpkg-deb --ctrl-tarfile "$deb" 2>/dev/null | tar -t >/dev/null 2>&1 || die "$deb is damaged"
  dpkg-deb --fsys-tarfile "$deb" 2>/dev/null | tar -t >"$work/files" 2>/dev/null || die "$deb is damaged"
  ! grep -Eq '(^|/)\.\.(/|$)|^/' "$work/files" || die "$deb holds paths that lead out of the root"
  [[ $name != *-dbgsym ]] || component=debug
  echo "pool/$component/${name:0:1}/${name%-dbgsym}/${name}_${version#*:}_$architecture.deb"
}

# Fills `places`: where in the pool each package belongs. Refuses one that would change what is there.
find_places() {
  local deb path i
  for deb; do
    path=$(place "$deb")
    for i in "${!places[@]}"; do
      [[ ${places[i]} != "$path" ]] || cmp -s "$deb" "${!i}" || die "$deb and ${!i} are the same version and differ"
    done
    [[ ! -e $out/$path ]] || cmp -s "$deb" "$out/$path" ||
      die "$out/$path is there with other bytes; devices may have it, so give the new one a new version"
    # Counted from 1, as the arguments are.
    places[${#places[@]} + 1]=$path
  done
}

add() {
  local i path
  for i in "${!places[@]}"; do
    path=$out/${places[i]}
    [[ ! -e $path ]] || continue
    mkdir -p "${path%/*}"
    install -m 644 "${!i}" "$work/incoming"
    mv "$work/incoming" "$path"
    echo "added ${places[i]}"
  done
}

# --- the index ---

# Checks the repository as apt would, and that the pool holds just what the index says. `kind` is `old` for what is
# found: it may have been signed by a subkey that has expired since.
verify() {
  local directory=$1 kind=$2 accepted='GOODSIG' file status list=$work/listed
  [[ $kind == new ]] || accepted='GOODSIG|EXPKEYSIG'
  for file in InRelease Release.gpg; do
    local arguments=("$directory/$file")
    [[ $file == InRelease ]] || arguments+=("$directory/Release")
    status=$(gpgv --homedir "$work" --keyring "$work/$KEYRING" --status-fd 1 "${arguments[@]}" 2>/dev/null) || :
    if ! grep -Eq "^\[GNUPG:\] ($accepted) " <<<"$status" ||
      grep -Eq '^\[GNUPG:\] (BADSIG|REVKEYSIG) ' <<<"$status"; then
      die "$directory/$file is not signed by a key that is given here; docs/repository.md, 'Another key'"
    fi
  done
  # What stands before or between the signed lines would be read by nobody, but belongs to nobody either.
  sed -n '/^Hash: /,/^-----BEGIN PGP SIGNATURE/p' "$directory/InRelease" | sed '1,2d;$d' |
    cmp -s - "$directory/Release" || die "$directory: InRelease and Release differ"
  (cd "$directory" && sed -n '/^SHA256:/,/^[^ ]/s/^ \([0-9a-f]\{64\}\) *[0-9]* \(.*\)/\1  \2/p' Release |
    sha256sum --check --quiet --strict) || die "$directory: an index is not what Release says"
  for component in "${COMPONENTS[@]}"; do
    for architecture in "${ARCHITECTURES[@]}"; do
      awk '$1 == "Filename:" {name = $2} $1 == "SHA256:" {print $2 "  " name}' \
        "$directory/$component/binary-$architecture/Packages"
    done
  done | sort -k 2 >"$list"
  (cd "$out" && { [[ ! -s $list ]] || sha256sum --check --quiet --strict "$list"; }) ||
    die "$out: the pool is not what the index says; do not sign it, bring back the packages"
}

# A file in the pool that no index knows was put there by somebody else, unless it is one that is given again.
no_strangers() {
  local other path
  for other in "$out"/dists/*/; do
    [[ -f $other/Release ]] || continue
    awk '$1 == "Filename:" {print $2}' "$other"/*/binary-*/Packages
  done >"$work/known"
  ((${#places[@]} == 0)) || printf '%s\n' "${places[@]}" >>"$work/known"
  while IFS= read -r path; do
    grep -Fxq -- "$path" "$work/known" || die "$out/$path is in no index; give it as DEB if it is yours, else remove it"
  done < <(cd "$out" && find pool -type f | sort)
}

# Writes the index of the whole pool.
index() {
  local directory=$1 component architecture place
  for component in "${COMPONENTS[@]}"; do
    mkdir -p "$out/pool/$component"
    for architecture in "${ARCHITECTURES[@]}"; do
      place=$directory/$component/binary-$architecture
      mkdir -p "$place"
      (cd "$out" && apt-ftparchive -o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false \
        -o APT::FTPArchive::SHA512=false --arch "$architecture" packages "pool/$component") >"$place/Packages"
      gzip -9nk "$place/Packages"
      xz -9k "$place/Packages"
    done
  done
}

# Writes the Release of an index. Ours and not apt-ftparchive's, whose Date is now, and which knows no Valid-Until.
release() {
  local directory=$1 date=$2 path form='+%a, %d %b %Y %H:%M:%S +0000'
  {
    echo "Origin: twinward"
    echo "Label: twinward"
    echo "Suite: $suite"
    echo "Codename: $suite"
    echo "Date: $(LC_ALL=C date -u -d "@$date" "$form")"
    [[ -z $days ]] || echo "Valid-Until: $(LC_ALL=C date -u -d "@$((date + days * 86400))" "$form")"
    echo "Acquire-By-Hash: yes"
    echo "Architectures: ${ARCHITECTURES[*]}"
    echo "Components: ${COMPONENTS[*]}"
    echo "Description: twinward security micro-agent"
    echo "SHA256:"
    while IFS= read -r path; do
      printf ' %s %s %s\n' "$(sha256sum <"$directory/$path" | cut -c 1-64)" "$(stat -c %s "$directory/$path")" "$path"
    done < <(cd "$directory" && find . -name 'Packages*' -printf '%P\n' | LC_ALL=C sort)
  } >"$work/Release"
  mv "$work/Release" "$directory/Release"
}

# Each index under the name of its sum too. Those of the index before stay for a device that is just reading it.
by_hash() {
  local directory=$1 before=$2 source sum path
  for source in "$before" "$directory"; do
    [[ -f $source/Release ]] || continue
    while read -r sum _ path; do
      mkdir -p "$directory/${path%/*}/by-hash/SHA256"
      cp "$source/$path" "$directory/${path%/*}/by-hash/SHA256/$sum"
    done < <(sed -n '/^SHA256:/,/^[^ ]/s/^ \([0-9a-f]\{64\}\)/\1/p' "$source/Release")
  done
}

# What a Release says besides when it was made.
substance() { grep -Ev '^(Date|Valid-Until):' "$1"; }

# The new directory in the place of the old one in one step, so that nobody sees half of it.
exchange() {
  local new=$1 old=$2
  if [[ ! -e $old ]]; then mv -T "$new" "$old"; return; fi
  python3 - "$new" "$old" <<'PY' && return
import ctypes, os, sys
here, exchange = -100, 2
new, old = map(os.fsencode, sys.argv[1:])
sys.exit(ctypes.CDLL(None, use_errno=True).renameat2(here, new, here, old, exchange) != 0)
PY
  echo "make-apt-repo.sh: this file system cannot exchange directories; $old is away for a moment" >&2
  mv -T "$old" "$new.old"
  mv -T "$new" "$old"
  mv -T "$new.old" "$new"
}

need apt-ftparchive apt-utils ar binutils gpg gpg gpgv gpgv xz xz-utils python3 python3
mkdir -p "$out/pool" "$out/dists"
out=$(cd "$out" && pwd)
exec 9<"$out"
flock -n 9 || die "another one is at work on $out"
# Beside the repository, so that what is made can be moved into it.
work=$(mktemp -d "$out/.work.XXXXXX")
homes=() signers=() copies=() places=()
finish() {
  local home
  for home in "${copies[@]}"; do gpgconf --homedir "$home" --kill all 2>/dev/null || :; done
  rm -rf --one-file-system "$work" "${copies[@]}"
}
trap finish EXIT

load_keys
old=$out/dists/$suite new=$work/dists
(($#)) || [[ -e $old ]] || die "there is no repository in $out yet, and no package was given"
[[ ! -e $old ]] || verify "$old" old
[[ -n $days || ! -e $old ]] || ! grep -q '^Valid-Until:' "$old/Release" ||
  die "the index of $out is valid for some days only; say for how many again with --valid-days, or 0 for ever"
((days)) || days=
find_places "$@"
no_strangers
add "$@"
date=${SOURCE_DATE_EPOCH:-$(date +%s)}
index "$new"
release "$new" "$date"
if [[ -e $old ]]; then
  dated=$(date -d "$(sed -n 's/^Date: //p' "$old/Release")" +%s)
  if [[ -z $days ]] && ! grep -q '^Valid-Until:' "$old/Release" &&
    cmp -s <(substance "$old/Release") <(substance "$new/Release"); then
    date=$dated
    release "$new" "$date"
  fi
  ((date >= dated)) || die "SOURCE_DATE_EPOCH lies before the Date of what is there; apt would go on using that"
fi
sign "$new/Release" "$date"
if [[ -e $old ]] && cmp -s "$old/InRelease" "$new/InRelease" && cmp -s "$out/$KEYRING" "$work/$KEYRING"; then
  echo "nothing has changed in $out"
  exit
fi
verify "$new" new
by_hash "$new" "$old"
exchange "$new" "$old"
mv "$work/$KEYRING" "$out/$KEYRING"

cat <<TEXT
The repository is $out, signed by:
$(printf '  %s\n' "${signers[@]}")
Copy pool/ first, then dists/ and $KEYRING to $url. On a device:

  sudo install -d /etc/apt/keyrings
  curl -fsS $url/$KEYRING | sudo tee /etc/apt/keyrings/$KEYRING >/dev/null
  gpg --show-keys /etc/apt/keyrings/$KEYRING      # compare the fingerprint

/etc/apt/sources.list.d/twinward.sources (Debian 11 to 13, Raspberry Pi OS, Ubuntu 20.04 and newer):

  Types: deb
  URIs: $url
  Suites: $suite
  Components: main
  Signed-By: /etc/apt/keyrings/$KEYRING

or as one line, in /etc/apt/sources.list.d/twinward.list:

  deb [signed-by=/etc/apt/keyrings/$KEYRING] $url $suite main
TEXT
