"""The package in one booted system, with the hub that its agent signs in to; and the lists that are compared."""

import re
import shutil
import subprocess
import threading
from pathlib import Path

from main_job import events
from rig import OBJECT, until

TWIN = {
    "highPriorityMessageFrequency": "PT1S", "lowPriorityMessageFrequency": "PT1S", "snapshotFrequency": "PT5S",
    "maxLocalCacheSizeInBytes": 8388608, "aggregationEnabledProcessCreate": False, "eventPriorityProcessCreate": "High",
    # Nothing in a container sees the end of a process: there this is what the doctor advises.
    "eventPriorityProcessTerminate": "Off",
}
DESIRED = {OBJECT: {key: {"value": value} for key, value in TWIN.items()}}
SECRET, DROP_IN = "/etc/twinward/connection-string", "/etc/twinward/conf.d/lab.toml"
# A process that lives so long is seen by an agent that looks each second.
LOOKS = 2.2

# What may differ between two file lists. Nothing whose path names twinward is ever left out.
EXCLUDED = {
    "/run/": "the running system's own, empty at each boot",
    "/tmp/": "the running system's own, empty at each boot",
    "/var/tmp/": "the test lays the packages there; systemd makes the private directories of services there",
    "/var/log/": "logs stay",
    "/var/cache/apt/": "apt's own",
    "/var/lib/apt/": "apt's own",
    "/var/cache/debconf/": "debconf's own",
    "/var/lib/dpkg/": "dpkg's own books; those of the package name it",
    "/var/lib/systemd/": "when systemd's timers last ran, and the clock",
    "/etc/passwd-": "the copy from before the last change",
    "/etc/group-": "the copy from before the last change",
    "/etc/shadow-": "the copy from before the last change",
    "/etc/gshadow-": "the copy from before the last change",
    "/etc/.pwd.lock": "the lock of the account files",
}


class Checks:
    """Numbered, each with its verdict; several systems may be checked at the same time."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def of(self, name):
        """For one system: a function that takes what is checked, the verdict, and what was seen."""
        def check(what, fine, detail=""):
            with self.lock:
                self.passed, self.failed = self.passed + bool(fine), self.failed + (not fine)
                number = self.passed + self.failed
                print(f"{'ok    ' if fine else 'FAILED'} {number:3} {name}: {what}" + (f": {detail}" if detail else ""),
                      flush=True)
        return check

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def indented(text):
    return "\n    ".join(["", *text.strip().splitlines()])


class Installation:
    """What the checks do with the package, and ask of it and of the hub."""

    def __init__(self, check, machine, hub, **packages):
        """`packages`: under which name inside, and which file."""
        self.check, self.machine, self.hub = check, machine, hub
        self.files, self.marks = {}, 0
        for name, package in packages.items():
            # Other users may read it there, as apt wishes.
            self.files[name] = f"/var/tmp/{name}.deb"
            copy = machine.root / f"var/tmp/{name}.deb"
            shutil.copy(package, copy)
            copy.chmod(0o644)

    def apt(self, what, action, name):
        """apt-get as a person calls it, with nobody there to answer and no network needed; gives what it said."""
        done = self.machine.run("apt-get", "--quiet=2", action, self.files.get(name, name), check=False, seconds=300)
        said = done.stdout + done.stderr
        self.check(what, done.returncode == 0, f"exit {done.returncode}{indented(said)}" if done.returncode else "")
        return said

    def version(self):
        return self.machine.run("dpkg-query", "--show", "--showformat=${Version}", "twinward").stdout

    def configure(self):
        """Where the hub is. With a hub of Azure's this is not needed."""
        ready, authority = self.hub.ready, "/etc/twinward/lab-ca.pem"
        self.machine.put(authority, Path(ready["ca_file"]).read_text())
        self.machine.put(DROP_IN, f'[hub]\nhost = "127.0.0.1"\nport = {ready["port"]}\nca_file = "{authority}"\n')

    def give_secret(self):
        """As README.md has it."""
        self.machine.put(SECRET, self.hub.ready["connection_string"], mode="0600", owner="twinward")

    def mark(self, count):
        """Starts processes that must arrive; gives their names once the agent has had the time to see them."""
        self.machine.watching(60)
        names = [f"marked-{self.marks + n:03}" for n in range(count)]
        self.marks += count
        # From standard input: on bash's own command line the names would be seen a second time.
        starts = "\n".join(f"(exec -a {name} sleep {LOOKS}) &" for name in names)
        self.machine.run("bash", "-s", text=f"{starts}\nwait\n")
        return names

    def arrivals(self, names):
        """How often each of these came to the hub. Under emulation the emulator's name stands before it."""
        lines = [event["Payload"][0]["CommandLine"].split(" ") for event in events(self.hub.bodies())
                 if event["Name"] == "ProcessCreate"]
        return [sum(name in line for line in lines) for name in names]

    def arrive(self, what, names):
        """Each of them, and each once."""
        try:
            until(what, lambda: all(self.arrivals(names)))
        except AssertionError:
            # The check says which are missing.
            pass
        came = self.arrivals(names)
        self.check(what, came == [1] * len(names), f"{came}")

    def balance(self, when):
        account = until("the agent says its balance", self.machine.status)["balance"]
        dropped = {name: sum(a["dropped"].values()) for name, a in account.items()}
        fine = all(a["collected"] == a["delivered"] + a["pending"] + dropped[name] for name, a in account.items())
        told = ", ".join(f"{name}: collected {a['collected']}, delivered {a['delivered']}, dropped {dropped[name]}, "
                         f"pending {a['pending']}" for name, a in account.items())
        self.check(f"the balance adds up and nothing is dropped {when}", fine and not any(dropped.values()), told)
        return account

    def cut(self):
        """The hub goes away, and the agent knows."""
        self.hub.ask("faults", cut=True)
        until("the link is down", lambda: (s := self.machine.status()) and s["link"]["state"] != "ready")

    def mend(self):
        self.hub.ask("faults", cut=False)
        self.machine.linked()


def listing(machine):
    """Each file inside: kind, mode, owner and link; with what it holds where that is configuration."""
    found = machine.run("find", "/", "/run", "/tmp", "/dev/shm", "-xdev", "-printf", r"%p\t%y %m %u:%g %l\n").stdout
    files = dict(line.split("\t", 1) for line in found.splitlines())
    sums = machine.run("find", "/etc", "-type", "f", "-exec", "sha256sum", "{}", "+").stdout
    for line in sums.splitlines():
        digest, path = line.split("  ", 1)
        files[path] += f" {digest}"
    return files


def differences(before, after):
    changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    return sorted(path for path in changed if "twinward" in path or not path.startswith(tuple(EXCLUDED)))


def lower_version(package, work):
    """The same package under a lower version: no version has been published yet. Its contents are the same."""
    tree, old = Path(work) / "lower", Path(work) / "lower.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 0.0.1-1", control.read_text()))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, old], check=True,
                   stdout=subprocess.DEVNULL)
    return old
