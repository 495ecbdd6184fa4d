#!/usr/bin/env python3
"""usage: scripts/third-party.py [--check]

Writes packaging/third-party: which crates are linked into the program of a device, under which licence each is taken,
and the texts that must come with it. --check only compares. It reads the sources that cargo has (cargo fetch --locked).
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "packaging" / "third-party"
TARGETS = ["x86_64", "aarch64", "arm"]
TRIPLES = {"arm": ["arm-unknown-linux-gnueabihf", "arm-unknown-linux-musleabihf"]}
# Taken where a crate lets choose: its text need not be repeated here.
FIRST = "Apache-2.0"
TEXTS = re.compile(r"^(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)

HEAD = """\
Programs and libraries of others in twinward
============================================

Linked into the program are the crates below, the Rust standard library (Apache-2.0; see
https://github.com/rust-lang/rust/blob/master/COPYRIGHT for its parts) and SQLite (in the public domain). The static
builds hold musl as well (MIT, https://git.musl-libc.org/cgit/musl/tree/COPYRIGHT).

A crate with a choice of licences is taken under the Apache License 2.0, where that is one of them. Its text is in
/usr/share/common-licenses/Apache-2.0 on Debian, and in the file LICENSE of twinward. The other texts follow the list.
"""


def metadata(triple: str) -> dict:
    """What cargo knows about the build for a device."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--no-default-features"]
    command += ["--filter-platform", triple]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def linked(data: dict) -> list[dict]:
    """The crates whose code gets into the program."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    found, todo = {}, [data["resolve"]["root"]]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            package = packages[dependency["pkg"]]
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in package["targets"])
            if normal and not macro and package["id"] not in found:
                found[package["id"]] = package
                todo.append(package["id"])
    return list(found.values())


def taken(expression: str) -> str:
    """The licence that is taken of an SPDX expression."""
    choices = [part.strip(" ()") for part in re.split(r" OR |/", expression)]
    return FIRST if FIRST in choices and " AND " not in expression else expression


def texts(package: dict) -> list[Path]:
    """The files of a crate that must come with the program."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and TEXTS.match(file.name))
    if taken(package["license"]) == FIRST:
        return [file for file in files if file.name.upper().startswith("NOTICE")]
    # A crate that is taken under one licence of several brings the text of the other ones too.
    unwanted = () if FIRST in package["license"] else ("APACHE",)
    return [file for file in files if not any(word in file.name.upper() for word in unwanted)]


def document() -> str:
    """The whole file."""
    crates = {}
    for target in TARGETS:
        for triple in TRIPLES.get(target, [f"{target}-unknown-linux-gnu", f"{target}-unknown-linux-musl"]):
            for package in linked(metadata(triple)):
                crates[package["name"], package["version"]] = package
    lines, bodies = [HEAD], {}
    for (name, version), package in sorted(crates.items()):
        licence = taken(package["license"] or "")
        if not licence:
            sys.exit(f"{name} {version} names no licence")
        lines.append(f"{name} {version}: {licence}")
        files = texts(package)
        if not files and licence != FIRST:
            lines.append(f"    (its package holds no text; authors: {', '.join(package['authors']) or 'not named'})")
        for file in files:
            body = "\n".join(line.rstrip() for line in file.read_text(encoding="utf-8").strip().splitlines())
            bodies.setdefault(body, []).append(f"{name} {version}, {file.name}")
    for body, owners in sorted(bodies.items(), key=lambda item: item[1]):
        lines += ["", "", "-" * 100, *owners, "-" * 100, "", body]
    return "\n".join(lines) + "\n"


if sys.argv[1:] not in ([], ["--check"]):
    sys.exit(__doc__)
text = document()
if sys.argv[1:] == ["--check"]:
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        sys.exit("packaging/third-party is out of date; run: scripts/third-party.py")
    print("packaging/third-party: ok")
else:
    FILE.write_text(text, encoding="utf-8")
