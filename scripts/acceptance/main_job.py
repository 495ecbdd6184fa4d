"""The main job: 500 marked processes at 50/s, the hub cut for 10 s, the agent killed once with messages on the wire.

Shows that each marked process is received or lies in a reported gap, that repeated deliveries are the same events,
that the balance adds up on both sides, that the twin switches a collector off and on, that reported equals
effective, and that every body is valid against the published schema.
"""

import datetime
import json
import sys
import time
from pathlib import Path

from rig import OBJECT, Agent, Hub, reap, runtime_directory, schema, spawn_marked, until

PROCESSES, RATE = 500, 50
TWIN = {
    "highPriorityMessageFrequency": "PT1S", "lowPriorityMessageFrequency": "PT1S", "snapshotFrequency": "PT15S",
    "maxLocalCacheSizeInBytes": 8388608, "maxMessageSizeInBytes": 16384,
    "aggregationEnabledProcessCreate": True, "aggregationIntervalProcessCreate": "PT1S",
}
passed = []


def check(what, fine, detail=""):
    print(("PASS " if fine else "FAIL ") + what + (f": {detail}" if detail else ""), flush=True)
    passed.append(bool(fine))


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def events(bodies):
    return [event for body in bodies for event in body["Events"]]


def hits(event):
    if event["Payload"] and (aggregated := event["Payload"][0].get("ExtraDetails", {}).get("HitCount")):
        return int(aggregated)
    parts = {item.get("ExtraDetails", {}).get("Part", "1") for item in event["Payload"]}
    return 0 if parts and parts.isdisjoint({"1"}) else 1


def mark_of(event):
    if event["Name"] == "ProcessCreate":
        first = event["Payload"][0]["CommandLine"].split(" ")[0]
        if first.startswith("marked-"):
            return first
    return None


def storm(hub, agent):
    """The load and the faults; gives the wall time of each mark, and what was on the wire when the agent was killed."""
    started, pids = {}, []
    script = {1.0: "withhold", 3.0: "kill", 4.0: "restart", 5.0: "cut"}
    begin = time.monotonic()
    cut_until, before, unacknowledged = None, 0, 0
    for n in range(PROCESSES):
        while (now := time.monotonic() - begin) < n / RATE:
            time.sleep(max(0.0, n / RATE - now))
        for at in [at for at in script if at <= now]:
            match script.pop(at):
                case "withhold":
                    hub.ask("faults", pub_ack="withhold")
                    before = len(hub.of("telemetry"))
                case "kill":
                    unacknowledged = until("a message is on the wire", lambda: len(hub.of("telemetry")) - before, 3)
                    agent.kill()
                case "restart":
                    hub.ask("faults", pub_ack="none")
                    agent.start()
                case "cut":
                    hub.ask("faults", cut=True)
                    cut_until = time.monotonic() + 10
        mark = f"marked-{n:04}"
        pid, started[mark] = spawn_marked(mark)
        pids.append(pid)
    reap(pids)
    time.sleep(max(0.0, cut_until - time.monotonic()))  # the cut's own length, not a wait for something
    hub.ask("faults", cut=False)
    return started, unacknowledged


def main(program, schemas, work):
    validator = schema(schemas)
    runtime = runtime_directory()
    hub = Hub(program, work, {OBJECT: {k: {"value": v} for k, v in TWIN.items()}})
    agent = Agent(program, work, runtime, hub.ready)
    agent.start()
    agent.until_linked()
    source = [c for c in agent.until_watching()["collectors"] if c["event"] == "ProcessCreate"][0]["source"]
    check("process source is the kernel's own", source in ("eBPF", "audit", "process connector"), source)

    started, unacknowledged = storm(hub, agent)
    check("messages were on the wire when the agent was killed", unacknowledged > 0, f"{unacknowledged}")
    agent.until_linked()

    def delivered():
        status = agent.status()
        marks = {mark_of(e) for e in events(hub.bodies())}
        return status if status and f"marked-{PROCESSES - 1:04}" in marks and status["inFlight"] == 0 else None
    until("the last process is delivered", delivered, 60)

    received = {}
    for event in events(hub.bodies()):
        received.setdefault(event["Id"], []).append(event)
    check("a repeated delivery is the same event", all(all(e == same[0] for e in same) for same in received.values()))
    repeated = sum(1 for same in received.values() if len(same) > 1)
    check("the kill made the agent send again", repeated > 0, f"{repeated} events came more than once")
    by_mark = {}
    for same in received.values():
        if mark := mark_of(same[0]):
            by_mark[mark] = by_mark.get(mark, 0) + hits(same[0])
    # Gaps in the watch over other events do not excuse a missing process.
    gaps = [g for g in agent.status()["gaps"] if g["source"] in ("agent", "ProcessCreate")]
    spans = [(moment(g["start"]["utc"]), moment(g["end"]["utc"])) for g in gaps]
    missing = [m for m in started if m not in by_mark]
    outside = [m for m in missing if not any(a - 0.05 <= started[m] <= b + 0.05 for a, b in spans)]
    check("each process is received, or lies in a reported gap", not outside,
          f"{len(started) - len(missing)} received, {len(missing)} in gaps, outside: {outside[:5]}")
    check("the gaps are short", sum(b - a for a, b in spans if b - a < 3600) < 4.0, json.dumps(gaps))
    check("no process is counted twice", all(n == 1 for n in by_mark.values()))

    hub.desire(eventPriorityProcessCreate="Off")
    def reported(key):
        return hub.ask("twin")["reported"].get(OBJECT, {}).get(key, {}).get("value")
    until("reported Off", lambda: reported("eventPriorityProcessCreate") == "Off")
    until("the source is closed", lambda: [c for c in agent.status()["collectors"] if c["event"] == "ProcessCreate"][0]["state"] == "off")
    reap([spawn_marked("marked-while-off")[0]])
    hub.desire(eventPriorityProcessCreate="High")
    until("reported High", lambda: reported("eventPriorityProcessCreate") == "High")
    agent.until_watching()
    reap([spawn_marked("marked-while-on")[0]])
    until("a process is received after switching on", lambda: "marked-while-on" in {mark_of(e) for e in events(hub.bodies())})
    check("nothing is received while switched off", "marked-while-off" not in {mark_of(e) for e in events(hub.bodies())})
    twin = hub.ask("twin")
    effective = {k: v["value"] for k, v in twin["reported"][OBJECT].items()}
    wanted = {k: v["value"] for k, v in twin["desired"][OBJECT].items()}
    check("reported equals desired for each key", all(effective[k] == v for k, v in wanted.items()))
    check("the second object is there", twin["reported"]["twinward"]["desiredVersion"] == twin["desired"]["$version"])

    until("everything is delivered", lambda: (s := agent.status()) and s["inFlight"] == 0 and s)
    seconds = agent.stop()
    check("SIGTERM ends it within 5 s", seconds < 5, f"{seconds:.1f} s")
    agent.start()
    agent.until_linked()
    balance = agent.status()["balance"]
    for name, account in balance.items():
        total = account["delivered"] + account["pending"] + sum(account["dropped"].values())
        check(f"balance of {name}: collected = delivered + dropped + pending", account["collected"] == total, json.dumps(account))
    check("nothing was dropped", not any(sum(a["dropped"].values()) for a in balance.values()))
    agent.stop()
    at_agent = sum(account["delivered"] for account in balance.values())

    def at_hub():
        return sum({e["Id"]: hits(e) for e in events(hub.bodies())}.values())
    try:
        # What the hub prints may be on its way yet.
        until("the hub has told everything", lambda: at_hub() >= at_agent, 10)
    except AssertionError:
        # The check says what is missing.
        pass
    at_hub = at_hub()
    check("the hub has what the agent counts as delivered", at_hub >= at_agent, f"hub {at_hub}, agent {at_agent}")
    faults = [(b, e) for b in hub.bodies() for e in validator.iter_errors(b)]
    check("all bodies are valid against the published schema", not faults,
          f"{len(hub.bodies())} bodies" + (f"; first: {faults[0][1].message}" if faults else ""))
    hub.close()
    log = agent.log.read_text()
    check("no panic in the log", "panicked" not in log)
    if not all(passed):
        print("--- end of the agent's log\n" + "\n".join(log.splitlines()[-60:]))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3]))
