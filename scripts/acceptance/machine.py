"""A Debian booted in a container: systemd-nspawn on a throw-away overlay of a tree from rootfs.sh.

It shares the network of the one who starts it, so a hub on 127.0.0.1 is reached from inside. It runs under boxed.sh, so
that nothing stays, however the run ends.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from rig import children, until

# What the unit of the agent asks for and nspawn does not give by itself.
CAPABILITIES = "CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_AUDIT_CONTROL,CAP_AUDIT_READ"
UNIT = "twinward.service"


class Machine:
    """Commands run inside as root, with a clean environment; the files inside are below `root`."""

    def __init__(self, tree, work, name="accept", patience=60):
        self.root, self.console = Path(work) / "root", Path(work) / "console.log"
        parts = {part: Path(work) / part for part in ("upper", "work")}
        for path in (self.root, *parts.values()):
            path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={tree},upperdir={parts['upper']},workdir={parts['work']}", self.root], check=True)
        # Without a control group of its own its services would be in those of another container.
        group = Path(os.environ["CONTROL_GROUPS"]) / name
        group.mkdir()
        began = time.monotonic()
        with self.console.open("w") as console:
            self.child = subprocess.Popen(
                ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec systemd-nspawn "$@"', group, "--quiet", "--boot",
                 f"--directory={self.root}", f"--machine={name}", "--register=no", "--keep-unit", "--console=read-only",
                 f"--capability={CAPABILITIES}", "--system-call-filter=bpf"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        children.append(self.child)
        self.leader = until("the container has its first process", self._first, patience)
        self.state = until("the system is up", self._up, patience)
        self.seconds = time.monotonic() - began

    def _first(self):
        assert self.child.poll() is None, f"nspawn ended:\n{self.console.read_text()}"
        for pid in Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split():
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() in ("systemd", "init"):
                    return pid
            except FileNotFoundError:
                pass
        return None

    def _up(self):
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state if state in ("running", "degraded") else None

    def run(self, *command, check=True, text=None, seconds=120):
        """Runs a command to its end. Standard input is empty or `text`; both outputs are kept."""
        done = subprocess.run(
            ["nsenter", "--target", self.leader, "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
             "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb", *command],
            input=text or "", capture_output=True, text=True, timeout=seconds)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def put(self, path, text, mode="0644", owner="root"):
        """Writes a file as the README has it done: with install(1)."""
        self.run("install", "-m", mode, "-o", owner, "-g", owner, "/dev/stdin", path, text=text)

    def show(self, *properties, unit=UNIT):
        """Properties of a unit, as text."""
        shown = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def is_active(self):
        return self.show("ActiveState")["ActiveState"] == "active"

    def log(self, since=None):
        """What the agent itself has written to the journal, oldest first."""
        lines = self.run("journalctl", "--output=json", "--no-pager", f"_SYSTEMD_UNIT={UNIT}",
                         *([f"--since=@{since}"] if since else [])).stdout
        return [json.loads(line)["MESSAGE"] for line in lines.splitlines()]

    def story(self):
        """The end of what the agent and systemd have said of it."""
        return self.run("journalctl", "--no-pager", "--lines=40", "--output=short-precise", f"--unit={UNIT}").stdout

    def status(self):
        """What the agent says of itself; nothing if it does not run, or waits for its secret."""
        asked = self.run("twinward", "status", "--json", check=False)
        status = json.loads(asked.stdout) if asked.returncode == 0 else {}
        return status if "link" in status else None

    def linked(self, seconds=30):
        def ready():
            status = self.status()
            return status if status and status["link"]["state"] == "ready" else None
        return until("the agent is signed in", ready, seconds)

    def watching(self, seconds=30):
        """The sources are opened after the link; what starts before lies in a reported gap."""
        def watches():
            status = self.status()
            sources = [c["source"] for c in status["collectors"] if c["event"] == "ProcessCreate"] if status else []
            return status if any(sources) else None
        return until("the agent watches processes", watches, seconds)

    def off(self):
        self.run("systemctl", "poweroff", check=False)
        try:
            self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(timeout=20)
        subprocess.run(["umount", self.root], check=True)
