#!/usr/bin/env bash
# Each source tried on Debian's own kernels, in virtual machines: the agent is built for the processor, booted with
# Debian's kernel, and must see a known load (vm_checks.py, then capture.py with its loopback hub).
# usage: vm.sh [-d DIRECTORY] [-s "SOURCE..."] [MACHINE...]     (as root)
#
# MACHINE: ARCHITECTURE or ARCHITECTURE-SUITE; default amd64 arm64 armhf, each of bookworm
#   amd64, arm64      Debian's kernel for clouds of that architecture
#   armhf             a 32-bit kernel on an ARMv7 processor, and the program that is built for ARMv6
#   armhf-on-arm64    the same program on a 64-bit kernel, as many a Raspberry Pi has it
# -d  where kernels, file systems and logs are kept between runs; default target/vm
# -s  the sources; default all that can work there
#
# Environment: CROSS=no takes the programs that are there; ACCEL=tcg emulates also what /dev/kvm could run.
# What is missing is installed. Nothing is booted from a disk and no network is there: all is in the first file system.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/scripts/acceptance
cache=$top/target/vm
sources=
while getopts d:s: option; do
  case $option in
    d) cache=$(mkdir -p "$OPTARG" && cd "$OPTARG" && pwd) ;;
    s) sources=$OPTARG ;;
    *) sed -n '4p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
(($#)) || set -- amd64 arm64 armhf
[[ $(id -u) == 0 ]] || { echo "vm.sh: must run as root: it unpacks file systems" >&2; exit 77; }
mkdir -p "$cache"

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@" >/dev/null; }

# What this script itself calls.
tools() {
  local missing=()
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v cpio >/dev/null || missing+=(cpio)
  command -v depmod >/dev/null || missing+=(kmod)
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v qemu-system-aarch64 >/dev/null || missing+=(qemu-system-arm)
  ((${#missing[@]})) || return 0
  echo "installing ${missing[*]}"
  apt-get update -qq
  install "${missing[@]}" && return
  # A qemu-utils of a newer release than this Debian forbids its qemu-system.
  local version
  version=$(apt-cache policy qemu-system-common | awk '/Candidate:/ {print $2}')
  install --allow-downgrades "${missing[@]}" "qemu-utils=$version"
}

# Where this machine has its packages from.
mirror() {
  local found
  found=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
    awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)
  [[ -n $found ]] || { echo "vm.sh: apt's sources name no mirror of Debian" >&2; return 1; }
  echo "$found"
}

# Unpacks packages with what they depend on. None is configured, so nothing of a foreign processor runs here.
unpack() {
  local architecture=$1 suite=$2 packages=$3 tree=$4
  mmdebstrap --quiet --variant=extract --architectures="$architecture" --include="$packages" "$suite" "$tree" "$(mirror)"
}

# /bin, /sbin and /lib become links into /usr, which older packages left to the installation.
merge() {
  local tree=$1 name
  for name in bin sbin lib lib64; do
    [[ -d $tree/$name && ! -L $tree/$name ]] || continue
    mkdir -p "$tree/usr/$name"
    cp -a "$tree/$name/." "$tree/usr/$name/"
    rm -rf --one-file-system "${tree:?}/$name"
  done
  for name in bin sbin lib; do [[ -L $tree/$name ]] || ln -s "usr/$name" "$tree/$name"; done
  [[ ! -d $tree/usr/lib64 || -L $tree/lib64 ]] || ln -s usr/lib64 "$tree/lib64"
}

# A directory as a file that the kernel unpacks into its first file system.
pack() {
  local tree=$1 file=$2
  (cd "$tree" && find . -xdev \( -path ./usr/share/doc -o -path ./usr/share/locale -o -path ./usr/share/man \
    -o -path ./boot -o -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./dev \) -prune -o -print0 |
    cpio --null --create --format=newc --quiet) | gzip -1 >"$file.part"
  mv "$file.part" "$file"
}

# What runs besides the agent: a shell and Python.
userland() {
  local architecture=$1 suite=$2 file=$cache/$1-$2.root.gz tree=$work/root
  [[ $file -nt $0 ]] && return
  echo "unpacking the programs of $suite for $architecture"
  unpack "$architecture" "$suite" dash,coreutils,sed,mount,util-linux,kmod,iproute2,python3 "$tree"
  merge "$tree"
  mkdir -p "$tree"/{proc,sys,dev,run,tmp,root}
  echo 'root:x:0:0::/root:/bin/sh' >"$tree/etc/passwd"
  echo 'nobody:x:65534:65534::/:/bin/false' >>"$tree/etc/passwd"
  echo '127.0.0.1 localhost' >"$tree/etc/hosts"
  pack "$tree" "$file"
  rm -rf --one-file-system "$tree"
}

kernel() {
  local architecture=$1 suite=$2 package name=$cache/$1-$2 tree=$work/kernel version
  [[ $name.vmlinuz -nt $0 ]] && return
  case $architecture in
    armhf) package=linux-image-armmp ;;
    *) package=linux-image-cloud-$architecture ;;
  esac
  echo "unpacking $package of $suite"
  unpack "$architecture" "$suite" "$package" "$tree"
  merge "$tree"
  version=$(basename "$tree"/usr/lib/modules/*)
  # No device is there to drive.
  rm -rf --one-file-system "$tree"/usr/lib/modules/*/kernel/{sound,drivers,fs}
  depmod -b "$tree" "$version" 2>/dev/null
  mkdir -p "$work/modules/usr/lib"
  mv "$tree/usr/lib/modules" "$work/modules/usr/lib/modules"
  pack "$work/modules" "$name.modules.gz"
  cp "$tree/boot/config-$version" "$name.config"
  cp "$tree/boot/vmlinuz-$version" "$name.vmlinuz"
  rm -rf --one-file-system "$tree" "$work/modules"
}

# The agent and the checks.
payload() {
  local program=$1 file=$2 tree=$work/payload
  mkdir -p "$tree/accept"
  cp "$program" "$here"/{rig,capture,vm_checks}.py "$tree/accept/"
  cp "$here/vm-init.sh" "$tree/init"
  chmod 755 "$tree/init"
  pack "$tree" "$file"
  rm -rf --one-file-system "$tree"
}

# Runs a machine until it switches itself off; what it prints goes to the file `log`. One that has printed nothing after
# so many seconds is ended.
emulate() {
  local accel=$1 patience=$2 pid waited=0
  echo "booting, $accel"
  : >"$log"
  timeout 1800 "${qemu[@]}" -accel "$accel" -smp 2 -m 2048 -display none -monitor none -nodefaults -no-reboot \
    -serial "file:$log" -kernel "$cache/$hardware-$suite.vmlinuz" -initrd "$work/initrd.gz" \
    -append "console=$tty quiet loglevel=3 panic=-1 $words accept.accel=$accel" </dev/null &
  pid=$!
  while [[ ! -s $log ]] && kill -0 "$pid" 2>/dev/null; do
    if ((waited++ >= patience)); then kill "$pid"; break; fi
    sleep 1
  done
  wait "$pid" || echo "the machine did not switch itself off"
}

boot() {
  local machine=$1 hardware=$2 architecture=$3 suite=$4 log=$cache/$1.log qemu tty words
  case $hardware in
    amd64) qemu=(qemu-system-x86_64 -machine q35 -cpu "max,arch-capabilities=off") tty=ttyS0 ;;
    arm64) qemu=(qemu-system-aarch64 -machine virt -cpu cortex-a72) tty=ttyAMA0 ;;
    armhf) qemu=(qemu-system-arm -machine virt -cpu cortex-a15) tty=ttyAMA0 ;;
  esac
  words="accept.tty=$tty accept.now=$(date +%s) accept.sources=${sources// /,}"
  cat "$cache/$architecture-$suite.root.gz" "$cache/$hardware-$suite.modules.gz" "$work/payload.gz" >"$work/initrd.gz"
  : >"$log"
  # Where the processor cannot really be shared, nothing comes out.
  if [[ $hardware == "$(dpkg --print-architecture)" && -w /dev/kvm && ${ACCEL:-} != tcg ]]; then emulate kvm 30; fi
  [[ -s $log ]] || emulate tcg 600
  tr -d '\r' <"$log" | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g'
  tr -d '\r' <"$log" | grep -q '^VM 0$'
}

run_machine() {
  local machine=$1 suite=bookworm kind=$1 hardware architecture program
  case $machine in
    *-bookworm | *-trixie) suite=${machine##*-} kind=${machine%-*} ;;
  esac
  case $kind in
    amd64 | arm64 | armhf) hardware=$kind architecture=$kind ;;
    armhf-on-arm64) hardware=arm64 architecture=armhf ;;
    *) echo "vm.sh: no machine $machine" >&2; return 2 ;;
  esac
  if [[ ${CROSS:-} == no ]]; then
    case $architecture in
      amd64) program=$top/target/cross/x86_64-unknown-linux-gnu/release/twinward ;;
      arm64) program=$top/target/cross/aarch64-unknown-linux-gnu/release/twinward ;;
      armhf) program=$top/target/cross/arm-unknown-linux-gnueabihf/release/twinward ;;
    esac
  else
    program=$("$top/scripts/build-cross.sh" "$architecture")
  fi
  userland "$architecture" "$suite"
  kernel "$hardware" "$suite"
  payload "$program" "$work/payload.gz"
  boot "$machine" "$hardware" "$architecture" "$suite"
}

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
tools
results=()
failed=0
for machine in "$@"; do
  echo "=== $machine"
  began=$SECONDS
  # Not in a condition: there `set -e` would not hold inside.
  set +e
  (set -e; run_machine "$machine")
  status=$?
  set -e
  if ((status == 0)); then verdict=passed; else verdict=FAILED failed=1; fi
  results+=("$machine $verdict in $((SECONDS - began)) s; log: $cache/$machine.log")
done
printf '%s\n' "${results[@]}"
exit "$failed"
