//! FirewallConfiguration in network namespaces of our own, which end with the program that is run in them: rules are put
//! in with the real tools and compared with what is told.

use std::process::{Command, Output};

use serde_json::{Value, json};
use twinward::model::ids::AgentId;

use crate::schema;

/// Runs the commands, then `$COLLECT`, in a network namespace that has nothing yet.
#[expect(clippy::disallowed_methods, reason = "rules are put in by the tools themselves")]
fn in_namespace(script: &str) -> Output {
    let collect = format!("{} collect FirewallConfiguration --json", env!("CARGO_BIN_EXE_twinward"));
    let output = Command::new("unshare")
        .args(["--net", "sh", "-ec", script])
        .env("COLLECT", collect)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn collect_after(script: &str) -> (Vec<Value>, String) {
    let output = in_namespace(&format!("{script}\nexec $COLLECT"));
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = event["Payload"].as_array().unwrap().clone();
    let body = json!({
        "AgentVersion": "0.1.0", "AgentId": AgentId::random(), "MessageSchemaVersion": "1.0", "Events": [event],
    });
    let problems: Vec<String> = schema::validator().iter_errors(&body).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    (items, String::from_utf8(output.stderr).unwrap())
}

/// The published fields of each item in one line.
fn lines(items: &[Value]) -> String {
    let line = |item: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let details = &item["ExtraDetails"];
        let mut line = format!("{} {} {}", text(&details["Family"]), text(&details["Table"]), text(&item["ChainName"]));
        line += &format!(" {} {} {}", item["Priority"], text(&item["Action"]), text(&item["Direction"]));
        for name in ["Protocol", "SourceAddress", "SourcePort", "DestinationAddress", "DestinationPort"] {
            line.extend(item.get(name).map(|value| format!(" {name}={}", text(value))));
        }
        for name in ["MapElement", "Target"] {
            line.extend(details.get(name).map(|value| format!(" {name}={}", text(value))));
        }
        line + if item["Enabled"] == true { "" } else { " off" }
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs root and nft; run by CI"]
fn rules_of_nftables_are_told_as_they_were_put_in() {
    let (items, said) = collect_after(
        r#"ip link set lo up
nft -f - <<'END'
table inet filter {
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
    map services { type inet_service : verdict; elements = { 22 : accept, 23 : drop, 80 : goto web } }
    chain web { ct state new limit rate 10/second accept; }
    chain shared { udp dport 53 accept; }
    chain unused { drop; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        ip saddr @blocked log prefix "no: " drop
        ip saddr != { 10.0.0.1-10.0.0.9 } tcp dport { 443, 8000-8100 } accept
        tcp dport vmap @services
        meta l4proto icmpv6 icmpv6 type vmap { echo-request : accept, nd-redirect : drop }
        jump shared
    }
    chain output { type filter hook output priority filter; jump shared; }
}
table ip nat {
    chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
}
table ip6 six {
    chain through { type filter hook forward priority 0; ip6 saddr fe80::/10 ip6 daddr != 2001:db8::1 reject; }
}
table bridge b {
    chain f { type filter hook forward priority 0; ether type arp accept; }
}
table arp a {
    chain i { type filter hook input priority 0; arp operation reply drop; }
}
table netdev n {
    chain g { type filter hook ingress device "lo" priority 0; udp sport > 1023 drop; }
}
END"#,
    );
    assert_eq!(said.trim(), "source: nft");
    insta::assert_snapshot!(lines(&items), @r#"
    inet filter web 0 Allow In
    inet filter shared 0 Allow - Protocol=udp DestinationPort=53
    inet filter unused 0 Deny -
    inet filter input 0 Allow In
    inet filter input 1 Allow In
    inet filter input 2 Deny In SourceAddress=192.0.2.0/24,198.51.100.7
    inet filter input 3 Allow In Protocol=tcp SourceAddress=!10.0.0.1-10.0.0.9 DestinationPort=443,8000-8100
    inet filter input 4 Allow In Protocol=tcp DestinationPort=22 MapElement=22 : accept
    inet filter input 4 Deny In Protocol=tcp DestinationPort=23 MapElement=23 : drop
    inet filter input 4 Other In Protocol=tcp DestinationPort=80 MapElement=80 : goto web Target=goto web
    inet filter input 5 Allow In Protocol=icmpv6 MapElement=echo-request : accept
    inet filter input 5 Deny In Protocol=icmpv6 MapElement=nd-redirect : drop
    inet filter input 6 Other In Target=jump shared
    inet filter input 7 Deny In
    inet filter output 0 Other Out Target=jump shared
    inet filter output 1 Allow Out
    ip nat out 0 Other Out Target=masquerade
    ip nat out 1 Allow Out
    ip6 six through 0 Deny - SourceAddress=fe80::/10 DestinationAddress=!2001:db8::1
    ip6 six through 1 Allow -
    bridge b f 0 Allow -
    bridge b f 1 Allow -
    arp a i 0 Deny In
    arp a i 1 Allow In
    netdev n g 0 Deny In Protocol=udp SourcePort=1024-65535
    netdev n g 1 Allow In
    "#);
    let texts: Vec<&str> = items.iter().map(|item| item["ExtraDetails"]["Rule"].as_str().unwrap()).collect();
    assert!(texts.contains(&r#"ip saddr @blocked log prefix "no: " drop"#), "{texts:?}");
    assert!(items.iter().all(|item| item["ExtraDetails"]["Backend"] == "nftables"));
}

/// nft 1.0.6 writes the flags of a table wrong, or breaks off there; then its text is read.
#[test]
#[ignore = "needs root and nft; run by CI"]
fn a_dormant_table_is_told_as_not_enabled() {
    let (items, _) = collect_after(
        "nft -f - <<'END'
table inet asleep {
    flags dormant
    chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; }
}
table inet awake {
    chain input { type filter hook input priority 0; policy accept; tcp dport 23 drop; }
}
END",
    );
    insta::assert_snapshot!(lines(&items), @r#"
    inet asleep input 0 Allow In Protocol=tcp DestinationPort=22 off
    inet asleep input 1 Deny In off
    inet awake input 0 Deny In Protocol=tcp DestinationPort=23
    inet awake input 1 Allow In
    "#);
}

/// The same rules by either kind of iptables.
const IPTABLES: &str = r#"
$V4 -P FORWARD DROP
$V4 -N own
$V4 -N unused
$V4 -A INPUT -i lo -j ACCEPT
$V4 -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -m comment --comment 'say "hi" -j DROP' -j ACCEPT
$V4 -A INPUT ! -s 192.0.2.0/24 -p udp --sport 1024:65535 ! --dport 53 -j DROP
$V4 -A INPUT -p tcp -m multiport --dports 80,443,8000:8100 -j own
$V4 -A INPUT -m iprange --src-range 198.51.100.1-198.51.100.9 -j REJECT
$V4 -A own -m limit --limit 5/min -j LOG --log-prefix 'own: '
$V4 -A own -j RETURN
$V4 -A unused -j DROP
$V4 -t nat -A POSTROUTING -s 10.0.0.0/8 -o wan -j MASQUERADE
$V6 -P INPUT DROP
$V6 -A INPUT -s fe80::/10 -p icmpv6 --icmpv6-type 128 -j ACCEPT
$V6 -A FORWARD -d 2001:db8::/32 -j REJECT
"#;

/// The rules, without the policies: iptables' own tables have chains that nftables does not need. Sorted: so do they
/// differ in their order.
fn rules(items: &[Value]) -> Vec<String> {
    let is_rule = |item: &&Value| !item["ExtraDetails"]["Rule"].as_str().unwrap().starts_with("policy ");
    let rules: Vec<Value> = items.iter().filter(is_rule).cloned().collect();
    let mut lines: Vec<String> = lines(&rules).lines().map(str::to_lowercase).collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs root and iptables; run by CI"]
fn rules_of_iptables_are_told_alike_from_nftables_and_from_their_own_tables() {
    let (through_nft, said) = collect_after(&format!("V4=iptables-nft V6=ip6tables-nft\n{IPTABLES}"));
    assert_eq!(said.trim(), "source: nft, iptables-nft-save, ip6tables-nft-save");
    insta::assert_snapshot!(rules(&through_nft).join("\n"), @r#"
    ip filter input 0 allow in
    ip filter input 1 allow in protocol=tcp destinationport=22
    ip filter input 2 deny in protocol=udp sourceaddress=!192.0.2.0/24 sourceport=1024-65535 destinationport=!53
    ip filter input 3 other in protocol=tcp destinationport=80,443,8000-8100 target=jump own
    ip filter input 4 deny in sourceaddress=198.51.100.1-198.51.100.9
    ip filter own 0 other in target=log
    ip filter own 1 other in target=return
    ip filter unused 0 deny -
    ip nat postrouting 0 other out sourceaddress=10.0.0.0/8 target=masquerade
    ip6 filter forward 0 deny - destinationaddress=2001:db8::/32
    ip6 filter input 0 allow in protocol=icmpv6 sourceaddress=fe80::/10
    "#);
    let ssh = through_nft.iter().find(|item| item["DestinationPort"] == "22").unwrap();
    assert_eq!(ssh["ExtraDetails"]["Comment"], r#"say "hi" -j DROP"#);
    assert_eq!(ssh["ExtraDetails"]["State"], "new");
    assert_eq!(ssh["ExtraDetails"]["Backend"], "iptables-nft");

    let probe = in_namespace(
        "iptables-legacy -L >/dev/null 2>&1 && ip6tables-legacy -L >/dev/null 2>&1 && echo yes || echo no",
    );
    if probe.stdout != b"yes\n" {
        println!("NOT RUN: this kernel has no older tables of iptables, so they are not compared");
        return;
    }
    let (by_themselves, said) = collect_after(&format!("V4=iptables-legacy V6=ip6tables-legacy\n{IPTABLES}"));
    assert!(said.contains("iptables-legacy-save, ip6tables-legacy-save"), "{said}");
    assert_eq!(rules(&by_themselves), rules(&through_nft));
    let policies = lines(&by_themselves);
    for policy in ["ip filter FORWARD 0 Deny -", "ip6 filter INPUT 1 Deny In", "ip filter OUTPUT 0 Allow Out"] {
        assert!(policies.lines().any(|line| line == policy), "{policies}");
    }

    // As the packaged unit runs it: without raw sockets these tables cannot be read, and that is said.
    let as_unit = "+net_admin,+dac_read_search";
    let run = format!(
        "V4=iptables-legacy V6=ip6tables-legacy\n{IPTABLES}\nexec setpriv --reuid 65534 --regid 65534 --clear-groups \
         --no-new-privs --inh-caps {as_unit} --ambient-caps {as_unit} $COLLECT"
    );
    let said = String::from_utf8(in_namespace(&run).stderr).unwrap();
    assert!(said.contains("the older ip tables of iptables (") && said.contains("CAP_NET_RAW allows it"), "{said}");
}

#[test]
#[ignore = "needs root and nft; run by CI"]
fn rules_are_seen_with_the_rights_of_the_packaged_unit_and_missed_in_words_without_them() {
    let put = "nft add table ip t; nft add chain ip t c '{ type filter hook input priority 0; policy drop; }'";
    let run = |rights: &str| {
        let output = in_namespace(&format!(
            "{put}\nexec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps {rights} \
             --ambient-caps {rights} $COLLECT"
        ));
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (event, said) = run("+net_admin,+dac_read_search");
    assert_eq!((event["Payload"].as_array().unwrap().len(), said.trim()), (1, "source: nft"));
    let (event, said) = run("+dac_read_search");
    assert_eq!(event["IsEmpty"], true);
    assert!(said.contains("unavailable: cannot tell: ") && said.contains("CAP_NET_ADMIN allows it"), "{said}");
}

#[test]
#[ignore = "needs root and nft; run by CI"]
fn no_firewall_is_an_empty_event_that_says_so() {
    let output = in_namespace("exec $COLLECT");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["IsEmpty"], true);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no firewall: nftables has no chains, and no tables of iptables exist"), "{said}");
}
