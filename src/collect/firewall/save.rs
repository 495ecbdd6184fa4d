//! The text of `iptables-save` and its kin (iptables-save(8)): `*TABLE`, then `:CHAIN POLICY [packets:bytes]` for each
//! chain (policy `-` for one that others lead to), then `-A CHAIN …` for each rule, as on the command line, and
//! `COMMIT`. Lines with `#` are remarks.

use super::nft::common;
use super::ruleset::{Backend, Base, CHAIN_LIMIT, Chain, Field, Fields, Rule, Ruleset, Verdict};
use crate::model::payload::FirewallAction;

/// So many bytes of a line are kept.
const LINE_LIMIT: usize = 4096;

/// Reads the tables of one family, `ip` or `ip6`.
pub(super) fn read(text: &str, family: &str, backend: Backend) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let mut table = "";
    // The chains of the table begin here.
    let mut first = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            (table, first) = (name.trim(), ruleset.chains.len());
        } else if let Some(heading) = line.strip_prefix(':') {
            let mut words = heading.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or("-"));
            if ruleset.chains.len() >= CHAIN_LIMIT {
                ruleset.chains_left_out += 1;
                continue;
            }
            let base = hook(name).filter(|_| policy != "-").map(|hook| Base {
                hook: hook.to_owned(),
                priority: Some(priority(table, hook).to_string()),
                kind: None,
                policy: policy.to_ascii_lowercase(),
                device: None,
            });
            let (family, table, name) = (family.to_owned(), table.to_owned(), name.to_owned());
            ruleset.chains.push(Chain { backend, family, table, name, base, ..Chain::default() });
        } else if let Some((chain, rule)) = rule(line) {
            let kept = ruleset.takes(&rule.text);
            let own = ruleset.chains.iter_mut().skip(first);
            let Some(chain) = own.into_iter().find(|c| c.name == chain) else { continue };
            if kept {
                chain.rules.push(rule);
            } else {
                chain.left_out += 1;
            }
        }
    }
    name_jumps(&mut ruleset);
    ruleset
}

/// Tells chains from targets of iptables' own: both stand behind `-j`.
fn name_jumps(ruleset: &mut Ruleset) {
    let names: Vec<(String, String)> =
        ruleset.chains.iter().filter(|c| c.base.is_none()).map(|c| (c.table.clone(), c.name.clone())).collect();
    let names: std::collections::HashSet<_> = names.into_iter().collect();
    for chain in &mut ruleset.chains {
        for rule in &mut chain.rules {
            if let Some(target) = rule.verdict.target.take_if(|_| rule.verdict.next.is_none()) {
                rule.verdict = if names.contains(&(chain.table.clone(), target.clone())) {
                    Verdict::onward("jump", &target)
                } else {
                    Verdict::other(target)
                };
            }
        }
    }
}

/// The hook of a chain with one of iptables' own names.
pub(super) fn hook(chain: &str) -> Option<&'static str> {
    Some(match chain {
        "PREROUTING" => "prerouting",
        "INPUT" => "input",
        "FORWARD" => "forward",
        "OUTPUT" => "output",
        "POSTROUTING" => "postrouting",
        _ => return None,
    })
}

/// The fixed place of a table among all that look at a hook (`linux/netfilter_ipv4.h`).
fn priority(table: &str, hook: &str) -> i32 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", "prerouting" | "output") => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

/// The chain and the rule of a line; `None` if it is none.
fn rule(line: &str) -> Option<(String, Rule)> {
    let line = if line.starts_with('[') { line.split_once("] ")?.1 } else { line };
    let rest = line.strip_prefix("-A ")?;
    let mut words = Words(rest);
    let chain = words.next()?;
    let mut rule = Rule {
        fields: Fields::default(),
        verdict: Verdict::other("continue".to_owned()),
        text: cut(line),
        details: Vec::new(),
        key: None,
        branches: Vec::new(),
    };
    let mut not = "";
    while let Some(word) = words.next() {
        if word == "!" {
            not = "!";
            continue;
        }
        option(&mut rule, &word, not, &mut words);
        not = "";
    }
    Some((chain, rule))
}

fn option(rule: &mut Rule, word: &str, not: &str, words: &mut Words<'_>) {
    let field = match word {
        "-s" | "--src-range" => Field::Source,
        "-d" | "--dst-range" => Field::Destination,
        "-p" => Field::Protocol,
        "--sport" | "--sports" => Field::SourcePort,
        "--dport" | "--dports" => Field::DestinationPort,
        _ => return other_option(rule, word, not, words),
    };
    let Some(value) = words.next() else { return };
    let value = match field {
        Field::Source | Field::Destination => {
            let whole = if value.contains(':') { "/128" } else { "/32" };
            value.strip_suffix(whole).unwrap_or(&value).to_owned()
        }
        Field::Protocol => common(&value),
        Field::SourcePort | Field::DestinationPort => value.replace(':', "-"),
    };
    rule.fields.fill(field, format!("{not}{value}"));
}

fn other_option(rule: &mut Rule, word: &str, not: &str, words: &mut Words<'_>) {
    let name = match word {
        "-j" | "-g" => {
            let target = words.next().unwrap_or_default();
            rule.verdict = match target.as_str() {
                "ACCEPT" => Verdict::plain(FirewallAction::Allow),
                "DROP" | "REJECT" => Verdict::plain(FirewallAction::Deny),
                _ if word == "-g" => Verdict::onward("goto", &target),
                _ => Verdict::other(target),
            };
            return;
        }
        "-i" => "InInterface",
        "-o" => "OutInterface",
        "--ctstate" | "--state" => "State",
        "--comment" => "Comment",
        _ => return,
    };
    let value = words.next().unwrap_or_default();
    let value = if name == "State" { value.to_ascii_lowercase() } else { value };
    if !value.is_empty() && rule.details.iter().all(|(known, _)| *known != name) {
        rule.details.push((name, format!("{not}{value}")));
    }
}

/// The words of a line: with blanks between, in double quotes where they have blanks, `\` before a quote that is meant.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start_matches(' ');
        let (mut word, mut quoted, mut end) = (String::new(), false, text.len());
        let mut characters = text.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => quoted = !quoted,
                '\\' => word.extend(characters.next().map(|(_, meant)| meant)),
                ' ' if !quoted => {
                    end = at;
                    break;
                }
                _ => word.push(character),
            }
        }
        self.0 = text.get(end..).unwrap_or_default();
        (!text.is_empty()).then_some(word)
    }
}

fn cut(line: &str) -> String {
    if line.len() <= LINE_LIMIT {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(LINE_LIMIT);
    format!("{} … {} bytes more", line.get(..end).unwrap_or_default(), line.len() - end)
}
