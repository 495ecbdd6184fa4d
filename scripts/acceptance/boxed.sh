#!/usr/bin/env bash
# Runs a command in namespaces and a control group of its own: what it mounts and starts is gone when it ends, or when
# this script is ended, however that happens.
# usage: boxed.sh COMMAND [ARGUMENT...]     (as root)
set -euo pipefail
(($#)) || { sed -n '4s/^# //p' "$0" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "boxed.sh: must run as root: it makes namespaces" >&2; exit 77; }

group=twinward-accept-$$
groups=$(mktemp -d)
run=
# shellcheck disable=SC2317,SC2016 # the trap calls it; for the inner shell
end() {
  # unshare lets no other signal end it; its child, the first of the process namespace, ends with it, and so do all.
  [[ -z $run ]] || kill -KILL "$run" 2>/dev/null || :
  wait
  unshare --mount --propagation private bash -c '
    mount -t cgroup2 cgroup2 "$1"
    for _ in {1..50}; do
      [[ ! -d $1/$2 ]] || find "$1/$2" -depth -type d -exec rmdir {} + 2>/dev/null || { sleep 0.1; continue; }
      break
    done' - "$groups" "$group" || :
  rmdir "$groups"
}
trap end EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC2016 # for the inner shell
setpriv --pdeathsig KILL \
  unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash -c '
  mount -t cgroup2 cgroup2 "$1"
  mkdir "$1/$2" "$1/$2/command"
  echo 0 >"$1/$2/command/cgroup.procs"
  export CONTROL_GROUPS=$1/$2
  shift 2
  exec "$@"' - "$groups" "$group" "$@" &
run=$!
status=0
wait "$run" || status=$?
run=
exit "$status"
