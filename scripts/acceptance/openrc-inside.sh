#!/usr/bin/env bash
# The part of openrc.sh that runs inside the namespaces and the tree that it made; not to be called by hand.
# usage: openrc-inside.sh openrc | openrc-without-libcap | busybox | busybox-without-setpriv
set -euo pipefail
kind=$1

ok() { echo "ok: $kind: $*"; }
fail() {
  echo "FAILED: $kind: $*" >&2
  tail -n 20 /var/log/twinward/twinward.log /run/messages /lab/happenings 2>/dev/null | cut -c 1-300 >&2 || :
  exit 1
}

# Asks again until it is so.
within() {
  local seconds=$1 what=$2 began=$SECONDS
  shift 2
  until "$@"; do
    ((SECONDS - began < seconds)) || fail "not within $seconds s: $what"
    sleep 0.1
  done
}

case $kind in
  openrc*) service() { rc-service twinward "$1"; } ;;
  busybox) service() { env PATH=/lab/bin:/bb /etc/init.d/S60twinward "$1"; } ;;
  busybox-without-setpriv) service() { env PATH=/bb /etc/init.d/S60twinward "$1"; } ;;
esac

# The agent's process, if there is one: nothing else here is named so.
agent() { pgrep_exe /usr/bin/twinward; }
pgrep_exe() {
  local process
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/exe" 2>/dev/null) == "$1" ]] || continue
    echo "${process#/proc/}"
    return
  done
  return 1
}
gone() { ! agent >/dev/null; }
other_than() { local now; now=$(agent) && [[ $now != "$1" ]]; }
connections() { grep -c '"event":"connected"' /lab/happenings || :; }
more_than() { (($(connections) > $1)); }
field() { awk -v name="$2:" '$1 == name {print $2}' "/proc/$1/status"; }
holds() { grep -Eq "$1" /run/messages 2>/dev/null; }
told() { (($(grep -Ec "$2" "$1") > $3)); }
named() { [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") == "$2"* ]]; }
loggers() {
  local process
  for process in /proc/[0-9]*; do
    ! named "${process#/proc/}" 'logger -t twinward' || echo "${process#/proc/}"
  done
}
lost_logger() { [[ -z $(loggers) ]]; }

# --- the machine ---

ip link set lo up
mount -t tmpfs tmpfs /run
# What OpenRC makes when it boots a machine.
mkdir -p /run/lock /run/openrc/{starting,started,stopping,inactive,wasinactive,failed,hotplugged,scheduled,crashed} \
  /run/openrc/{daemons,options,exclusive,tmp}
touch /run/openrc/softlevel
/bin/busybox syslogd -n -O /run/messages &
syslogd=$!
within 5 "the log takes messages" test -S /dev/log
mkdir -p /lab/bin
ln -s /usr/bin/setpriv /lab/bin/setpriv

mkfifo /lab/commands
: >/lab/happenings
/lab/twinward-lab lab --port 0 --dir /lab </lab/commands >/lab/happenings &
lab=$!
exec 3>/lab/commands
trap 'kill "$lab" "$syslogd" 2>/dev/null || :' EXIT
within 20 "the hub is ready" grep -q '"event":"ready"' /lab/happenings
port=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' /lab/happenings | head -n1)
install -m 644 /lab/ca.pem /etc/twinward/hub.pem
install -m 600 -o twinward -g twinward /lab/connection-string /etc/twinward/connection-string
good() {
  printf '[hub]\nhost = "127.0.0.1"\nport = %s\nca_file = "/etc/twinward/hub.pem"\n' "$port" \
    >/etc/twinward/twinward.toml
}
bad() { echo 'nonsense = true' >/etc/twinward/twinward.toml; }

if [[ $kind == openrc* ]]; then
  echo 'respawn_delay=1' >>/etc/conf.d/twinward
  [[ $kind == openrc ]] || echo 'capabilities=none' >>/etc/conf.d/twinward
fi

# --- start ---

bad
! service start >/lab/said 2>&1 || fail "started with a wrong configuration"
gone || fail "the agent runs with a wrong configuration"
grep -q 'nonsense: unknown key' /lab/said || fail "refused for another reason: $(cat /lab/said)"
ok "a wrong configuration is refused before the start"

good
service start >/lab/said 2>&1 || fail "did not start: $(cat /lab/said)"
within 20 "the agent signs in" more_than 0
first=$(agent)
user=$(id -u twinward)
[[ $(field "$first" Uid) == "$user" && $(field "$first" Gid) == "$(id -g twinward)" ]] || fail "it is not its own user"
[[ $(field "$first" NoNewPrivs) == 1 ]] || [[ $kind == busybox-without-setpriv ]] || fail "it may gain privileges"
# dac_read_search, net_admin, sys_ptrace, audit_control, audit_read, perfmon, bpf
mask=$(printf '%016x' $((1 << 2 | 1 << 12 | 1 << 19 | 1 << 30 | 1 << 37 | 1 << 38 | 1 << 39)))
case $kind in
  openrc | busybox) wanted=$mask ;;
  *) wanted=0000000000000000 ;;
esac
[[ $(field "$first" CapEff) == "$wanted" && $(field "$first" CapAmb) == "$wanted" ]] ||
  fail "its capabilities are $(field "$first" CapEff), not $wanted"
[[ $kind != busybox || $(field "$first" CapBnd) == "$mask" ]] || fail "it is bounded by $(field "$first" CapBnd)"
for directory in /run/twinward /var/lib/twinward; do
  [[ $(stat -c '%a %U %G' "$directory") == '700 twinward twinward' ]] ||
    fail "$directory: $(stat -c '%a %U %G' "$directory")"
done
[[ -S /run/twinward/control.sock ]] || fail "no control socket in /run/twinward"
service status >/dev/null || fail "status says that it does not run"
ok "runs as its own user with capabilities $wanted and is signed in"

before=$first
service start >/lab/said 2>&1 || :
[[ $(agent) == "$before" ]] || fail "a second start made another agent"
ok "a second start changes nothing"

# --- it ends ---

count=$(connections)
kill -9 "$first"
within 20 "started again after a kill" other_than "$first"
within 20 "signed in again" more_than "$count"
ok "started again after SIGKILL"

second=$(agent)
service stop >/lab/said 2>&1 || fail "did not stop: $(cat /lab/said)"
within 5 "the agent is gone" gone
if service status >/dev/null 2>&1; then fail "status says that it runs after stop"; fi
sleep 3 # longer than the first step: nobody may start it again
gone || fail "started again after stop"
grep -q '"event":"disconnected"' /lab/happenings || fail "the hub saw no end"
ok "stops, and stays so"

if [[ $kind == busybox* ]]; then
  # A shell, as the supervisor is one.
  /bin/sh -c 'sleep 600; :' &
  stranger=$!
  echo "$stranger" >/run/twinward.pid
  ! service status >/dev/null 2>&1 || fail "status takes another process for the supervisor"
  service stop >/lab/said 2>&1 || fail "did not stop: $(cat /lab/said)"
  named "$stranger" '/bin/sh -c' || fail "stop ended a process that is not ours"
  echo "$stranger" >/run/twinward.pid
  count=$(connections)
  service start >/lab/said 2>&1 || fail "did not start: $(cat /lab/said)"
  within 10 "started although the pid file names another process" agent >/dev/null
  named "$stranger" '/bin/sh -c' || fail "start ended a process that is not ours"
  kill "$stranger"
  ok "another process with the number in the pid file is left alone"

  third=$(agent)
  within 20 "signed in beside the stranger" more_than "$count"
  kill -9 "$(loggers)"
  within 5 "the logger is gone" lost_logger
  # What the agent says of this change, it says to nobody.
  echo '{"cmd": "patch_desired", "id": 1, "patch":
    {"ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration": {"snapshotFrequency": {"value": "PT9H"}}}}' |
    tr -d '\n' >&3
  echo >&3
  within 20 "the change of the twin arrives" told /lab/happenings 'PT9H' 0
  [[ $(agent) == "$third" ]] || fail "the agent ended with its logger"
  kill -9 "$third"
  within 20 "started again without its logger" other_than "$third"
  within 5 "the end is in the log" holds 'twinward: ended with code 137'
  (($(loggers | wc -l) == 1)) || fail "not one logger: $(loggers)"
  ok "goes on when its logger dies, and gets another"
fi

second=$(agent || :) count=$(connections)
service restart >/lab/said 2>&1 || fail "did not restart: $(cat /lab/said)"
within 10 "running after restart" other_than "$second"
within 20 "signed in after restart" more_than "$count"
third=$(agent)
count=$(connections)
bad
kill -9 "$third"
if [[ $kind == openrc* ]]; then
  # More often than OpenRC would if nothing were said: ten times.
  within 60 "tried again and again" told /var/log/twinward/twinward.log 'nonsense: unknown key' 11
  service status >/dev/null || fail "status says that it does not run"
  [[ $(connections) == "$count" ]] || fail "signed in with a wrong configuration"
  good
  within 20 "signed in once the configuration is mended" more_than "$count"
  service stop >/lab/said 2>&1 || fail "did not stop: $(cat /lab/said)"
  ok "tried again for ever with a configuration that went wrong, and goes on when it is mended"
else
  within 40 "given up with a wrong configuration" eval '! service status >/dev/null 2>&1'
  within 5 "the agent is gone" gone
  sleep 3
  gone || fail "started again with a wrong configuration"
  [[ $(connections) == "$count" ]] || fail "signed in with a wrong configuration"
  holds 'twinward: the configuration is wrong' || fail "the log does not say so"
  good
  ok "not started again and again with a configuration that went wrong"
fi

# --- without its secret ---

rm /etc/twinward/connection-string
service start >/lab/said 2>&1 || fail "did not start without its secret: $(cat /lab/said)"
within 10 "the agent runs without its secret" agent >/dev/null
fourth=$(agent)
sleep 5 # it would have ended several times
[[ $(agent || :) == "$fourth" ]] || fail "without its secret it does not wait, but ends"
service status >/dev/null || fail "status says that it does not run"
count=$(connections)
install -m 600 -o twinward -g twinward /lab/connection-string /etc/twinward/connection-string
within 30 "signed in once the secret is there" more_than "$count"
[[ $(agent) == "$fourth" ]] || fail "it was started again for its secret"
service stop >/dev/null 2>&1 || fail "did not stop"
within 5 "the agent is gone" gone
ok "waits for its secret, and goes on by itself"
