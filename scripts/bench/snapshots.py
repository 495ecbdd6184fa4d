"""The load of snapshots.sh, and its figures."""

import json
import os
import subprocess
import sys

PROCESSES, SOCKETS = 300, 2000
program, most_cpu, most_kib = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
HOLDER = """
import socket, sys
held = []
for _ in range(int(sys.argv[1])):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            s = socket.socket(family, kind)
            s.bind((address, 0))
            if kind == socket.SOCK_STREAM:
                s.listen(1)
            held.append(s)
print("ready", flush=True)
sys.stdin.read()
"""

# Two thirds of the processes hold nothing; the others share the sockets, four at a time.
holders = SOCKETS // 4 // 5
children = []
try:
    for _ in range(holders):
        children.append(subprocess.Popen([sys.executable, "-c", HOLDER, "5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for _ in range(PROCESSES - holders):
        children.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for child in children[:holders]:
        assert child.stdout.readline() == b"ready\n"
    settings = dict(os.environ, MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
    said = subprocess.run([program], env=settings, check=True, capture_output=True, text=True, timeout=300).stdout
finally:
    for child in children:
        child.stdin.close()
        child.wait()

rows = [json.loads(line) for line in said.splitlines()]
rounds = [row for row in rows if row["name"] == "all"]
print(f"{PROCESSES} processes, {holders * 20} sockets; first round, and the middle of {len(rounds)}:")
for name in dict.fromkeys(row["name"] for row in rows if row["name"] != "all"):
    of = [row for row in rows if row["name"] == name]
    middle = sorted(row["cpu_ms"] for row in of)[len(of) // 2]
    print(f"  {name:24} {of[0]['cpu_ms']:7.1f} ms {middle:7.1f} ms  {of[0]['items']:6} items  {of[0]['state']}")
middle = sorted(row["cpu_ms"] for row in rounds)[len(rounds) // 2]
peak = max(row["extra_kib"] for row in rounds)
print(f"  {'together':24} {rounds[0]['cpu_ms']:7.1f} ms {middle:7.1f} ms, at most {most_cpu:.0f}")
print(f"  extra memory, the most   {peak:7} KiB, at most {most_kib}")
failed = rounds[0]["cpu_ms"] > most_cpu or peak > most_kib
print("FAILED" if failed else "within both")
sys.exit(failed)
