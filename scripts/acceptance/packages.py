"""The Debian package in booted systems: installed, waiting for its secret, signed in, watched over, purged; upgraded
with events waiting, removed, installed again, and purged. After each purge the file list is the one from before.

What a container cannot show: the kernel's own sources of processes need the first PID namespace, so the agent looks at
/proc each second here (vm.sh tries the sources); and memory limits hold only where the host has cgroup v2.
"""

import re
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from installation import DESIRED, DROP_IN, SECRET, Checks, Installation, differences, indented, listing, lower_version
from machine import UNIT, Machine
from main_job import events, hits
from rig import Hub, until

STATE, CONFIG = "/var/lib/twinward", "/etc/twinward/twinward.toml"
CAPABILITIES = {"dac_read_search": 2, "net_admin": 12, "sys_ptrace": 19, "audit_control": 30, "audit_read": 37,
                "perfmon": 38, "bpf": 39}
# What the doctor may warn of, and why that is right here.
WARNED = {
    "capabilities": "a container has its own PID namespace",
    "process-source": "so the kernel's sources do not speak there",
    "process-ends": "so the kernel's sources do not speak there",
    "collectors": "so the kernel's sources do not speak there",
    "clock-sync": "the host sets the clock of a container",
    "trust-store": "the small system has no ca-certificates",
}


def installed(it):
    """A fresh installation, without a secret: it asks nothing, runs, and waits."""
    check, machine = it.check, it.machine
    said = it.apt("apt-get installs the package, with nobody to answer", "install", "newer")
    said = "\n".join(line for line in said.splitlines() if "Reading database" not in line)
    check("it asked no question", not re.search(r"(?m)\[[YyNn]/|\?[ \t]*$|\[default", said), indented(said))
    check("dpkg has it installed, and its files are as packed",
          "install ok installed" in machine.run("dpkg", "--status", "twinward").stdout
          and not machine.run("dpkg", "--verify", "twinward").stdout)
    enabled = machine.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip()
    check("the unit is enabled", enabled == "enabled", enabled)
    state = machine.show("ActiveState", "NRestarts", "StatusText")
    check("without a secret the unit is active, and was not restarted",
          (state["ActiveState"], state["NRestarts"]) == ("active", "0"), f"{state}")
    check("its status says what is missing", SECRET in state["StatusText"], state["StatusText"])
    # Long enough for a second line, if there were one each second.
    time.sleep(1.5)
    said = machine.log()
    lines = [line for line in said if SECRET in line]
    check("one line in its log says what is missing", len(lines) == 1, indented("\n".join(said)))


def modes(it):
    """Like lintian, but of what is really there."""
    check, machine = it.check, it.machine
    expected = {STATE: "700 twinward:twinward", "/run/twinward": "700 twinward:twinward",
                "/etc/twinward": "755 root:root", "/etc/twinward/conf.d": "755 root:root", CONFIG: "644 root:root",
                "/usr/bin/twinward": "755 root:root"}
    found = machine.run("stat", "--format=%n %a %U:%G", *expected, check=False).stdout.splitlines()
    check("modes and owners are as documented", found == [f"{path} {mode}" for path, mode in expected.items()],
          ", ".join(found))
    files = machine.run("dpkg", "--listfiles", "twinward").stdout.splitlines()[1:]
    odd = [line for line in machine.run("stat", "--format=%A %U:%G %n", *files).stdout.splitlines()
           if not re.match(r"(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx) root:root ", line)
           or (line.startswith("-rwx") and " /usr/bin/" not in line)]
    check(f"each of {len(files)} packed paths belongs to root, and only root can write there", not odd, ", ".join(odd))
    account = machine.run("getent", "passwd", "twinward").stdout.strip()
    check("the user cannot log in", account.endswith(("/nologin", "/false")), account)


def signed_in(it):
    """The secret comes: the waiting agent notices by itself."""
    check, machine, hub = it.check, it.machine, it.hub
    it.configure()
    machine.run("systemctl", "restart", UNIT)
    before = machine.show("MainPID", "NRestarts", "ActiveState")
    it.give_secret()
    began = time.monotonic()
    machine.linked()
    seconds = time.monotonic() - began
    after = machine.show("MainPID", "NRestarts", "ActiveState", "StatusText")
    check("the waiting agent notices the secret and signs in, without a restart",
          all(before[key] == after[key] for key in before), f"{seconds:.1f} s; {after['StatusText']}")
    check("the hub has taken one sign-in", len(hub.of("connected")) == 1, f"{len(hub.of('connected'))}")
    checked = machine.run("twinward", "check", check=False)
    check("`twinward check` finds the configuration good, as root in the README's way", checked.returncode == 0,
          checked.stdout + checked.stderr if checked.returncode else "")
    it.arrive("processes that start inside arrive at the hub, each once", it.mark(3))

    def statistics():
        return {e["Id"]: e for e in events(hub.bodies()) if e["Name"] == "DroppedEventsStatistics"}.values()
    until("DroppedEventsStatistics arrive", statistics)
    account = it.balance("after the first events")
    # A report holds what came after the one before; what is newer than the last one is in none yet.
    for name, a in account.items():
        items = [item for e in statistics() for item in e["Payload"] if item["Queue"].lower() == name.lower()]
        collected, dropped = (sum(item[key] for item in items) for key in ("CollectedEvents", "DroppedEvents"))
        check(f"DroppedEventsStatistics of {name}: not more than was collected, and nothing dropped",
              items and collected <= a["collected"] and dropped == 0,
              f"{len(items)} reports, {collected} of {a['collected']} collected, {dropped} dropped")

    delivered = sum(a["delivered"] for a in account.values())
    at_hub = sum({e["Id"]: hits(e) for e in events(hub.bodies())}.values())
    check("the hub has what the agent counts as delivered", at_hub >= delivered, f"hub {at_hub}, agent {delivered}")


def doctor(it):
    """As root, and with the rights and the sandbox of the service."""
    machine = it.machine
    unit = machine.run("cat", "/usr/lib/systemd/system/twinward.service").stdout
    unit = re.sub(r"(?m)^(WatchdogSec|Restart\w*|NotifyAccess)=.*\n", "", unit)
    unit = unit.replace("Type=notify", "Type=oneshot\nStandardOutput=file:/run/doctor")
    unit = unit.replace("twinward run", "twinward doctor")
    place = "/run/systemd/system/doctor.service"
    machine.put(place, unit)
    machine.run("systemctl", "start", "--no-block", "doctor")
    as_root = machine.run("twinward", "doctor", check=False)
    ended = ("inactive", "failed")
    until("the doctor ends", lambda: machine.show("ActiveState", unit="doctor")["ActiveState"] in ended)
    code = int(machine.show("ExecMainStatus", unit="doctor")["ExecMainStatus"])
    as_service = machine.run("cat", "/run/doctor").stdout
    machine.run("rm", place, "/run/doctor")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", "doctor", check=False)
    both = {"root": (as_root.returncode, as_root.stdout + as_root.stderr), "the service": (code, as_service)}
    for who, (code, text) in both.items():
        it.check(f"the doctor, as {who}, ends with 0", code == 0 and " failed" in text, f"exit {code}{indented(text)}")
        foreign = [line for line in text.splitlines() if line.startswith("warning ") and line.split()[1] not in WARNED]
        it.check(f"the doctor, as {who}, warns of nothing but what a container lacks", not foreign,
                 indented("\n".join(foreign)))


def promises(it):
    """What the unit says, seen at the process."""
    check, machine = it.check, it.machine
    pid = machine.show("MainPID")["MainPID"]
    text = machine.run("cat", f"/proc/{pid}/status").stdout
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    user = machine.run("id", "-u", "twinward").stdout.strip()
    check("it runs as its own user", status["Uid"].split() == [user] * 4, status["Uid"])
    sets = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
    check(f"it has the capabilities {', '.join(sorted(CAPABILITIES))}, and can get no other",
          set(sets.values()) == {sum(1 << bit for bit in CAPABILITIES.values())}, f"{status['CapEff']}")
    check("system calls are filtered", status["Seccomp"] == "2", f"mode {status['Seccomp']}")
    check("it can gain no privileges", status["NoNewPrivs"] == "1")
    mounts = machine.run("cat", f"/proc/{pid}/mounts").stdout.splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    check("it can write to its own directories, not to the rest",
          [options[path][0] for path in ("/", STATE, "/run/twinward")] == ["ro", "rw", "rw"])
    limits = machine.run("cat", f"/proc/{pid}/limits").stdout
    check("it leaves no core file", re.search(r"Max core file size +0 +0 ", limits))
    watch = machine.show("WatchdogUSec", "Type")
    check("systemd watches over it", watch == {"WatchdogUSec": "1min", "Type": "notify"}, f"{watch}")


def watchdog(it):
    """A process that hangs is ended and started again, and what waited is delivered."""
    check, machine = it.check, it.machine
    quick = f"/run/systemd/system/{UNIT}.d"
    machine.run("mkdir", "-p", quick)
    machine.put(f"{quick}/quick.conf", "[Service]\nWatchdogSec=5s\nRestartSec=200ms\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    machine.linked()
    it.cut()
    waiting = it.mark(3)
    before = machine.show("MainPID", "NRestarts")
    began = time.monotonic()
    machine.run("kill", "-STOP", before["MainPID"])

    def again():
        now = machine.show("MainPID", "NRestarts", "ActiveState")
        return now if now["ActiveState"] == "active" and now["MainPID"] not in ("0", before["MainPID"]) else None
    now = until("systemd has started it again", again)
    check("a hanging agent is ended by the watchdog and started again, once",
          (before["NRestarts"], now["NRestarts"]) == ("0", "1"), f"after {time.monotonic() - began:.1f} s")
    it.mend()
    it.arrive("what waited through that arrives, each once", waiting)
    it.balance("after the watchdog")
    machine.run("rm", "-r", quick)
    machine.run("systemctl", "daemon-reload")


def broken(it):
    """A configuration that is wrong ends the unit for good, until it is mended."""
    check, machine = it.check, it.machine
    before = machine.show("NRestarts")["NRestarts"]
    machine.put("/etc/twinward/conf.d/wrong.toml", "[hub]\nport = \"none\"\n")
    machine.run("systemctl", "restart", UNIT, check=False)
    # Longer than the unit's RestartSec=2s.
    time.sleep(2.5)
    state = machine.show("ActiveState", "ExecMainStatus", "NRestarts")
    check("a wrong configuration ends it with 78, and it is not started again",
          (state["ActiveState"], state["ExecMainStatus"]) == ("failed", "78") and state["NRestarts"] in ("0", before),
          f"{state}")
    said = machine.log()[-1]
    check("its log names the file and the key", "wrong.toml" in said and "hub.port" in said, said)
    machine.run("rm", "/etc/twinward/conf.d/wrong.toml")
    machine.run("systemctl", "restart", UNIT)
    machine.linked()


def upgraded(it):
    """From the older package to the newer: what waits, the administrator's files and choices stay."""
    check, machine = it.check, it.machine
    it.apt("the package with a lower version installs", "install", "older")
    lower = it.version()
    it.configure()
    it.give_secret()
    machine.run("systemctl", "restart", UNIT)
    machine.linked()
    machine.run("sh", "-c", f"echo '# mine' >>{CONFIG}")
    it.cut()
    queued = it.mark(5)
    before = machine.show("MainPID")["MainPID"]
    it.apt("it is upgraded, with nobody to answer, while the hub is away", "install", "newer")
    check("the version is the newer one", it.version() != lower, f"{lower} to {it.version()}")
    after = machine.show("MainPID", "ActiveState", "NRestarts")
    check("the running unit was restarted, once",
          (after["ActiveState"], after["NRestarts"]) == ("active", "0") and after["MainPID"] != before, f"{after}")
    pending = sum(a["pending"] for a in it.balance("after the upgrade, with the hub away").values())
    check("the queue is kept", pending >= len(queued), f"{pending} events wait")
    it.mend()
    it.arrive("what waited before the upgrade arrives, each once", queued)
    changed = machine.run("tail", "-n1", CONFIG, DROP_IN, SECRET).stdout
    mine = ("# mine", "lab-ca.pem", "SharedAccessKey")
    check("the administrator's files are kept", all(word in changed for word in mine))


def chosen(it):
    """An exchange of the package starts nothing that the administrator has stopped or disabled."""
    check, machine = it.check, it.machine

    def state():
        enabled = machine.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip()
        return f"{machine.show('ActiveState')['ActiveState']} {enabled}"
    machine.run("systemctl", "stop", UNIT)
    machine.run("dpkg", "--install", it.files["older"])
    check("a stopped unit stays stopped", state() == "inactive enabled", state())
    machine.run("systemctl", "disable", UNIT)
    machine.run("dpkg", "--install", it.files["newer"])
    check("a disabled one stays disabled", state() == "inactive disabled", state())
    machine.run("systemctl", "start", UNIT)
    before = machine.show("MainPID")["MainPID"]
    machine.run("dpkg", "--install", it.files["older"])
    check("a disabled one that runs stays disabled, and runs the other program",
          state() == "active disabled" and machine.show("MainPID")["MainPID"] != before, state())
    machine.run("systemctl", "enable", UNIT)
    machine.run("dpkg", "--install", it.files["newer"])
    check("enabled again, it stays so", state() == "active enabled", state())


def removed(it):
    """Removal stops it and keeps configuration and queue; the next installation goes on with them."""
    check, machine = it.check, it.machine
    machine.linked()
    it.cut()
    queued = it.mark(3)
    it.apt("the package is removed", "remove", "twinward")
    state = machine.show("ActiveState", "MainPID")
    check("the service is stopped", state == {"ActiveState": "inactive", "MainPID": "0"}, f"{state}")
    gone, kept = ["/usr/bin/twinward", "/usr/lib/systemd/system/twinward.service"], [CONFIG, DROP_IN, SECRET, STATE]
    there = machine.run("sh", "-c", 'for f; do [ ! -e "$f" ] || echo "$f"; done', "-", *gone, *kept).stdout.split()
    check("program and unit are gone; configuration, secret and state stay", there == kept, " ".join(there))
    it.apt("it is installed again", "install", "newer")
    check("it runs again", machine.is_active())
    it.mend()
    it.arrive("what waited before the removal arrives, each once", queued)
    it.balance("after the second installation")


def purged(it, before):
    """Nothing is left."""
    check, machine = it.check, it.machine
    it.apt("the package is purged while it runs", "purge", "twinward")
    left = differences(before, listing(machine))
    check(f"the list of {len(before)} files is the one from before", not left, indented("\n".join(left)))
    accounts = [f"/etc/{name}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")]
    named = machine.run("grep", "-l", "twinward", *accounts, check=False).stdout.split()
    check("neither the user nor its group is left", not named, " ".join(named))
    # systemd may remember the name until then, because multi-user.target wanted it.
    machine.run("systemctl", "daemon-reload")
    units = machine.run("systemctl", "list-units", "--all", "--no-legend", "--plain", "twinward*").stdout
    units += machine.run("systemctl", "list-unit-files", "--no-legend", "twinward*", check=False).stdout
    running = machine.run("pgrep", "-a", "twinward", check=False).stdout
    orphans = machine.run("find", "/", "/run", "/tmp", "-xdev", "(", "-nouser", "-o", "-nogroup", ")").stdout
    left = units + running + orphans
    check("no unit, no process and no file without an owner is left", not left, left)


def suite(check, program, name, tree, work, packages):
    work.mkdir()
    machine = Machine(tree, work, name)
    hub = Hub(program, work, DESIRED)
    system = machine.run("sed", "-n", "s/^PRETTY_NAME=//p", "/etc/os-release").stdout.strip()
    version = machine.run("systemctl", "--version").stdout.splitlines()[0]
    print(f"=== {name}: {system}, {version}, up in {machine.seconds:.1f} s", flush=True)
    began = time.monotonic()
    try:
        before = listing(machine)
        it = Installation(check, machine, hub, **packages)
        for part in (installed, modes, signed_in, doctor, promises, watchdog, broken):
            part(it)
        purged(it, before)
        for part in (upgraded, chosen, removed):
            part(it)
        purged(it, before)
        check("no panic in the log", not any("panicked" in line for line in machine.log()))
    except (AssertionError, KeyError, subprocess.SubprocessError) as fault:
        traceback.print_exc()
        check("it went to its end", False, f"{type(fault).__name__}: {fault}{indented(machine.story())}")
    hub.close()
    machine.off()
    print(f"=== {name}: {time.monotonic() - began:.0f} s", flush=True)


def main(program, newer, work, *suites):
    checks, packages = Checks(), {"newer": newer, "older": lower_version(newer, work)}
    with ThreadPoolExecutor() as together:
        pairs = [pair.split("=", 1) for pair in suites]
        runs = [together.submit(suite, checks.of(name), program, name, tree, Path(work) / name, packages)
                for name, tree in pairs]
        for run in runs:
            run.result()
    return checks.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
