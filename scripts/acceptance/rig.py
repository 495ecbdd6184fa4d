"""What the acceptance scripts share: the loopback hub and the agent as child processes, and the published schema."""

import atexit
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

children = []


def end_children():
    """Ends what this run started, by its process id, however the run ended."""
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()


atexit.register(end_children)


def runtime_directory():
    """A directory on tmpfs for the hot spool; removed when this run ends, after its children."""
    path = tempfile.mkdtemp(prefix="twinward-", dir="/dev/shm")
    # Handlers run in reverse order, and the children must be gone first.
    atexit.unregister(end_children)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    atexit.register(end_children)
    return path


OBJECT = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration"


def until(what, condition, seconds=30.0):
    """Waits for a condition by asking again; fails loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Hub:
    """`twinward lab` as a child: commands on its standard input, happenings on its standard output."""

    def __init__(self, program, directory, twin):
        twin_file = Path(directory) / "twin.json"
        twin_file.write_text(json.dumps(twin))
        self.child = subprocess.Popen(
            [program, "lab", "--port", "0", "--dir", str(directory), "--twin", str(twin_file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(self.child)
        self.happenings = []
        self.lock = threading.Lock()
        self.answers = queue.Queue()
        self.serial = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready = until("the hub is ready", lambda: self.of("ready"))[0]

    def _read(self):
        for line in self.child.stdout:
            happening = json.loads(line)
            happening["_at"] = time.time()
            if happening["event"] == "answer":
                self.answers.put(happening)
            with self.lock:
                self.happenings.append(happening)

    def of(self, event):
        with self.lock:
            return [h for h in self.happenings if h["event"] == event]

    def ask(self, cmd, **fields):
        self.serial += 1
        self.child.stdin.write(json.dumps({"cmd": cmd, "id": self.serial, **fields}) + "\n")
        self.child.stdin.flush()
        while True:
            answer = self.answers.get(timeout=15)
            if answer.get("id") == self.serial:
                assert "error" not in answer, answer
                return answer

    def desire(self, **keys):
        self.ask("patch_desired", patch={OBJECT: {k: {"value": v} for k, v in keys.items()}})

    def bodies(self):
        return [h["body"] for h in self.of("telemetry")]

    def close(self):
        self.child.stdin.close()
        self.child.wait(timeout=10)


class Agent:
    """`twinward run` as a child, with its own directories: state on disk, hot spool on tmpfs."""

    def __init__(self, program, directory, runtime, ready):
        self.program, self.runtime = program, Path(runtime)
        self.config = Path(directory) / "twinward.toml"
        secret = Path(directory) / "secret"
        secret.touch(mode=0o600)
        secret.write_text(ready["connection_string"])
        self.config.write_text(f"""
[identity]
connection_string_file = "{secret}"
[hub]
host = "127.0.0.1"
port = {ready["port"]}
ca_file = "{ready["ca_file"]}"
[storage]
directory = "{directory}/state"
runtime_directory = "{runtime}"
""")
        self.log = Path(directory) / "agent.log"
        self.child = None

    def start(self):
        with self.log.open("a") as log:
            self.child = subprocess.Popen([self.program, "run", "--config", str(self.config)],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"})  # as the unit sets it
        children.append(self.child)

    def status(self):
        asked = subprocess.run([self.program, "status", "--json", "--config", str(self.config)],
                               capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else None

    def until_watching(self):
        def watching():
            status = self.status()
            return status if status and any(
                c["event"] == "ProcessCreate" and c["source"] for c in status["collectors"]) else None
        return until("the agent watches processes", watching)

    def until_linked(self):
        return until("the link is ready", lambda: (self.status() or {}).get("link", {}).get("state") == "ready", 60)

    def pss_kib(self):
        for line in Path(f"/proc/{self.child.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise AssertionError("no Pss")

    def mappings_kib(self):
        """PSS by mapping, parts of the same name together."""
        sizes, name = {}, ""
        for line in Path(f"/proc/{self.child.pid}/smaps").read_text().splitlines():
            head = line.split()
            if not head[0].endswith(":"):
                name = f"{Path(head[5]).name} {head[1]}" if len(head) > 5 else f"anonymous {head[1]}"
            elif head[0] == "Pss:":
                sizes[name] = sizes.get(name, 0) + int(head[1])
        return sizes

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        """SIGTERM; gives the seconds it took."""
        began = time.monotonic()
        self.child.terminate()
        code = self.child.wait(timeout=15)
        assert code == 0, f"the agent ended with {code}; see its log"
        return time.monotonic() - began


def spawn_marked(mark, seconds="0.3"):
    """Starts /bin/sleep under the name `mark`; gives its pid and the wall time at which it was surely running."""
    pid = os.posix_spawn("/bin/sleep", [mark, seconds], {})
    return pid, time.time()


def reap(pids):
    for pid in pids:
        os.waitpid(pid, 0)


def schema(directory):
    """The published message schema, formats asserted strictly."""
    from jsonschema import Draft7Validator, FormatChecker
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7
    files = {p.name: json.loads(p.read_text()) for p in Path(directory).glob("*.json")}
    registry = Registry().with_resources(
        (name, Resource.from_contents(content, default_specification=DRAFT7)) for name, content in files.items())
    checker = FormatChecker(formats=["date-time", "ipv4", "ipv6"])
    assert "date-time" in checker.checkers, "rfc3339-validator is missing: date-time would not be asserted"
    return Draft7Validator(files["messageRoot.json"], registry=registry, format_checker=checker)
