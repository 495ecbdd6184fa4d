# A machine of its own, as far as signing in goes: logs, users, /run and /dev/log below the directory $1. Run by
# unshare --mount. It says "ready" and lasts until standard input ends; $2 says whether the journal runs.
set -eu
root=$1 journal=$2
mount --make-rprivate /
mount --bind "$root/run" /run
mount --bind "$root/var/log" /var/log
for file in passwd shadow group sudoers; do mount --bind "$root/etc/$file" "/etc/$file"; done
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts"
mount --bind /dev/pts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /run/systemd/journal/dev-log "$root/dev/log"
mount --rbind "$root/dev" /dev
mkdir -p /run/sshd /run/systemd/journal
if [ "$journal" = journal ]; then
  mkdir -p /run/systemd/journald.conf.d
  # `Audit=` leaves the audit of the kernel as it is.
  printf '[Journal]\nStorage=persistent\nForwardToSyslog=yes\nReadKMsg=no\nAudit=\nRateLimitIntervalSec=0\n' \
    >/run/systemd/journald.conf.d/test.conf
  mkdir -p /var/log/journal
  touch /run/systemd/journal/flushed
  # Its own network: it hears nothing of the kernel's audit.
  unshare --net /lib/systemd/systemd-journald 2>/dev/null >&2 &
  daemon=$!
  trap 'kill $daemon' EXIT
  until [ -S /run/systemd/journal/dev-log ]; do kill -0 $daemon; sleep 0.1; done
fi
echo ready
cat >/dev/null
