"""What is tried inside a virtual machine of vm.sh: which source the agent takes by itself, the kernel's programs with
two capabilities only, polling, connections of what is older than audit; and then each source of the kernel with the load of capture.py.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import capture
from capture import check, generate
from rig import reap, spawn_marked, until

COUNT, RATE = 200, 20
# An address of this machine that is not loopback.
OWN_ADDRESS = "192.0.2.1"
# What setpriv gives to a user who is nobody.
TWO_CAPABILITIES = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs",
                    "--inh-caps", "+bpf,+perfmon", "--ambient-caps", "+bpf,+perfmon", "--bounding-set",
                    "-all,+bpf,+perfmon"]


class Collecting:
    """`twinward collect` as a child, until it is told to end."""

    def __init__(self, program, source, prefix=(), name="ProcessCreate"):
        self.said, self.out = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen([*prefix, program, "collect", name, "--json", "--for", "30m",
                                       "--source", source], stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.said)
        try:
            until("it follows", lambda: "following for" in self.text(self.said) or self.child.poll() is not None, 60)
        except AssertionError:
            self.child.kill()

    @staticmethod
    def text(file):
        return os.pread(file.fileno(), 1 << 26, 0).decode()

    def source(self):
        return next((line for line in self.text(self.said).splitlines() if line.startswith("source: ")), "no source")

    def items(self):
        """What was seen so far. The last line may still be written."""
        whole = self.text(self.out).rpartition("\n")[0]
        return [json.loads(line)["Payload"][0] for line in whole.splitlines()]

    def lines(self):
        return [item["CommandLine"] for item in self.items()]

    def end(self):
        """What it said, once it is gone."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        self.child.wait(timeout=60)
        return self.text(self.said)


def each_start(program, what, source, prefix=()):
    """A paced load, seen by `collect`: each command line exactly once."""
    collecting = Collecting(program, source, prefix)
    began = collecting.source()
    if collecting.child.poll() is not None:
        check(f"{what}: it starts", False, collecting.end())
        return began
    generate("one", COUNT, RATE)
    wanted = {f"one-{n:05} x" for n in range(COUNT)}

    def seen():
        return [line for line in collecting.lines() if line.startswith("one-")]
    try:
        until("each is seen", lambda: len(seen()) >= COUNT, 30)
    except AssertionError:
        # The check says how many.
        pass
    said = collecting.end()
    lost = [line for line in said.splitlines() if line.startswith("lost ")]
    check(f"{what}: each of {COUNT} starts at {RATE}/s is seen once, command line whole",
          sorted(seen()) == sorted(wanted) and not lost, f"{len(seen())} seen, {len(wanted - set(seen()))} missing; {lost}")
    return began


def polled(program):
    """Polling sees what stays."""
    collecting = Collecting(program, "poll")
    print(collecting.source(), flush=True)
    pids = [spawn_marked(f"stays-{n}", "4")[0] for n in range(20)]
    reap(pids)
    collecting.end()
    seen = [line for line in collecting.lines() if line.startswith("stays-")]
    check("poll: each of 20 that stay for 4 s is seen once, command line whole",
          sorted(seen) == sorted(f"stays-{n} 4" for n in range(20)), f"{len(seen)} seen")
    check("poll: it says what it cannot see", "cannot see" in collecting.source())


def older(program):
    """A connection of a process that runs since before audit was on: this one."""
    collecting = Collecting(program, "audit", name="ConnectionCreate")
    with socket.create_server((OWN_ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((OWN_ADDRESS, port)), server.accept()[0]:
            def seen():
                return [item for item in collecting.items() if item["RemotePort"] == str(port) and item["Direction"] == "Out"]
            try:
                until("it is seen", seen, 60)
            except AssertionError:
                # The check says so.
                pass
    said = collecting.end()
    print(collecting.source(), flush=True)
    check("audit: a lasting connection of a process that is older than audit is seen once",
          [item["ProcessId"] for item in seen()] == [os.getpid()], f"{seen()}; {said}")


def main(program, accel, sources):
    version = json.loads(subprocess.run([program, "version", "--json"], capture_output=True, text=True, check=True).stdout)
    uname = platform.uname()
    btf = Path("/sys/kernel/btf/vmlinux").exists()
    bits = 64 if sys.maxsize > 1 << 32 else 32
    print(f"kernel {uname.release} {uname.version} {uname.machine}, {os.cpu_count()} processors, {accel}; "
          f"agent {bits} bits; BTF {'there' if btf else 'absent'}; eBPF {version['ebpf']}", flush=True)
    ebpf = bits == 64
    check("the kernel's programs are in the build where they can work", (version["ebpf"] == "built") == ebpf)

    began = each_start(program, "auto", "auto")
    print(began, flush=True)
    check("auto takes the best source", began.startswith("source: eBPF" if ebpf and btf else "source: audit"), began)
    if ebpf:
        began = each_start(program, "ebpf as nobody with CAP_BPF and CAP_PERFMON only", "ebpf", TWO_CAPABILITIES)
        print(began, flush=True)
    polled(program)
    older(program)

    for source in sources.split(",") if sources else (["ebpf"] if ebpf else []) + ["audit", "connector", "fanotify"]:
        with tempfile.TemporaryDirectory() as work:
            capture.each_source(program, None, work, [source])
    failed = capture.passed.count(False)
    print(f"{capture.passed.count(True)} passed, {failed} failed", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]) > 0)
