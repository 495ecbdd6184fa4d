//! What nft 1.0.6 and iptables 1.8.9 said of rules that they had been given, and what becomes of it:
//! `tests/fixtures/firewall`, `tests/golden/firewall`.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::sys::clock::SystemClock;

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/firewall").join(name)).unwrap()
}

/// One line for each item: chain, position, action, way, the fields that are filled, then the details.
fn shown(rulesets: Vec<Ruleset>) -> String {
    let (items, left_out) = items(rulesets);
    assert_eq!(left_out, 0);
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(item: &Payload) -> String {
    let Payload::FirewallRule(rule) = item else { panic!("{item:?}") };
    let details = &rule.extra_details;
    let mut line = format!(
        "{} {} {} {} {:?}",
        details["Family"],
        details["Table"],
        rule.chain_name.as_deref().unwrap(),
        rule.priority.unwrap(),
        rule.action,
    );
    line += if rule.enabled { "" } else { " (off)" };
    line.extend(rule.direction.map(|way| format!(" {way:?}")));
    for (name, value) in [
        ("protocol", &rule.protocol),
        ("source", &rule.source_address),
        ("port", &rule.source_port),
        ("destination", &rule.destination_address),
        ("port", &rule.destination_port),
    ] {
        line.extend(value.as_ref().map(|value| format!(" {name} {value}")));
    }
    for (name, value) in details.iter().filter(|(name, _)| !["Family", "Table", "Rule"].contains(&name.as_str())) {
        line += &format!(" {name}={value}");
    }
    format!("{line}\n    {}", details["Rule"])
}

fn golden(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "../../../tests/golden/firewall",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn rules_of_all_families_become_items() {
    let mut listing = nft::read(fixture("families.json").as_bytes()).unwrap();
    assert!(listing.unclear_flags, "nft 1.0.6 writes anything as the flags of a table");
    listing.sleep(&nft::plain::read("table inet fw {\n\tflags dormant\n\n\tchain x {\n\t}\n}\ntable ip nt {\n}\n"));
    assert_eq!(listing.foreign(), 0);
    golden("families", &shown(vec![listing.ruleset]));
}

#[test]
fn rules_that_iptables_put_into_nftables_are_told_in_its_words() {
    let mut listing = nft::read(fixture("iptables-nft.json").as_bytes()).unwrap();
    assert!(listing.has_foreign("ip") && listing.has_foreign("ip6"));
    let alone = nft::read(fixture("iptables-nft.json").as_bytes()).unwrap();
    for (family, name) in [("ip", "iptables-nft-save.txt"), ("ip6", "ip6tables-nft-save.txt")] {
        listing.translate(save::read(&fixture(name), family, Backend::IptablesNft));
        assert!(!listing.has_foreign(family));
    }
    golden("iptables-nft", &shown(vec![listing.ruleset]));
    assert_eq!(alone.foreign(), 11);
    golden("iptables-nft-without-its-words", &shown(vec![alone.ruleset]));
}

/// iptables leaves out what it does not know: of `tcp dport { 22, 23 } drop` it says that all of TCP is dropped.
#[test]
fn rules_of_nft_in_a_table_of_iptables_keep_their_own_words() {
    let mut listing = nft::read(fixture("mixed.json").as_bytes()).unwrap();
    let mut saved = save::read(&fixture("mixed-save.txt"), "ip", Backend::IptablesNft);
    listing.keep_native(&mut saved);
    listing.translate(saved);
    assert_eq!(listing.foreign(), 0);
    let text = shown(vec![listing.ruleset]);
    for rule in [
        "1 Deny In protocol tcp port 22,23 ",
        "3 Deny In source 10.0.0.1-10.0.0.5 ",
        "8 Deny In protocol udp port 5,6 ",
        "\n    tcp sequence 5 drop\n",
        "\n    icmp code port-unreachable drop\n",
        "\n    tcp dport & 1 == 1 drop\n",
        "\n    ip saddr 1.1.1.1 ip saddr != 2.2.2.2 drop\n",
    ] {
        assert!(text.contains(rule), "{rule}: {text}");
    }
}

#[test]
fn where_there_is_no_json_the_text_is_read() {
    golden("text", &shown(vec![nft::plain::read(&fixture("families.txt"))]));
    golden("text-of-iptables", &shown(vec![nft::plain::read(&fixture("iptables-nft.txt"))]));
}

/// A verdict is what stands last, and a field is filled only where a value is compared with it.
#[test]
fn words_that_look_like_others_are_not_taken_for_them() {
    let rule = |text: &str| {
        let text = format!("table ip t {{\n\tchain c {{\n\t\t{text}\n\t}}\n}}\n");
        let all = shown(vec![nft::plain::read(&text)]);
        all.lines().next().unwrap().replace(" Backend=nftables", "").replace(" Reached=no", "")
    };
    assert_eq!(rule("ct status dnat accept comment \"drop, jump x\""), "ip t c 0 Allow Comment=drop, jump x");
    assert_eq!(rule("icmp type redirect drop"), "ip t c 0 Deny protocol icmp");
    assert_eq!(rule("reject with icmpv6 type admin-prohibited"), "ip t c 0 Deny");
    assert_eq!(rule("iifname \"accept\" reject with icmp type host-prohibited"), "ip t c 0 Deny InInterface=accept");
    assert_eq!(rule("ip saddr . tcp dport { 10.0.0.1 . 22 } accept"), "ip t c 0 Allow");
    assert_eq!(rule("ip saddr & 255.0.0.255 == 10.0.0.1 drop"), "ip t c 0 Deny");
    assert_eq!(rule("tcp dport set 8080 accept"), "ip t c 0 Allow");
    assert_eq!(
        rule("dnat to tcp dport map { 22 : 10.0.0.1 }"),
        "ip t c 0 Other Target=dnat to tcp dport map { 22 : 10.0.0.1 }"
    );
    assert_eq!(rule("add @seen { ip saddr timeout 1m }"), "ip t c 0 Other Target=continue");
}

#[test]
fn another_count_of_rules_is_another_state_and_not_taken() {
    let mut listing = nft::read(fixture("iptables-nft.json").as_bytes()).unwrap();
    let before = listing.foreign();
    let fewer = fixture("iptables-nft-save.txt").replace("-A INPUT -i lo -j ACCEPT\n", "");
    listing.translate(save::read(&fewer, "ip", Backend::IptablesNft));
    assert_eq!(listing.foreign(), before - 4, "only the other chains'");
}

#[test]
fn older_tables_are_read_line_by_line() {
    let read = |name, family| save::read(&fixture(name), family, Backend::IptablesLegacy);
    golden(
        "iptables-legacy",
        &shown(vec![read("iptables-legacy-save.txt", "ip"), read("ip6tables-legacy-save.txt", "ip6")]),
    );
}

fn nft_items(entries: &str) -> String {
    let base =
        r#"{"chain":{"family":"ip","table":"t","name":"c","type":"filter","hook":"input","prio":0,"policy":"drop"}}"#;
    shown(vec![nft::read(format!(r#"{{"nftables":[{base},{entries}]}}"#).as_bytes()).unwrap().ruleset])
}

fn nft_rule(statements: &str) -> String {
    let rule = format!(r#"{{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{statements}]}}}}"#);
    let all = nft_items(&rule).replace(" Backend=nftables ChainType=filter Hook=input HookPriority=0", "");
    all.split("\nip t c 1 Deny").next().unwrap().to_owned()
}

#[test]
fn sets_and_maps_that_are_too_large_keep_their_name() {
    let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let port = |right: &str| {
        format!(
            r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
        )
    };
    let set = format!(r#"{{"set":{{"family":"ip","table":"t","name":"s","elem":[{}]}}}}"#, numbers(5000));
    let rule = |right| {
        format!(r#"{{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{},{{"drop":null}}]}}}}"#, port(right))
    };
    insta::assert_snapshot!(nft_items(&format!("{set},{}", rule(r#""@s""#))), @r#"
    ip t c 0 Deny In protocol tcp port @s Backend=nftables ChainType=filter Hook=input HookPriority=0 Sets=s: 5000 elements, not listed
        tcp dport @s drop
    ip t c 1 Deny In Backend=nftables ChainType=filter Hook=input HookPriority=0
        policy drop
    "#);
    let long = nft_rule(&format!("{},{{\"accept\":null}}", port(&format!(r#"{{"set":[{}]}}"#, numbers(5000)))));
    assert!(long.starts_with("ip t c 0 Allow In protocol tcp port {5000 elements}\n"), "{long}");
    assert!(long.contains("255, … 4744 more } accept"), "{long}");
    let pairs = (0..65).map(|n| format!(r#"[{n},{{"jump":{{"target":"d"}}}}]"#)).collect::<Vec<_>>().join(",");
    let key = r#""key":{"payload":{"protocol":"tcp","field":"dport"}}"#;
    let map = format!(r#"{{"map":{{"family":"ip","table":"t","name":"m","elem":[{pairs}]}}}}"#);
    let chain = r#"{"chain":{"family":"ip","table":"t","name":"d"}},{"rule":{"family":"ip","table":"t","chain":"d","expr":[{"drop":null}]}}"#;
    let rule =
        format!(r#"{{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{{"vmap":{{{key},"data":"@m"}}}}]}}}}"#);
    // What leads to the second chain is not known then.
    insta::assert_snapshot!(nft_items(&format!("{map},{chain},{rule}")), @r#"
    ip t c 0 Other In protocol tcp Backend=nftables ChainType=filter Hook=input HookPriority=0 Sets=65 elements, not listed Target=vmap
        tcp dport vmap @m
    ip t c 1 Deny In Backend=nftables ChainType=filter Hook=input HookPriority=0
        policy drop
    ip t d 0 Deny Backend=nftables
        drop
    "#);
}

#[test]
fn statements_that_this_kernel_did_not_take() {
    insta::assert_snapshot!(nft_rule(r#"{"queue":{"num":3,"flags":"bypass"}}"#), @r#"
    ip t c 0 Other In Target=queue num 3 flags bypass
        queue num 3 flags bypass
    "#);
    insta::assert_snapshot!(nft_rule(r#"{"flow":{"op":"add","flowtable":"@ft"}}"#), @r#"
    ip t c 0 Other In Target=flow op add flowtable @ft
        flow op add flowtable @ft
    "#);
    insta::assert_snapshot!(nft_rule(r#"{"xt":null}"#), @r#"
    ip t c 0 Other In Target=xt
        xt
    "#);
    insta::assert_snapshot!(nft_rule(r#"{"ct helper":"ftp"},{"tproxy":{"port":1}}"#), @r#"
    ip t c 0 Other In Target=tproxy port 1
        ct helper ftp tproxy port 1
    "#);
    insta::assert_snapshot!(nft_rule(r#"{"vmap":{"key":{"meta":{"key":"mark"}},"data":{"set":[[1,{"accept":null}]]}}},{"drop":null}"#), @r#"
    ip t c 0 Other In Target=vmap
        meta mark vmap { 1 : accept } drop
    "#);
    insta::assert_snapshot!(nft_rule(""), @"ip t c 0 Other In Target=continue");
    let long = nft_rule(&vec![r#"{"counter":"x"}"#; 300].join(","));
    assert!(long.starts_with("ip t c 0 Other In ") && long.contains(" Target=unknown"), "{long}");
}

#[test]
fn limits_leave_a_count() {
    let rule = r#"{"rule":{"family":"ip","table":"t","chain":"c","expr":[{"drop":null}]}}"#;
    let chain =
        r#"{"chain":{"family":"ip","table":"t","name":"c","type":"filter","hook":"input","prio":0,"policy":"drop"}}"#;
    let json = format!(r#"{{"nftables":[{chain},{}]}}"#, vec![rule; 6000].join(","));
    let (found, left_out) = items(vec![nft::read(json.as_bytes()).unwrap().ruleset]);
    assert_eq!((found.len(), left_out), (ITEM_LIMIT, 6000 - (ITEM_LIMIT - 1)));
    // The policy is there, at its place.
    let last = line(found.last().unwrap());
    assert!(last.starts_with("ip t c 6000 Deny In "), "{last}");
    let chains: Vec<String> =
        (0..1500).map(|n| format!(r#"{{"chain":{{"family":"ip","table":"t","name":"{n}"}}}}"#)).collect();
    let json = format!(r#"{{"nftables":[{}]}}"#, chains.join(","));
    assert_eq!(items(vec![nft::read(json.as_bytes()).unwrap().ruleset]).1, 500);
}

#[test]
fn chains_that_jump_in_a_circle_are_followed_once() {
    let chain = |name: &str, next: &str| {
        format!(
            r#"{{"chain":{{"family":"ip","table":"t","name":"{name}"}}}},{{"rule":{{"family":"ip","table":"t","chain":"{name}","expr":[{{"goto":{{"target":"{next}"}}}}]}}}}"#
        )
    };
    let text = nft_items(&format!(
        r#"{},{},{{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{{"jump":{{"target":"a"}}}}]}}}}"#,
        chain("a", "b"),
        chain("b", "a")
    ));
    assert_eq!(text.matches("Hook=input").count(), 4, "{text}");
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    for text in ["", "[]", "{}", r#"{"nftables":1}"#, r#"{"nftables":[1]}"#, r#"{"nftables":[]} x"#] {
        assert!(nft::read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(items(vec![nft::read(br#"{"nftables":[{"metainfo":{}}]}"#).unwrap().ruleset]).0, []);
}

#[test]
fn a_machine_without_tools_cannot_tell() {
    let root = tempfile::tempdir().unwrap();
    let found = collect(&Host::rooted(root.path()), &SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(found.items, []);
    insta::assert_snapshot!(found.unavailable.unwrap(), @"cannot tell: the rules of nftables are not seen: nft is not installed");
}

#[test]
fn nothing_that_filters_is_said() {
    let policies = |policy: &str| {
        let text = format!("*filter\n:INPUT {policy} [0:0]\n:own - [0:0]\nCOMMIT\n");
        items(vec![save::read(&text, "ip", Backend::IptablesLegacy)]).0
    };
    assert!(nothing(&[]).unwrap().starts_with("no firewall: nftables has no chains"));
    assert!(nothing(&policies("ACCEPT")).unwrap().contains("each policy lets everything through"));
    assert_eq!(nothing(&policies("DROP")), None);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".{0,200}") {
        let _ = nft::read(text.as_bytes());
        let _ = items(vec![nft::plain::read(&format!("table t t {{\n\tchain c {{\n\t\t{text}\n{text}"))]);
        let _ = items(vec![save::read(&format!("*t\n:c ACCEPT [0:0]\n-A c {text}\n{text}"), "ip", Backend::IptablesLegacy)]);
    }

    /// A listing with a part of it changed into anything.
    #[test]
    fn any_change_of_a_listing_is_survived(
        which in 0_usize..3,
        at in 0_usize..16_000,
        cut in 0_usize..40,
        text in "[\\[\\]{}\":,a-z0-9 \n\t!-]{0,20}",
    ) {
        let (listing, name) = [
            (Listing::NftJson, "families.json"),
            (Listing::NftText, "families.txt"),
            (Listing::IptablesSave, "iptables-nft-save.txt"),
        ][which];
        let mut all = fixture(name);
        let at = at % (all.len() - 40);
        all.replace_range(at..at + cut, &text);
        if let Some((items, _)) = items_of(listing, all.as_bytes()) {
            prop_assert!(!items.is_empty() && items.len() <= ITEM_LIMIT);
        }
    }
}
