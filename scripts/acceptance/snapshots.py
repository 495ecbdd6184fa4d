"""The parts of snapshots.sh: each makes something, takes the event of it, and compares line by line with a tool."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from rig import schema

PROGRAM, SCHEMAS, WORK = (Path(argument).resolve() for argument in sys.argv[1:4])
passed = []


def check(what, fine, detail=""):
    print(("PASS " if fine else "FAIL ") + what + (f": {detail}" if detail and not fine else ""), flush=True)
    passed.append(bool(fine))


def same(what, ours, theirs):
    """Both as lists of lines; what only one of them has is shown."""
    ours, theirs = sorted(ours), sorted(theirs)
    extra, missing = [x for x in ours if x not in theirs], [x for x in theirs if x not in ours]
    check(f"{what} ({len(theirs)} lines)", ours == theirs and theirs, f"only ours: {extra}; only theirs: {missing}")


def run(*words, text=None):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, input=text, timeout=120)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


VALID = schema(SCHEMAS)


def take(name, *before):
    """The items of one event, as it would be sent, and what was said about it."""
    words = [*before, PROGRAM if "chroot" not in before else "/twinward", "collect", name, "--json"]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    message = {"AgentVersion": "1", "AgentId": str(uuid.uuid4()), "MessageSchemaVersion": "1.0", "Events": [event]}
    errors = [error.message for error in VALID.iter_errors(message)]
    check(f"{name} is valid", not errors, errors[:3])
    assert event["IsEmpty"] == (not event["Payload"])
    return event["Payload"], done.stderr


def detail(item, key):
    return item.get("ExtraDetails", {}).get(key, "")


class Namespace:
    """A network namespace; it and what runs in it are gone when this run ends."""

    def __init__(self, name):
        self.name = f"tw-{os.getpid()}-{name}"
        run("ip", "netns", "add", self.name)
        atexit.register(run, "ip", "netns", "delete", self.name)
        self.exec = ["ip", "netns", "exec", self.name]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *words, text=None):
        return run(*self.exec, *words, text=text)

    def hold(self, script):
        """Runs a script of Python that holds something and says so; ended when this run ends."""
        child = subprocess.Popen([*self.exec, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(lambda: (child.stdin.close(), child.wait()))
        assert child.stdout.readline() == b"ready\n"
        return child


# --- LocalUsers ---------------------------------------------------------------------------------------------------

def users():
    root = WORK / "root"
    for name in ("etc", "proc", "usr", "home", "dev", "tmp", "root"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    run("mount", "--bind", "/usr", root / "usr")
    run("mount", "-t", "proc", "proc", root / "proc")
    for name in ("login.defs", "pam.d", "security", "skel", "default"):
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name)
        elif source.exists():
            shutil.copy(source, root / "etc" / name)
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\n")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "toor:x:0:0:second root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\ndaemon:x:1:\nsudo:x:27:\ndocker:x:998:\nnogroup:x:65534:\n")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\ntoor:!:20000::::::\nnobody:*:20000::::::\n")
    (root / "etc/gshadow").write_text("")
    shutil.copy(PROGRAM, root / "twinward")
    inside = ["chroot", root]
    run(*inside, "useradd", "-m", "-G", "sudo,docker", "-s", "/bin/bash", "alice")
    run(*inside, "useradd", "-m", "-u", "4294967290", "-K", "UID_MAX=4294967293", "farout")
    run(*inside, "useradd", "-r", "-s", "/usr/sbin/nologin", "sensor")
    run(*inside, "useradd", "-m", "-p", "", "open")
    # A made-up hash: only that there is one is looked at.
    run(*inside, "usermod", "-p", "$6$salt$hash", "alice")
    keys = root / "home/alice/.ssh"
    keys.mkdir(mode=0o700)
    (keys / "authorized_keys").write_text(
        "# a comment\nssh-ed25519 AAAA one\n\nfrom=\"10.0.0.1\",no-pty ssh-rsa AAAA two\n")

    items, said = take("LocalUsers", *inside)
    accounts = [line.split(":") for line in run(*inside, "getent", "passwd").splitlines()]
    same("users: name, uid, home and shell as getent",
         [":".join([i["UserName"], i["UserId"], detail(i, "Home"), detail(i, "Shell")]) for i in items],
         [":".join([a[0], a[2], a[5], a[6]]) for a in accounts])
    # `id` asks by name for the groups, and by the first entry of a uid that two accounts share.
    names = [account[0] for account in accounts]

    def by_id(flag):
        return [f"{name} {';'.join(sorted(run(*inside, 'id', flag, name).split()))}" for name in names]

    same("users: group ids as id", [f"{i['UserName']} {';'.join(sorted(i['GroupIds'].split(';')))}" for i in items], by_id("-G"))
    same("users: group names as id", [f"{i['UserName']} {';'.join(sorted(i['GroupNames'].split(';')))}" for i in items], by_id("-Gn"))
    states = {"P": "set", "L": "locked", "NP": "empty"}
    status = [line.split() for line in run(*inside, "passwd", "-S", "-a").splitlines()]
    same("users: passwords as passwd -S",
         [f"{i['UserName']} {detail(i, 'Password').replace('none', 'locked')}" for i in items],
         [f"{words[0]} {states[words[1]]}" for words in status])
    by_name = {item["UserName"]: item for item in items}
    check("users: two keys of alice are counted", detail(by_name["alice"], "SshKeys") == "2", by_name["alice"])
    check("users: no hash and no key is told", "$6$" not in json.dumps(items) + said and "AAAA" not in json.dumps(items))
    check("users: a second root is told", "toor" in json.dumps(by_name["root"]) or "root" in detail(by_name["toor"], "SharesUidWith"), by_name["toor"])


# --- ListeningPorts -----------------------------------------------------------------------------------------------

SOCKETS = """
import sys
from socket import *
held = []
def make(family, kind, address, protocol=0, only6=None, device=None, peer=None):
    s = socket(family, kind, protocol)
    held.append(s)
    if only6 is not None:
        s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, only6)
    if device:
        s.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device)
    s.bind(address)
    if kind == SOCK_STREAM:
        s.listen(5)
    if peer:
        s.connect(peer)
    return s
make(AF_INET, SOCK_STREAM, ("0.0.0.0", 1001))
server = make(AF_INET, SOCK_STREAM, ("127.0.0.1", 1002))
make(AF_INET6, SOCK_STREAM, ("::", 1003), only6=1)
make(AF_INET6, SOCK_STREAM, ("::", 1004), only6=0)
make(AF_INET6, SOCK_STREAM, ("::1", 1005))
make(AF_INET6, SOCK_STREAM, ("::ffff:127.0.0.1", 1006))
make(AF_INET, SOCK_STREAM, ("0.0.0.0", 1007), device=b"lo")
make(AF_INET, SOCK_DGRAM, ("0.0.0.0", 2001))
make(AF_INET, SOCK_DGRAM, ("127.0.0.1", 2002), peer=("127.0.0.1", 53))
make(AF_INET6, SOCK_DGRAM, ("::", 2003), only6=0)
make(AF_INET6, SOCK_DGRAM, ("::1", 2004))
make(AF_INET, SOCK_RAW, ("0.0.0.0", 0), protocol=IPPROTO_ICMP)
make(AF_INET6, SOCK_RAW, ("::", 0), protocol=IPPROTO_ICMPV6)
# A connection is no listening port.
held.append(create_connection(("127.0.0.1", 1002)))
held.append(server.accept()[0])
print("ready", flush=True)
sys.stdin.read()
"""


def by_ss(namespace):
    lines = []
    for family, mark in (("-4", ""), ("-6", "6")):
        for protocol, flags in (("tcp", "-lt"), ("udp", "-au"), ("raw", "-aw")):
            for line in namespace.run("ss", "-Hnp", family, flags).splitlines():
                words = line.split()
                (local, port), (_, peer) = (end.rsplit(":", 1) for end in words[3:5])
                local, _, interface = local.strip("[]").partition("%")
                local = {"*": "::" if mark else "0.0.0.0"}.get(local.strip("[]"), local.strip("[]"))
                pid = re.search(r"pid=(\d+)", line)
                lines.append(f"{protocol}{mark} {local} {port} {interface or '-'} {peer} {pid.group(1) if pid else '-'}")
    return lines


def by_us(items):
    return [f"{i['Protocol']} {i['LocalAddress']} {i['LocalPort']} {detail(i, 'Interface') or '-'} {i['RemotePort']} "
            f"{detail(i, 'Pid') or '-'}" for i in items]


def ports():
    inside = Namespace("ports")
    inside.hold(SOCKETS)
    number = os.stat(f"/run/netns/{inside.name}").st_ino
    here, _ = take("ListeningPorts", *inside.exec)
    same("ports: each socket as ss", by_us([i for i in here if not detail(i, "NetworkNamespace")]), by_ss(inside))
    by_port = {i["LocalPort"]: i for i in here if not detail(i, "NetworkNamespace")}
    check("ports: dual-stack and IPv6 only are told apart",
          (detail(by_port["1004"], "DualStack"), detail(by_port["1003"], "DualStack")) == ("true", "false"), by_port["1003"])
    # The same from outside, through the processes that are in there. That way does not tell interfaces.
    outside, _ = take("ListeningPorts")
    without = [line.replace(" lo ", " - ") for line in by_ss(inside)]
    same("ports: of another network namespace, marked",
         by_us([i for i in outside if detail(i, "NetworkNamespace") == str(number)]), without)


# --- FirewallConfiguration ----------------------------------------------------------------------------------------

RULES = """
table inet filter {
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 }; }
    map ports { type inet_service : verdict; elements = { 9001 : accept, 9002 : drop }; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        ip saddr @blocked drop
        ip saddr 10.0.0.0/8 tcp dport { 22, 80-90 } accept
        ip6 saddr fe80::/10 udp dport 546 accept
        tcp dport vmap { 8080 : accept, 8443 : jump web }
        tcp dport vmap @ports
        meta l4proto icmp limit rate 5/second accept
        ip saddr != 203.0.113.0/24 tcp sport != 53 counter reject
        ip saddr . tcp dport { 10.1.1.1 . 22, 10.1.1.2 . 23 } accept comment "two of them"
        log prefix "drop: " drop
    }
    chain web {
        tcp flags syn limit rate 10/second accept
        return
    }
    chain forward { type filter hook forward priority filter; policy drop; }
    chain output {
        type filter hook output priority filter; policy accept;
        ip daddr 198.51.100.1-198.51.100.9 udp dport 53 accept
        meta skuid 1000 ip daddr 192.0.2.1 drop
    }
}
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth0" masquerade
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 80 dnat to 10.1.1.2:8080
    }
}
table ip6 six {
    chain input { type filter hook input priority 5; policy accept; icmpv6 type echo-request drop; }
}
table bridge filter {
    chain forward { type filter hook forward priority filter; policy accept; ether type arp accept; }
}
table arp filter {
    chain input { type filter hook input priority filter; policy accept; arp operation request accept; }
}
table ip asleep {
    flags dormant
    chain input { type filter hook input priority 0; policy drop; tcp dport 1 accept; }
}
"""
IPTABLES = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:web - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s %(net)s -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT ! -s %(host)s -p tcp -m multiport --dports 80,443,8000:8100 -j web
-A INPUT -p udp -m udp --sport 53 -m comment --comment "answers of names" -j DROP
-A INPUT -p tcp -m tcp --dport 113 -j REJECT --reject-with %(reset)s
-A OUTPUT -d %(host)s -j LOG --log-prefix "out "
-A web -j RETURN
COMMIT
"""
V4, V6 = ({"net": net, "host": host, "reset": "tcp-reset"} for net, host in (("10.0.0.0/8", "192.0.2.7/32"), ("fd00::/8", "2001:db8::7/128")))


def plain(text):
    """What two ways to write the same rule have in common: without quotes and bursts, one spelling of a refusal
    and of a translation."""
    text = re.sub(r" burst \d+( packets)?", "", text.replace('"', ""))
    text = re.sub(r"nat to ([\d.]+):(\d+)", r"nat addr \1 port \2", text)
    text = re.sub(r"reject with (\w+) (type )?", r"reject type \1 expr ", text)
    return re.sub(r"reject type icmpx? expr (icmpx |port-unreachable)?(port-unreachable)?", "reject", text).strip()


def nft_lines(text):
    """Each rule and each policy of `nft list ruleset`, behind its family, table and chain."""
    table = chain = None
    depth = 0
    for line in (line.strip() for line in text.splitlines()):
        words = line.split()
        if depth == 0 and words[:1] == ["table"]:
            table = f"{words[1]} {words[2]}"
        elif depth == 1 and words[:1] == ["chain"]:
            chain = words[1]
        elif depth == 1 and words[:1] in (["set"], ["map"]):
            chain = None
        elif depth == 2 and chain and words and words[0] == "type":
            yield f"{table} {chain}: policy {re.search('policy ([a-z]+)', line).group(1)}"
        elif depth == 2 and chain and words and words[0] != "}":
            yield f"{table} {chain}: {plain(line)}"
        depth += line.count("{") - line.count("}")


def our_lines(items):
    """The same of our items. The elements of a map of verdicts are items of their own: here they are put together."""
    rules = {}
    for item in items:
        place = f"{detail(item, 'Family')} {detail(item, 'Table')} {item['ChainName']}"
        rules.setdefault((place, item["Priority"]), []).append(item)
    for (place, _), parts in rules.items():
        rule = detail(parts[0], "Rule")
        elements = [element for element in (detail(part, "MapElement") for part in parts) if element]
        if elements:
            rule = re.sub(r"\{ \d+ elements \}", "{ " + ", ".join(elements) + " }", rule)
        yield f"{place}: {plain(rule)}"


def by_iptables(items, backend):
    rules = [i for i in items if detail(i, "Backend") == backend and not detail(i, "Rule").startswith("policy ")]
    policies = [i for i in items if detail(i, "Backend") == backend and detail(i, "Rule").startswith("policy ")]
    return ([f"{detail(i, 'Table')} {detail(i, 'Rule')}" for i in rules],
            [f"{detail(i, 'Table')} {i['ChainName']} {detail(i, 'Rule').split()[1].upper()}" for i in policies])


def by_save(text):
    rules, policies, table = [], [], None
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            rules.append(f"{table} {line}")
        elif line.startswith(":") and line.split()[1] != "-":
            policies.append(f"{table} {line[1:].split()[0]} {line.split()[1]}")
    return rules, policies


def firewall():
    bare = Namespace("bare")
    items, said = take("FirewallConfiguration", *bare.exec)
    check("firewall: none is an empty event that says so", items == [] and "no firewall" in said, said)

    native = Namespace("nft")
    native.run("nft", "-f", "-", text=RULES)
    items, _ = take("FirewallConfiguration", *native.exec)
    same("firewall: each rule and policy as nft", our_lines(items), nft_lines(native.run("nft", "-s", "list", "ruleset")))
    of = {(detail(i, "Table"), i["ChainName"], i["Priority"], detail(i, "MapElement")): i for i in items}
    fields = [(i["Action"], i.get("Direction"), i.get("Protocol"), i.get("SourceAddress"), i.get("DestinationPort"))
              for i in (of[("filter", "input", 2, "")], of[("filter", "input", 3, "")], of[("filter", "web", 0, "")])]
    check("firewall: sets are flattened, and a chain that is jumped to has the direction of its caller", fields == [
        ("Deny", "In", None, "192.0.2.0/24,198.51.100.7", None), ("Allow", "In", "tcp", "10.0.0.0/8", "22,80-90"),
        ("Allow", "In", "tcp", None, None)], fields)
    check("firewall: a table that sleeps is not enabled",
          all(i["Enabled"] == (detail(i, "Table") != "asleep") for i in items))

    for backend, tool, restore in (("iptables-nft", "nft", "nft"), ("iptables-legacy", "legacy", "legacy")):
        inside = Namespace(f"iptables-{tool}")
        inside.run(f"iptables-{restore}-restore", text=IPTABLES % V4)
        inside.run(f"ip6tables-{restore}-restore", text=IPTABLES % V6)
        items, said = take("FirewallConfiguration", *inside.exec)
        saved = [by_save(inside.run(f"{family}-{tool}-save")) for family in ("iptables", "ip6tables")]
        ours, theirs = by_iptables(items, backend), saved[0][0] + saved[1][0]
        if backend == "iptables-nft":
            # What nft reads whole stays in nft's words: iptables leaves out what it does not know.
            words = {"filter iifname lo counter accept": "filter -A INPUT -i lo -j ACCEPT",
                     "filter ip saddr 10.0.0.0/8 tcp dport 22 counter accept": "filter -A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT",
                     "filter ip6 saddr fd00::/8 tcp dport 22 counter accept": "filter -A INPUT -s fd00::/8 -p tcp -m tcp --dport 22 -j ACCEPT",
                     "filter counter return": "filter -A web -j RETURN"}
            ours = [words.get(line, line) for line in ours[0]], ours[1]
        same(f"firewall: each rule as ip(6)tables-{tool}-save", ours[0], theirs)
        same(f"firewall: each policy as ip(6)tables-{tool}-save", ours[1], saved[0][1] + saved[1][1])
        ssh = [i for i in items if i.get("DestinationPort") == "22" and i.get("SourceAddress") == "10.0.0.0/8"]
        check(f"firewall: the fields of a rule of {backend}", len(ssh) == 1 and ssh[0]["Action"] == "Allow"
              and ssh[0]["Direction"] == "In" and ssh[0]["Protocol"] == "tcp" and ssh[0]["Priority"] == 2, ssh)
        many = [i for i in items if i.get("DestinationPort") == "80,443,8000-8100"]
        check(f"firewall: inverted addresses and lists of ports of {backend}",
              [i["SourceAddress"] for i in many] == ["!192.0.2.7", "!2001:db8::7"]
              and all(detail(i, "Target") for i in many), many)


PARTS = {"users": users, "ports": ports, "firewall": firewall}


def main():
    for name in sys.argv[4:] or PARTS:
        print(f"== {name}", flush=True)
        PARTS[name]()
    failed = passed.count(False)
    print(f"{passed.count(True)} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
