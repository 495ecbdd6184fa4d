//! The listing of `nft list ruleset` as text (nft(8)), for an nft that gives no JSON, or a broken one: tables, in them
//! chains, in them one rule a line. Less is read of it than of JSON: sets keep their names, and maps stay whole.

use super::super::ruleset::{Base, CHAIN_LIMIT, Chain, Field, Fields, Rule, Ruleset, Verdict};
use super::mark_iptables;
use super::matches::{ELEMENTS, common};
use crate::model::payload::FirewallAction;

/// So many bytes of a line are read.
const LINE_LIMIT: usize = 4096;

/// Reads the listing.
pub(in super::super) fn read(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let (mut family, mut table, mut dormant) = ("", "", false);
    // In what of a table we are.
    let mut in_chain = false;
    for line in text.lines() {
        let depth = line.bytes().take_while(|byte| *byte == b'\t').count();
        let line = line.trim();
        match depth {
            0 if line.is_empty() => {}
            0 => {
                (family, table) = heading(line, "table ").and_then(|rest| rest.split_once(' ')).unwrap_or(("", ""));
                dormant = false;
            }
            1 => {
                if let Some(flags) = line.strip_prefix("flags ") {
                    dormant |= flags.split(',').any(|flag| flag.trim() == "dormant");
                }
                let name = heading(line, "chain ");
                in_chain = name.is_some() && ruleset.chains.len() < CHAIN_LIMIT;
                let Some(name) = name else { continue };
                if !in_chain {
                    ruleset.chains_left_out += 1;
                    continue;
                }
                let (family, table, name) = (family.to_owned(), table.to_owned(), name.to_owned());
                ruleset.chains.push(Chain { family, table, name, dormant, ..Chain::default() });
            }
            2 if in_chain => chain_line(&mut ruleset, line),
            // Elements of sets.
            _ => {}
        }
    }
    mark_iptables(&mut ruleset);
    ruleset
}

/// What stands between this word and the brace that opens something.
fn heading<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix(word)?.strip_suffix(" {")
}

fn chain_line(ruleset: &mut Ruleset, line: &str) {
    if line.is_empty() || line.starts_with('#') {
        return;
    }
    if let Some(base) = base(line) {
        if let Some(chain) = ruleset.chains.last_mut() {
            chain.base = Some(base);
        }
        return;
    }
    // A remark on the chain itself.
    if line.starts_with("comment \"") {
        return;
    }
    let rule = rule(line);
    ruleset.jumps_unknown |= rule.verdict.target.as_deref() == Some("vmap");
    let kept = ruleset.takes(&rule.text);
    let Some(chain) = ruleset.chains.last_mut() else { return };
    if kept {
        chain.rules.push(rule);
    } else {
        chain.left_out += 1;
    }
}

/// `type filter hook input [device "eth0"] priority filter; policy accept;`
fn base(line: &str) -> Option<Base> {
    let (kind, rest) = line.strip_prefix("type ")?.split_once(" hook ")?;
    let mut parts = rest.split(';').map(str::trim);
    let (hook, priority) = parts.next()?.split_once(" priority ")?;
    let policy = parts.find_map(|part| part.strip_prefix("policy ")).unwrap_or("accept");
    let (hook, device) = hook.split_once(' ').map_or((hook, None), |(hook, device)| (hook, Some(device)));
    let device = device.map(|device| {
        let names = device.trim_start_matches("device").trim_start_matches('s').trim_start_matches(" =");
        values(names.trim()).replace('"', "")
    });
    Some(Base {
        hook: hook.to_owned(),
        priority: Some(priority.to_owned()),
        kind: Some(kind.to_owned()),
        policy: policy.to_owned(),
        device,
    })
}

fn rule(line: &str) -> Rule {
    let line = line.get(..line.floor_char_boundary(LINE_LIMIT)).unwrap_or_default();
    let words = words(line);
    let (mut fields, mut details) = (Fields::default(), Vec::new());
    for (at, word) in words.iter().enumerate() {
        let second = words.get(at + 1).copied().unwrap_or_default();
        let (name, first) = match *word {
            "iif" | "iifname" => ("InInterface", at + 1),
            "oif" | "oifname" => ("OutInterface", at + 1),
            "comment" => ("Comment", at + 1),
            "ct" if second == "state" => ("State", at + 2),
            _ => {
                express(&mut fields, &words, at);
                continue;
            }
        };
        if let Some(value) = compared(&words, first) {
            details.push((name, value.replace('"', "")));
        }
    }
    Rule { fields, verdict: verdict(&words), text: line.to_owned(), details, key: None, branches: Vec::new() }
}

/// Puts what begins at a word into the fields.
fn express(fields: &mut Fields, words: &[&str], at: usize) {
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let (protocol, name) = (word(at), word(at + 1));
    // Several together, or part of a value.
    if at > 0 && [".", "set", "to", "map", "with"].contains(&word(at - 1)) {
        return;
    }
    let transport = ["tcp", "udp", "udplite", "sctp", "dccp"].contains(&protocol);
    let field = match (protocol, name) {
        ("ip" | "ip6", "saddr") => Field::Source,
        ("ip" | "ip6", "daddr") => Field::Destination,
        ("ip", "protocol") | ("ip6", "nexthdr") | ("meta", "l4proto") => Field::Protocol,
        (_, "sport") if transport || protocol == "th" => Field::SourcePort,
        (_, "dport") if transport || protocol == "th" => Field::DestinationPort,
        ("icmp" | "icmpv6", "type" | "code") => return fields.fill(Field::Protocol, protocol.to_owned()),
        _ => return,
    };
    if transport && word(at + 2) != "set" {
        fields.fill(Field::Protocol, protocol.to_owned());
    }
    if let Some(value) = compared(words, at + 2) {
        fields.fill(field, if field == Field::Protocol { common(&value) } else { value });
    }
}

/// The value at a place, behind `!=` perhaps.
fn compared(words: &[&str], at: usize) -> Option<String> {
    let (not, at) = if words.get(at) == Some(&"!=") { ("!", at + 1) } else { ("", at) };
    let value = *words.get(at)?;
    let no_value =
        [".", "map", "vmap", "set", "&", "|", "^", "<<", ">>", "<", ">", "<=", ">=", "==", "and", "or", "xor"];
    if no_value.contains(&value) {
        return None;
    }
    Some(format!("{not}{}", values(value))).filter(|value| value.len() > not.len())
}

/// A value, or those in braces with commas between.
fn values(text: &str) -> String {
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else { return text.to_owned() };
    let count = inner.split(',').count();
    if count > ELEMENTS {
        return format!("{{{count} elements}}");
    }
    inner.split(',').map(str::trim).collect::<Vec<_>>().join(",")
}

/// The verdict stands last; what comes before may have the same words: `ct status dnat accept`.
fn verdict(words: &[&str]) -> Verdict {
    let end = words.iter().position(|word| *word == "comment").unwrap_or(words.len());
    let words = words.get(..end).unwrap_or_default();
    for (at, word) in words.iter().enumerate().rev() {
        return match *word {
            "accept" => Verdict::plain(FirewallAction::Allow),
            "drop" | "reject" => Verdict::plain(FirewallAction::Deny),
            "jump" | "goto" => Verdict::onward(word, words.get(at + 1).copied().unwrap_or_default()),
            "return" | "continue" | "queue" | "masquerade" | "snat" | "dnat" | "redirect" | "tproxy" | "synproxy"
            | "fwd" | "flow" => Verdict::other(words.get(at..).unwrap_or_default().join(" ")),
            "vmap" => Verdict::other("vmap".to_owned()),
            _ => continue,
        };
    }
    Verdict::other("continue".to_owned())
}

/// The words of a rule; what is in quotes or braces is one.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut from, mut quoted, mut depth) = (0, false, 0_usize);
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth = depth.saturating_sub(1),
            ' ' if !quoted && depth == 0 => {
                words.extend(line.get(from..at).filter(|word| !word.is_empty()));
                from = at + 1;
            }
            _ => {}
        }
    }
    words.extend(line.get(from..).filter(|word| !word.is_empty()));
    words
}
