"""Memory and CPU of the device build after MINUTES of 50 processes a second of 300 ms each, connected, with one cut
of 10 s and one restart by SIGKILL in the first two minutes."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "acceptance"))
from rig import OBJECT, Agent, Hub, runtime_directory, until  # noqa: E402

RATE = 50


def main(lab_program, device_program, minutes, work):
    print(f"device binary: {os.path.getsize(device_program)} bytes")
    runtime = runtime_directory()
    hub = Hub(lab_program, work, {OBJECT: {
        "highPriorityMessageFrequency": {"value": "PT5S"}, "lowPriorityMessageFrequency": {"value": "PT10S"},
        "snapshotFrequency": {"value": "PT1M"}, "aggregationIntervalProcessCreate": {"value": "PT10S"}}})
    agent = Agent(device_program, work, runtime, hub.ready)
    agent.start()
    agent.until_linked()
    began, n, peak, cut = time.monotonic(), 0, 0, False
    pids = []
    while (now := time.monotonic() - began) < minutes * 60:
        pids.append(os.posix_spawn("/bin/sleep", [f"load-{n}", "0.3"], {}))
        n += 1
        pids = [p for p in pids if os.waitpid(p, os.WNOHANG)[0] == 0]
        want_cut = 30 <= now < 40
        if want_cut != cut:
            cut = want_cut
            hub.ask("faults", cut=cut)
        if n == 60 * RATE:
            agent.kill()
            agent.start()
        if n % (5 * RATE) == 0:
            peak = max(peak, agent.pss_kib())
        time.sleep(max(0.0, n / RATE - (time.monotonic() - began)))
    for pid in pids:
        os.waitpid(pid, 0)
    hub.ask("faults", cut=False)
    agent.until_linked()
    until("everything on the wire is acknowledged", lambda: (s := agent.status()) and s["inFlight"] == 0)
    fields = Path(f"/proc/{agent.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    pss = agent.pss_kib()
    status = agent.status()
    print(f"processes: {n} in {minutes:g} min")
    print(f"PSS: {pss} KiB now, {max(peak, pss)} KiB at most")
    print(f"CPU: {ticks * 1e6 / os.sysconf('SC_CLK_TCK') / n:.0f} us a process, since the restart")
    print(f"balance: {status['balance']}")
    for name, kib in sorted(agent.mappings_kib().items(), key=lambda item: -item[1])[:8]:
        print(f"  {kib:6} KiB  {name}")
    agent.stop()
    hub.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
