"""The agent, auditd and a bare reader under one load. For each: processor time a process start at 500/s, of its own
threads and of the kernel's audit thread; what it saw of the starts; and the time of a start with and without it, in turns.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "acceptance"))
from capture import RATE, spent, storm  # noqa: E402
from rig import OBJECT, Agent, Hub, children, runtime_directory, until  # noqa: E402

STARTS, ROUNDS, SPAWNS = 5_000, 7, 1_000
AUDITD = """local_events = yes
write_logs = yes
log_file = {0}/audit.log
log_format = RAW
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 64
num_logs = 2
space_left = 2
admin_space_left = 1
space_left_action = IGNORE
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
plugin_dir = {0}/plugins.d
"""


def audit_status():
    lines = subprocess.run(["auditctl", "-s"], check=True, capture_output=True, text=True).stdout.splitlines()
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) == 2}


def kernel_thread():
    """The kernel's thread that hands audit records on."""
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            if entry.read_text() == "kauditd\n":
                return int(entry.parent.name)
        except OSError:
            pass
    return None


class Bare:
    """Counts the records of the agent's own program in the kernel."""

    aggregates = False

    def __init__(self, program, work):
        self.program = program

    def start(self):
        self.child = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(self.child)
        assert self.child.stdout.readline() == "ready\n"
        self.pid = self.child.pid

    def settle(self):
        time.sleep(0.2)  # it looks each 100 ms

    def stop(self):
        out, _ = self.child.communicate(timeout=10)
        return int(out.split()[0])


class Twinward:
    """The agent, connected, with process starts alone, like the others; each start is an event of its own, or they are
    aggregated, which is the default."""

    def __init__(self, hub_program, program, work, source, each):
        self.aggregates = not each
        twin = {"maxLocalCacheSizeInBytes": 67108864, "lowPriorityMessageFrequency": "PT5S",
                "highPriorityMessageFrequency": "PT5S", "snapshotFrequency": "PT1H",
                "aggregationEnabledProcessCreate": not each,
                **{f"eventPriority{name}": "Off" for name in ("ProcessTerminate", "ConnectionCreate", "Login")}}
        self.hub = Hub(hub_program, work, {OBJECT: {k: {"value": v} for k, v in twin.items()}})
        self.agent = Agent(program, work, runtime_directory(), self.hub.ready)
        with self.agent.config.open("a") as config:
            config.write(f'[collect]\nprocess_source = "{source}"\n')

    def balance(self):
        return self.agent.status()["balance"]["low"]["collected"]

    def start(self):
        self.agent.start()
        self.agent.until_linked()
        self.agent.until_watching()
        until("the twin is in force", lambda: self.agent.status()["twin"]["desiredVersion"] == 1)
        self.pid = self.agent.child.pid
        self.before = self.balance()

    def settle(self):
        """Delivery is part of the cost if each start is an event."""
        def empty():
            status = self.agent.status()
            return status["inFlight"] == 0 and all(status[q]["records"] == 0 for q in ("high", "low"))
        if not self.aggregates:
            until("every start is delivered", empty, 120)
        else:
            time.sleep(1)  # for the last batch

    def stop(self):
        seen = self.balance() - self.before
        self.agent.stop()
        return seen


class Auditd:
    """auditd with one rule for execve, writing its log."""

    aggregates = False
    RULE = ["always,exit", "-F", "arch=b64", "-S", "execve", "-k", "side-by-side"]

    def __init__(self, work):
        self.work = Path(work)
        (self.work / "plugins.d").mkdir()
        (self.work / "auditd.conf").write_text(AUDITD.format(work))
        (self.work / "auditd.conf").chmod(0o640)

    def start(self):
        self.before = audit_status()
        self.child = subprocess.Popen(["auditd", "-n", "-s", "enable", "-c", str(self.work)],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children.append(self.child)
        self.pid = self.child.pid
        until("auditd reads", lambda: audit_status()["pid"] == str(self.pid))
        subprocess.run(["auditctl", "-b", "8192"], check=True, capture_output=True)
        subprocess.run(["auditctl", "-a", *self.RULE], check=True, capture_output=True)

    def settle(self):
        time.sleep(1)  # it has no way to say that it has written everything

    def stop(self):
        subprocess.run(["auditctl", "-d", *self.RULE], check=True, capture_output=True)
        self.child.terminate()
        self.child.wait(timeout=10)
        subprocess.run(["auditctl", "-e", self.before["enabled"]], check=True, capture_output=True)
        subprocess.run(["auditctl", "-b", self.before["backlog_limit"]], check=True, capture_output=True)
        logs = [log.read_text(errors="replace") for log in self.work.glob("audit.log*")]
        return sum(log.count("type=EXECVE ") for log in logs)


def one_start():
    """Seconds of a start and its end, one after the other."""
    began = time.perf_counter()
    for _ in range(SPAWNS):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return (time.perf_counter() - began) / SPAWNS


def cost(contender, kauditd):
    """Microseconds a start of its own and of the kernel's thread, and how many starts it saw."""
    contender.start()
    before, kernel = spent(contender.pid)[0], spent(kauditd)[0]
    took = storm("" if contender.aggregates else "each", STARTS)
    contender.settle()
    own, kernel = spent(contender.pid)[0] - before, spent(kauditd)[0] - kernel
    seen = contender.stop()
    rate = STARTS / took
    assert rate > 0.9 * RATE, f"the machine is too slow or too busy: {rate:.0f} starts/s"
    return own / STARTS, kernel / STARTS, seen


def slowdown(contender):
    """Microseconds by which a start takes longer; and by how much two turns without it differ."""
    differences, noise = [], []
    for _ in range(ROUNDS):
        first = one_start()
        contender.start()
        with_it = one_start()
        contender.stop()
        second = one_start()
        differences.append((with_it - (first + second) / 2) * 1e6)
        noise.append(abs(first - second) * 1e6)
    return statistics.median(differences), statistics.median(noise)


def main(hub_program, program, bare, work, wanted):
    makers = {
        "bare": ("bare eBPF reader, counting", lambda d: Bare(bare, d)),
        "ebpf": ("twinward, eBPF, aggregated", lambda d: Twinward(hub_program, program, d, "ebpf", False)),
        "ebpf-each": ("twinward, eBPF, each an event", lambda d: Twinward(hub_program, program, d, "ebpf", True)),
        "audit": ("twinward, audit, aggregated", lambda d: Twinward(hub_program, program, d, "audit", False)),
        "audit-each": ("twinward, audit, each an event", lambda d: Twinward(hub_program, program, d, "audit", True)),
        "auditd": ("auditd, writing its log", Auditd),
    }
    kauditd = kernel_thread()
    print(f"{STARTS} starts of /bin/true at {RATE}/s; then {ROUNDS} turns of {SPAWNS} starts one after the other")
    print(f"{'':32}{'us/start':>9}{'ratio':>7}{'kernel':>8}{'seen':>8}{'slower by, us':>15}{'noise, us':>11}", flush=True)
    first = None
    for name in wanted or makers:
        title, make = makers[name]
        directory = Path(work) / name
        directory.mkdir()
        contender = make(str(directory))
        own, kernel, seen = cost(contender, kauditd)
        slower, noise = slowdown(contender)
        first = first or own
        print(f"{title:32}{own:9.1f}{own / first:7.1f}{kernel:8.1f}{seen / STARTS:8.2f}{slower:15.1f}{noise:11.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], sys.argv[5:])
