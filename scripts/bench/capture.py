"""What capturing costs the agent, source by source: processor and wake-ups while nothing happens, processor for each
process start at 500/s without and with aggregation, and memory after 10,000 starts."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "acceptance"))
from rig import OBJECT, Agent, Hub, runtime_directory, until  # noqa: E402

IDLE_SECONDS, RATE, STARTS = 60, 500, 10_000


def spent(pid):
    """Microseconds on a processor and voluntary switches of all threads so far."""
    nanoseconds = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                switches += int(line.split()[1])
    return nanoseconds / 1000, switches


def storm(prefix, count=STARTS):
    """Starts /bin/true at 500/s; each with a name of its own if there is a prefix. Gives the seconds it took."""
    begin, pids = time.monotonic(), []
    for n in range(count):
        while (now := time.monotonic() - begin) < n / RATE:
            time.sleep(n / RATE - now)
        pids.append(os.posix_spawn("/bin/true", [f"{prefix}-{n}" if prefix else "same"], {}))
        if len(pids) > 64:
            os.waitpid(pids.pop(0), 0)
    for pid in pids:
        os.waitpid(pid, 0)
    return time.monotonic() - begin


def measure(hub_program, device_program, work, source):
    directory = Path(work) / source
    directory.mkdir()
    twin = {
        "highPriorityMessageFrequency": "PT5S", "lowPriorityMessageFrequency": "PT5S", "snapshotFrequency": "PT1H",
        "maxLocalCacheSizeInBytes": 67108864, "aggregationEnabledProcessCreate": False,
    }
    hub = Hub(hub_program, directory, {OBJECT: {k: {"value": v} for k, v in twin.items()}})
    agent = Agent(device_program, directory, runtime_directory(), hub.ready)
    with agent.config.open("a") as config:
        config.write(f'[collect]\nprocess_source = "{source}"\n')
    agent.start()
    agent.until_linked()
    agent.until_watching()
    until("the twin is in force", lambda: agent.status()["twin"]["desiredVersion"] == 1)
    pid = agent.child.pid

    def delivered():
        # Aggregates of ends and connections stay open for an hour: they are not in the queues yet.
        status = agent.status()
        return status["inFlight"] == 0 and all(status[q]["records"] == 0 for q in ("high", "low"))
    until("the first events are delivered", delivered, 60)

    before = spent(pid)
    time.sleep(IDLE_SECONDS)  # the length of what is measured
    after = spent(pid)
    print(f"{source}: idle for {IDLE_SECONDS} s: {(after[0] - before[0]) / IDLE_SECONDS / 1e4:.3f} % of a core, "
          f"{(after[1] - before[1]) / IDLE_SECONDS:.1f} wake-ups/s", flush=True)

    before = spent(pid)
    took = storm("each")
    until("every start is delivered", delivered, 120)
    after = spent(pid)
    print(f"{source}: {STARTS} starts in {took:.1f} s, each an event: {(after[0] - before[0]) / STARTS:.0f} us a start, "
          f"{(after[1] - before[1]) / took:.0f} wake-ups/s; PSS {agent.pss_kib()} KiB", flush=True)

    hub.desire(aggregationEnabledProcessCreate=True, aggregationIntervalProcessCreate="PT1H")
    until("aggregation is on", lambda: agent.status()["twin"]["desiredVersion"] == 2)
    before = spent(pid)
    took = storm("")
    # Aggregates stay pending for an hour: what is measured ends with the last batch.
    time.sleep(1)
    after = spent(pid)
    print(f"{source}: {STARTS} starts in {took:.1f} s, aggregated: {(after[0] - before[0]) / STARTS:.0f} us a start", flush=True)
    balance = agent.status()["balance"]
    dropped = sum(sum(balance[q]["dropped"].values()) for q in ("high", "low"))
    print(f"{source}: dropped {dropped}; PSS {agent.pss_kib()} KiB", flush=True)
    agent.stop()
    hub.close()


if __name__ == "__main__":
    for wanted in sys.argv[4:] or ["ebpf"]:
        measure(sys.argv[1], sys.argv[2], sys.argv[3], wanted)
