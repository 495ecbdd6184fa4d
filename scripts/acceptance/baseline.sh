#!/usr/bin/env bash
# OSBaseline against a fresh Debian 12: no critical finding, nothing that cannot be checked; after each of two lists of
# changes, one that hardens it and one with what boards get wrong, exactly the expected checks have another result.
# usage: baseline.sh [TWINWARD]     (as root; installs mmdebstrap, and fetches about 60 MB of packages)
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
[ "$(id -u)" = 0 ] || { echo "baseline.sh: must run as root: it sets up a system with all owners" >&2; exit 77; }
[ -x "$program" ] || { echo "baseline.sh: $program is missing; run: cargo build --release" >&2; exit 1; }
program=$(realpath "$program")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

if ! command -v mmdebstrap >/dev/null; then
    timeout 60 apt-get -qq update
    DEBIAN_FRONTEND=noninteractive timeout 120 apt-get -qq install -y --no-install-recommends mmdebstrap >/dev/null
fi
timeout 170 mmdebstrap --quiet --variant=minbase \
    --include=openssh-server,systemd-sysv,udev,libpam-systemd,systemd-timesyncd,sudo,cron,rpcbind bookworm fresh
# mmdebstrap makes it for this moment only; a device would make its own.
rm -f fresh/etc/resolv.conf

hardened() {
    cp -a fresh hardened
    cd hardened

    cat >etc/ssh/sshd_config.d/50-hardened.conf <<'SSHD'
PermitRootLogin no
PasswordAuthentication no
DisableForwarding yes
X11Forwarding no
MaxAuthTries 4
LoginGraceTime 60
ClientAliveInterval 15
Banner /etc/issue.net
AllowGroups ssh-users
SSHD
    chmod 0600 etc/ssh/sshd_config etc/ssh/sshd_config.d/50-hardened.conf

    cat >etc/sysctl.d/50-hardened.conf <<'SYSCTL'
kernel.kptr_restrict = 2
kernel.dmesg_restrict = 1
kernel.yama.ptrace_scope = 1
kernel.kexec_load_disabled = 1
kernel.sysrq = 0
kernel.panic = 10
net.core.bpf_jit_harden = 2
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv6.conf.all.accept_redirects = 0
net.ipv6.conf.default.accept_redirects = 0
net.ipv4.conf.all.secure_redirects = 0
net.ipv4.conf.default.secure_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.all.log_martians = 1
net.ipv4.conf.default.log_martians = 1
net.ipv6.conf.all.accept_ra = 0
net.ipv6.conf.default.accept_ra = 0
SYSCTL

    cat >etc/pam.d/common-auth <<'PAM'
auth	required		pam_faillock.so preauth
auth	[success=1 default=bad]	pam_unix.so
auth	[default=die]		pam_faillock.so authfail
auth	sufficient		pam_faillock.so authsucc
auth	required		pam_deny.so
PAM
    sed -i 's/^password.*pam_unix\.so.*/password required pam_pwhistory.so remember=24 use_authtok\n&/' etc/pam.d/common-password
    sed -i '1i password requisite pam_passwdqc.so' etc/pam.d/common-password
    sed -i 's/^auth .*pam_rootok\.so/&\nauth required pam_wheel.so use_uid group=sudo/' etc/pam.d/su
    echo 'deny = 5' >>etc/security/faillock.conf
    echo '* hard core 0' >etc/security/limits.d/core.conf
    sed -i 's/^UMASK.*/UMASK 027/' etc/login.defs
    echo 'readonly TMOUT=900; export TMOUT' >etc/profile.d/timeout.sh
    (umask 0337; echo 'Defaults logfile="/var/log/sudo.log"' >etc/sudoers.d/log)

    chmod 0600 etc/crontab
    chmod 0700 etc/cron.d etc/cron.hourly etc/cron.daily etc/cron.weekly etc/cron.monthly
    (umask 0137; echo root >etc/cron.allow)

    ln -s /dev/null etc/systemd/system/rpcbind.service
    ln -s /dev/null etc/systemd/system/rpcbind.socket
    ln -s /usr/lib/systemd/system/nftables.service etc/systemd/system/sysinit.target.wants/nftables.service
    printf '[Unit]\nDescription=packet filter\n' >usr/lib/systemd/system/nftables.service
    echo 'tmpfs /tmp tmpfs nosuid,nodev,noexec,size=64m 0 0' >>etc/fstab
    echo 'APT::Periodic::Unattended-Upgrade "1";' >etc/apt/apt.conf.d/20auto-upgrades
    cd ..
}

# From fail to pass in the hardened copy, but for those that were not applicable.
cat >hardened.expected <<'IDS'
file-cron-d-closed
file-cron-daily-closed
file-crontab-closed
file-crontab-users
kernel-bpf-hardened
kernel-core-dumps
kernel-kexec
kernel-log-hidden
kernel-panic-restart
kernel-pointers-hidden
kernel-ptrace
kernel-sysrq
login-shell-timeout
login-umask
mount-tmp
mount-tmp-noexec not-applicable pass
mount-tmp-nosuid not-applicable pass
net-firewall
net-log-martians
net-redirects
net-redirects-ipv6
net-reverse-path
net-router-advertisements
net-secure-redirects
net-send-redirects
package-unattended
pam-lockout
pam-lockout-limit not-applicable pass
pam-no-nullok
pam-password-history
pam-password-quality
pam-su-restricted
service-rpcbind
ssh-access-limited
ssh-agent-forwarding
ssh-banner
ssh-client-alive
ssh-config-closed
ssh-login-grace-time
ssh-max-auth-tries
ssh-password-authentication
ssh-root-key
ssh-tcp-forwarding
ssh-x11-forwarding
sudo-log
IDS

spoiled() {
    cp -a fresh spoiled
    cd spoiled
    # The password is raspberry.
    echo 'pi:x:1000:1000::/home/pi:/bin/bash' >>etc/passwd
    echo 'pi:x:1000:' >>etc/group
    # shellcheck disable=SC2016  # a hash, not a variable
    echo 'pi:$6$pepper$s2KND0w6uB/hewctIqeUQZKPY2ZLi.qOpBVFm.Q3NJ5sKQH5jrjbXgHpmJC5y8BWnFInILTqO5lhJsbRTR1QD.:19700:0:365:7:::' >>etc/shadow
    echo 'pi ALL=(ALL) NOPASSWD: ALL' >etc/sudoers.d/010_pi-nopasswd
    echo 'PermitRootLogin yes' >etc/ssh/sshd_config.d/root.conf
    chmod 0644 etc/ssh/ssh_host_ed25519_key etc/shadow
    sed -i '1i auth sufficient pam_permit.so' etc/pam.d/sshd
    mkdir -p etc/systemd/system/getty@tty1.service.d
    printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin pi %%I\n' >etc/systemd/system/getty@tty1.service.d/autologin.conf
    ln -s /usr/lib/systemd/system/serial-getty@.service 'etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service'
    ln -s /usr/lib/systemd/system/debug-shell.service etc/systemd/system/sysinit.target.wants/debug-shell.service
    echo 'deb [trusted=yes] http://repository.invalid/debian ./' >etc/apt/sources.list.d/product.list
    printf '[Unit]\nDescription=product\n' >etc/systemd/system/product.service
    chmod 0666 etc/systemd/system/product.service
    mkdir -p opt/product
    printf -- '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n' >opt/product/client.key
    chmod 0644 opt/product/client.key
    chmod 0777 etc/cron.d usr/local/bin
    cd ..
}

# From pass to fail in the copy with a board's mistakes.
cat >spoiled.expected <<'IDS'
account-default-password
account-vendor-locked
board-autologin
boot-debug-shell
boot-serial-login
file-cron-protected
file-path-protected
file-shadow
file-units-protected
package-apt-trusted
pam-sign-in-closed
secret-device-keys
ssh-host-keys-closed
ssh-root-login
sudo-nopasswd
IDS

# Result and id of each check, by id.
results() {
    local code=0
    "$program" --json baseline --all --root "$1" >"$1.json" || code=$?
    [ "$code" -le 1 ] || { echo "baseline.sh: baseline --root $1 ended with $code" >&2; exit 1; }
    python3 -c '
import json, sys
for check in sorted(map(json.loads, sys.stdin), key=lambda check: check["id"]):
    print(check["id"], check["result"], check["severity"])' <"$1.json" >"$1.results"
}

# compare COPY FROM TO: the checks with another result than before are those of COPY.expected, and went FROM TO, unless
# it says from what to what.
compare() {
    results "$1"
    join fresh.results "$1.results" | awk '$2 != $4 { print $1, $2, $4 }' >"$1.changes"
    sort "$1.expected" | awk -v from="$2" -v to="$3" 'NF == 1 { $2 = from; $3 = to } { print }' | diff - "$1.changes" || {
        echo "baseline.sh: $1: other checks changed than expected (< expected, > changed)" >&2
        exit 1
    }
    echo "$1: $(wc -l <"$1.changes") checks have another result, as expected, and no other"
}

results fresh
awk '$2 == "err" || ($2 == "fail" && $3 == "critical")' fresh.results >fresh.amiss
[ ! -s fresh.amiss ] || { echo "baseline.sh: a fresh Debian is not taken for what it is:" >&2; cat fresh.amiss >&2; exit 1; }
awk '{ count[$2]++ } END { for (r in count) printf "%s %d  ", r, count[r]; print "" }' fresh.results | sed 's/^/fresh: /'
hardened
compare hardened fail pass
spoiled
compare spoiled pass fail
