#!/bin/sh
# The first process of a virtual machine of vm.sh: prepares it, runs the checks, says how they ended, switches off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm /sys/fs/cgroup
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup

word() { sed -n "s/.*\\baccept\\.$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline; }

exec >"/dev/$(word tty)" 2>&1 </dev/null
# Not every machine has a clock that the kernel reads.
[ "$(date +%Y)" -ge 2025 ] || date -s "@$(word now)" >/dev/null
ip link set lo up
ip address add 192.0.2.1/32 dev lo
python3 -X faulthandler /accept/vm_checks.py /accept/twinward "$(word accel)" "$(word sources)"
echo "VM $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
