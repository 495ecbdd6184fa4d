"""What the sources see of a known load: marked starts at 50/s, at 500/s and as fast as two generators can, long command
lines, a 32-bit program, and short TCP connections. Everything is received by the loopback hub, or counted as dropped.

Meanwhile every snapshot is taken each five seconds.

The process connector and fanotify do not promise command lines: there every process id must be received.
"""

import json
import multiprocessing
import os
import platform
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from rig import OBJECT, Agent, Hub, runtime_directory, schema, until

STARTS, FAST, CONNECTIONS = (
    int(os.environ.get(f"CAPTURE_{name}", count)) for name, count in [("STARTS", 1000), ("FAST", 3000), ("CONNECTIONS", 1000)])
TWIN = {
    "highPriorityMessageFrequency": "PT1S", "lowPriorityMessageFrequency": "PT1S",
    # As often as the agent takes them at all: they must not cost a start or a connection.
    "snapshotFrequency": "PT5S",
    "maxLocalCacheSizeInBytes": 268435456, "maxMessageSizeInBytes": 262144,
    "aggregationEnabledProcessCreate": False, "aggregationEnabledConnectionCreate": False,
    "eventPriorityProcessTerminate": "Off", "eventPriorityLogin": "Off",
}
passed = []


def check(what, fine, detail=""):
    print(("PASS " if fine else "FAIL ") + what + (f": {detail}" if detail else ""), flush=True)
    passed.append(bool(fine))


def paced(count, rate):
    """Numbers, each at its time; without a rate as fast as they are taken."""
    begin = time.monotonic()
    for n in range(count):
        if rate:
            while (now := time.monotonic() - begin) < n / rate:
                time.sleep(n / rate - now)
        yield n


def generate(prefix, count, rate):
    """Starts /bin/true under marked names; gives the process ids."""
    pids = []
    for n in paced(count, rate):
        pids.append(os.posix_spawn("/bin/true", [f"{prefix}-{n:05}", "x"], {}))
        if len(pids) % 50 == 0:
            # Finished ones make room; the newest may still run.
            for pid in pids[-100:-50]:
                os.waitpid(pid, 0)
    for pid in pids[(len(pids) // 50 * 50) - 50:] if len(pids) >= 50 else pids:
        os.waitpid(pid, 0)
    return pids


def two_generators(prefix):
    with multiprocessing.Pool(2) as pool:
        halves = pool.starmap(generate, [(f"{prefix}-{half}", FAST // 2, None) for half in "ab"])
    return halves[0] + halves[1]


# A 32-bit program for the older ABI of a 64-bit processor: machine and flags of its file, and its code.
TINY = {
    # mov eax, 1; xor ebx, ebx; int 0x80
    "x86_64": (3, 0, bytes([0xB8, 1, 0, 0, 0, 0x31, 0xDB, 0xCD, 0x80])),
    # mov r7, #1; mov r0, #0; svc #0
    "aarch64": (40, 0x0500_0000, bytes.fromhex("0170a0e3 0000a0e3 000000ef")),
}


def tiny_elf32(machine, flags, code):
    """A 32-bit program that ends with 0."""
    base, size = 0x10000, 52 + 32
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack(
        "<HHIIIIIHHHHHH", 2, machine, 1, base + size, 52, 0, flags, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, size + len(code), size + len(code), 5, 0x1000)
    return head + segment + code


class Run:
    """One agent with one source, and what the hub has received of it."""

    def __init__(self, program, work, source):
        self.directory = Path(work) / source
        self.directory.mkdir()
        self.hub = Hub(program, self.directory, {OBJECT: {k: {"value": v} for k, v in TWIN.items()}})
        self.agent = Agent(program, self.directory, runtime_directory(), self.hub.ready)
        with self.agent.config.open("a") as config:
            config.write(f'[collect]\nprocess_source = "{source}"\nloopback_connections = true\n')
        self.agent.start()
        self.agent.until_linked()
        self.agent.until_watching()
        until("the twin is in force", lambda: self.agent.status()["twin"]["desiredVersion"] == 1)

    def items(self, name):
        return [e["Payload"][0] for body in self.hub.bodies() for e in body["Events"] if e["Name"] == name]

    def starts(self, prefix):
        """Marked starts by their mark."""
        seen = {}
        for item in self.items("ProcessCreate"):
            if item["CommandLine"].startswith(prefix + "-"):
                seen.setdefault(item["CommandLine"].split(" ")[0], []).append(item)
        return seen

    def settled(self, there, seconds=30):
        """Waits until what must come is there, or the time is up; then until nothing is pending."""
        try:
            until("it is there", there, seconds)
        except AssertionError:
            # The check that follows says what is missing.
            pass

        def empty():
            status = self.agent.status()
            return status and status["inFlight"] == 0 and all(
                status["balance"][q]["pending"] == 0 for q in ("high", "low")) and status
        return until("everything is delivered", empty, 60)

    def dropped(self):
        return sum(sum(self.agent.status()["balance"][q]["dropped"].values()) for q in ("high", "low"))

    def gaps(self):
        """What was missed after the start."""
        return [g for g in self.agent.status()["gaps"] if "not open" not in g["reason"]]


def starts(run, whole):
    for what, prefix, make in [
        ("at 50/s", "slow", lambda: generate("slow", STARTS // 4, 50)),
        ("at 500/s", "quick", lambda: generate("quick", STARTS, 500)),
        ("as fast as two generators can", "fast", lambda: two_generators("fast")),
    ]:
        before, began = run.dropped(), time.monotonic()
        pids = make()
        took = time.monotonic() - began
        if whole:
            run.settled(lambda: len(run.starts(prefix)) >= len(pids))
        else:
            run.settled(lambda: {item["ProcessId"] for item in run.items("ProcessCreate")}.issuperset(pids))
        dropped, gaps = run.dropped() - before, run.gaps()
        if whole:
            seen = run.starts(prefix)
            received = len(seen)
            check(f"starts {what}: each is received, none is dropped", received == len(pids) and dropped == 0 and not gaps,
                  f"{len(pids)} started in {took:.1f} s, {received} received, {dropped} dropped, gaps {gaps}")
            check(f"starts {what}: each once, command line whole", all(
                len(items) == 1 and items[0]["CommandLine"] == f"{mark} x" for mark, items in seen.items()))
        else:
            ids = {item["ProcessId"] for item in run.items("ProcessCreate")}
            missing = [pid for pid in pids if pid not in ids]
            check(f"starts {what}: no process id is missed", not missing and dropped == 0 and not gaps,
                  f"{len(pids)} started in {took:.1f} s, {len(missing)} missing, {dropped} dropped, gaps {gaps}")


def long_lines(run, whole):
    for mark, arguments in [("long-many", ["y" * 1024] * 100), ("long-one", ["z" * 100_000])]:
        pid = os.posix_spawn("/bin/true", [f"{mark}-0", *arguments], {})
        os.waitpid(pid, 0)
        pid = os.posix_spawn("/bin/true", [f"after-{mark}-0", "whole"], {})
        os.waitpid(pid, 0)
        if not whole:
            continue
        run.settled(lambda: run.starts(f"after-{mark}"))
        [seen] = run.starts(mark).get(f"{mark}-0", [None])
        check(f"{mark}: cut and marked", seen and seen["ExtraDetails"].get("CommandLineCut") == "true"
              and 4000 <= len(seen["CommandLine"]) <= 4096, f"{len(seen['CommandLine']) if seen else None} bytes")
        check(f"{mark}: what follows is whole", f"after-{mark}-0 whole" in [i["CommandLine"] for i in run.items("ProcessCreate")])


def old_programs(run, whole):
    if platform.machine() not in TINY or not whole:
        return
    program = run.directory / "tiny32"
    program.write_bytes(tiny_elf32(*TINY[platform.machine()]))
    program.chmod(0o755)
    try:
        pid = os.posix_spawn(str(program), ["old-0", "x"], {})
        _, status = os.waitpid(pid, 0)
    except OSError as error:
        status = error
    if status != 0:
        print(f"NOT RUN: 32-bit programs: this kernel does not run them ({status})")
        return
    run.settled(lambda: run.starts("old"))
    check("a 32-bit program is received", len(run.starts("old")) == 1)


def connections(run):
    earlier = 0  # inbound ones of the slower round that cannot be told from those of the faster one
    for rate in (50, 500):
        server = socket.create_server(("127.0.0.1", 0), backlog=512)
        port = server.getsockname()[1]
        # Sources that look learn of the listener before the first connection.
        time.sleep(1.5)
        count = CONNECTIONS // 4 if rate == 50 else CONNECTIONS

        def serve():
            for _ in range(count):
                server.accept()[0].close()

        def call():
            for _ in paced(count, rate):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.recv(1)
        # This process may be older than audit; threads that it starts now are not.
        threads = [threading.Thread(target=side) for side in (serve, call)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.close()

        def mine():
            """Audit does not know this side's port if the socket was closed at once; then the process is ours."""
            return [c for c in run.items("ConnectionCreate") if str(port) in (c.get("LocalPort"), c["RemotePort"])
                    or (c["Direction"] == "In" and "LocalPort" not in c and c["ProcessId"] == os.getpid())]
        run.settled(lambda: len(mine()) >= 2 * count + earlier)
        mine = mine()
        out = sum(1 for c in mine if c["Direction"] == "Out" and c["RemotePort"] == str(port))
        into = sum(1 for c in mine if c["Direction"] == "In") - earlier
        earlier += sum(1 for c in mine if c["Direction"] == "In" and "LocalPort" not in c) - earlier
        check(f"{count} connections at {rate}/s: each is received from both sides", out == count and into == count,
              f"{out} out, {into} in, {run.dropped()} dropped")
        if run.directory.name == "ebpf":
            ours = (os.getpid(), os.path.realpath(sys.executable))
            known = sum(1 for c in mine if (c["ProcessId"], c["Executable"]) == ours and c.get("CommandLine"))
            ended = sum(1 for c in mine if "BytesSent" in c.get("ExtraDetails", {}))
            check(f"{count} connections at {rate}/s: each with its process, most with their bytes",
                  known == len(mine) and ended >= 0.9 * len(mine), f"{known} with process, {ended} with bytes of {len(mine)}")


def each_source(program, validator, work, sources):
    """Tries each source; without a validator bodies are not judged."""
    for source in sources:
        print(f"== {source}", flush=True)
        whole = source in ("ebpf", "audit")
        run = Run(program, work, source)
        shown = {c["event"]: c for c in run.agent.status()["collectors"]}
        print(f"source: {shown['ProcessCreate']['source']}; connections: {shown['ConnectionCreate']['source']}")
        starts(run, whole)
        long_lines(run, whole)
        old_programs(run, whole)
        connections(run)
        print(f"PSS {run.agent.pss_kib()} KiB")
        seconds = run.agent.stop()
        check("it ends within 5 s", seconds < 5, f"{seconds:.1f} s")
        if validator:
            bad = [e.message for body in run.hub.bodies() for e in validator.iter_errors(body)]
            check("every body is valid", not bad, json.dumps(bad[:3]))
        run.hub.close()


def main(program, schemas, work, sources):
    each_source(program, schema(schemas), work, sources)
    failed = passed.count(False)
    print(f"{passed.count(True)} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:] or ["ebpf", "audit", "connector", "fanotify"]) > 0)
