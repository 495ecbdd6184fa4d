#!/usr/bin/env python3
"""Writes what the recipes for Yocto and Buildroot repeat from the project: crates, licence, version, SQLite's options.

usage: scripts/recipes.py [--check]     (--check writes nothing and fails if something is old)

Run it after a change of Cargo.lock, LICENSE, .cargo/config.toml or the version. Needs Python 3.11.
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
YOCTO = TOP / "packaging/yocto/meta-twinward/recipes-security/twinward"
BUILDROOT = TOP / "packaging/buildroot/package/twinward"


def crates():
    """The include file of the Yocto recipe: every crate of Cargo.lock, with its checksum."""
    lock = tomllib.loads((TOP / "Cargo.lock").read_text())
    known = [crate for crate in lock["package"] if "source" in crate]
    foreign = [crate["name"] for crate in known if "crates.io-index" not in crate["source"]]
    if foreign:
        sys.exit(f"recipes.py: not from crates.io, which the recipes cannot fetch: {', '.join(foreign)}")
    lines = ["# Written by scripts/recipes.py from Cargo.lock.", 'SRC_URI += " \\']
    lines += [f"    crate://crates.io/{crate['name']}/{crate['version']} \\" for crate in known]
    lines += ['"', ""]
    lines += [f'SRC_URI[{crate["name"]}-{crate["version"]}.sha256sum] = "{crate["checksum"]}"' for crate in known]
    return "\n".join(lines) + "\n"


def replaced(path, *rules):
    """The text of a file with the one line that each pattern finds replaced."""
    text = path.read_text()
    for pattern, line in rules:
        text, count = re.subn(pattern, lambda _: line, text, flags=re.MULTILINE)
        if count != 1:
            sys.exit(f"recipes.py: {path.relative_to(TOP)} must have one line {pattern}, not {count}")
    return text


def main():
    licence = (TOP / "LICENSE").read_bytes()
    version = tomllib.loads((TOP / "Cargo.toml").read_text())["package"]["version"]
    options = tomllib.loads((TOP / ".cargo/config.toml").read_text())["env"]["LIBSQLITE3_FLAGS"]
    recipe = YOCTO / f"twinward_{version}.bb"
    if [path.name for path in YOCTO.glob("*.bb")] != [recipe.name]:
        sys.exit(f"recipes.py: the one recipe in {YOCTO.relative_to(TOP)} must be {recipe.name}; rename it")
    md5 = hashlib.md5(licence, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(licence).hexdigest()
    wanted = {
        YOCTO / "twinward-crates.inc": crates(),
        recipe: replaced(recipe, (r"^LIC_FILES_CHKSUM = .*$", f'LIC_FILES_CHKSUM = "file://LICENSE;md5={md5}"')),
        BUILDROOT / "twinward.hash": replaced(BUILDROOT / "twinward.hash", (r"^sha256 .* LICENSE$", f"sha256  {sha256}  LICENSE")),
        BUILDROOT / "Config.in": replaced(BUILDROOT / "Config.in", (r'^\tdefault "v[0-9.]+"$', f'\tdefault "v{version}"')),
        BUILDROOT / "twinward.mk": replaced(
            BUILDROOT / "twinward.mk", (r"^TWINWARD_SQLITE_OPTIONS = .*$", f"TWINWARD_SQLITE_OPTIONS = {options}")),
    }
    old = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"recipes.py: {path.relative_to(TOP)} is old; run scripts/recipes.py", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.write_text(wanted[path])
        print(f"written: {path.relative_to(TOP)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
