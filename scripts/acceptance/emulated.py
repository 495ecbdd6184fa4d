"""What emulated.sh runs for each target; the hub is always a native process outside.

package  the .deb in a booted system of its architecture: installed, signed in, an event, the balance, purged
program  the program alone under a model of its processor: TLS handshake, twin, an event, the stop with its balance
try      the same with its own loopback hub inside

Under qemu-user the kernel's newer interfaces are not there, the eBPF and audit systems and some netlink kinds among
them: then the agent must say which source it has lost, take the next one, and go on. What it says is printed.
"""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from installation import DESIRED, SECRET, Checks, Installation, indented
from machine import UNIT, Machine
from rig import Agent, Hub, reap, runtime_directory, spawn_marked, until

# Emulated, a start takes seconds.
PATIENCE = 90


def sources(status):
    lines = (f"{c['event']}: {c['state']}, {c['source']}; {c['detail']}" for c in status["collectors"])
    return indented("\n".join(lines))


def twin_read(hub):
    return until("the twin is read", lambda: [read for read in hub.of("twin_read") if read["status"] == 200])


def package(check, program, work, file, tree):
    Path(work).mkdir()
    machine = Machine(tree, work, patience=PATIENCE)
    hub = Hub(program, work, DESIRED)
    # Units of systemd's own may fail here: the emulator knows no way to hand over credentials.
    failed = machine.run("systemctl", "list-units", "--failed", "--no-legend", "--plain").stdout
    failed = " ".join(line.split()[0] for line in failed.splitlines())
    print(f"up in {machine.seconds:.1f} s, {machine.state}; failed: {failed}", flush=True)
    it = Installation(check, machine, hub, newer=file)
    # Emulated, systemd can start nothing with a private IPC or network namespace: the emulator loses the file that is
    # handed from one process to another on a socket. (Seen with `systemd-run -p PrivateNetwork=yes true`.)
    drop_ins = f"/run/systemd/system/{UNIT}.d"
    machine.run("mkdir", "-p", drop_ins)
    machine.put(f"{drop_ins}/emulated.conf", "[Service]\nPrivateIPC=no\n")
    try:
        architecture = machine.run("dpkg", "--print-architecture").stdout.strip()
        check("the system is of that architecture", architecture in str(file), architecture)
        it.apt("apt-get installs the package, with nobody to answer", "install", "newer")
        version = machine.run("twinward", "--version").stdout.strip()
        check("the program says its version", version.split()[-1] in it.version(), version)
        until("the unit is active", machine.is_active, PATIENCE)
        state = machine.show("StatusText", "NRestarts")
        check("without a secret it waits", SECRET in state["StatusText"] and state["NRestarts"] == "0", f"{state}")
        it.configure()
        machine.run("systemctl", "restart", UNIT)
        it.give_secret()
        machine.linked(PATIENCE)
        check("it signs in over TLS", len(hub.of("connected")) == 1)
        check("it gets the twin", twin_read(hub))
        checked = machine.run("twinward", "check", check=False)
        check("`twinward check` finds the configuration good", checked.returncode == 0,
              indented(checked.stdout + checked.stderr) if checked.returncode else "")
        baseline = machine.run("twinward", "baseline", check=False)
        check("`twinward baseline` runs", baseline.returncode in (0, 1) and baseline.stdout,
              f"exit {baseline.returncode}; {(baseline.stdout + baseline.stderr).strip().splitlines()[-1]}")
        it.arrive("processes that start inside arrive at the hub, each once", it.mark(2))
        it.balance("after that")
        print(f"    sources:{sources(machine.status())}")
        machine.run("rm", "-r", drop_ins)
        it.apt("the package is purged", "purge", "twinward")
        left = machine.run("find", "/", "/run", "-xdev", "-name", "*twinward*").stdout
        check("nothing of that name is left", not left, left)
        check("no panic in the log", not any("panicked" in line for line in machine.log()))
    except (AssertionError, KeyError, subprocess.SubprocessError) as fault:
        check("it went to its end", False, f"{type(fault).__name__}: {fault}{indented(machine.story())}")
    hub.close()
    machine.off()


def program(check, native, work, emulated):
    Path(work).mkdir()
    runtime = runtime_directory()
    said = subprocess.run([emulated, "version"], capture_output=True, text=True)
    check("it starts and says what it is", said.returncode == 0, indented(said.stdout + said.stderr))
    if said.returncode:
        return
    hub = Hub(native, work, DESIRED)
    agent = Agent(emulated, work, runtime, hub.ready)
    try:
        began = time.monotonic()
        agent.start()
        agent.until_linked()
        check("it signs in over TLS", len(hub.of("connected")) == 1, f"{time.monotonic() - began:.1f} s")
        check("it gets the twin", twin_read(hub))
        agent.until_watching()
        mark = f"marked-{agent.child.pid}"
        pid, _ = spawn_marked(mark, "2.5")
        reap([pid])
        arrived = until("the process arrives", lambda: mark in str(hub.bodies()))
        check("a process that starts arrives at the hub", arrived)
        print(f"    sources:{sources(agent.status())}")
        seconds = agent.stop()
        check("SIGTERM ends it within 5 s", seconds < 5, f"{seconds:.1f} s")
        balances = re.findall(r"balance.* queue=(\w+) collected=(\d+) delivered=(\d+) dropped=(\d+) pending=(\d+)",
                              re.sub(r"\x1b\[[0-9;]*m", "", agent.log.read_text()))
        check("it stops with a balance that adds up, and nothing is dropped",
              len(balances) == 2 and all(int(c) == int(d) + int(x) + int(p) and x == "0" for _, c, d, x, p in balances),
              f"{balances}")
    except AssertionError as fault:
        check("it went to its end", False, f"{fault}{indented(chr(10).join(agent.log.read_text().splitlines()[-30:]))}")
    check("no panic in the log", "panicked" not in agent.log.read_text())
    hub.close()


def tried(check, emulated):
    done = subprocess.run([emulated, "try", "--for", "10s"], capture_output=True, text=True, timeout=PATIENCE)
    check("`twinward try --for 10s` ends with 0: its balance adds up and nothing is dropped", done.returncode == 0,
          f"exit {done.returncode}{indented(chr(10).join((done.stdout + done.stderr).splitlines()[-8:]))}")


def main(part, target, *arguments):
    # So that its children end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    checks = Checks()
    {"package": package, "program": program, "try": tried}[part](checks.of(target), *arguments)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
