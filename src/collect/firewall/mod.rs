//! FirewallConfiguration: the rules of nftables and of iptables, and what becomes of a packet that no rule of a chain
//! decides on.
//!
//! nftables tells by `nft`. What iptables writes into nftables stands there too, but partly in iptables' own form, which
//! nft does not read: the lines of those rules are taken from `iptables-nft-save`. The older tables of iptables are
//! apart from nftables and tell by `iptables-legacy-save`, which is run only if the kernel has such tables: it would
//! make them. ufw, firewalld and others are seen as what they write.
//!
//! No item says more than its fields: `ExtraDetails` has the whole rule, as `Rule`.

mod json;
mod nft;
mod ruleset;
mod save;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use thiserror::Error;

use self::ruleset::{Backend, ITEM_LIMIT, Ruleset};
use super::snapshot::Found;
use crate::model::payload::{FirewallAction, Payload};
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::programs::{self, Limits, Program, ProgramError};

/// What one program may take. A board's rules are a hundredth of it.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), output: 2 * 1024 * 1024 };

/// The listing as text, without the elements of sets.
const PLAIN: &[&str] = &["-s", "-t", "list", "ruleset"];

/// The families that iptables knows, each with its programs and the file that names its older tables.
const FAMILIES: [(&str, Program, Program, &str); 2] = [
    ("ip", Program::IptablesNftSave, Program::IptablesLegacySave, "/proc/net/ip_tables_names"),
    ("ip6", Program::Ip6tablesNftSave, Program::Ip6tablesLegacySave, "/proc/net/ip6_tables_names"),
];

pub(super) fn collect(host: &Host, clock: &dyn Clock) -> Found {
    // Each network namespace has this directory, if the kernel can filter at all.
    if host.is_live() && host.facts("/proc/net/netfilter").is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let note = Some("no firewall: this kernel cannot filter packets".to_owned());
        return Found { source: "/proc/net".to_owned(), note, ..Found::default() };
    }
    let mut look = Look { host, clock, sources: Vec::new(), missing: Vec::new() };
    let mut rulesets = Vec::new();
    rulesets.extend(look.nftables());
    rulesets.extend(look.legacy());
    let Look { sources, mut missing, .. } = look;
    if rulesets.is_empty() && !missing.is_empty() {
        return Found::unavailable("nft", format!("cannot tell: {}", missing.join("; ")));
    }
    let (items, left_out) = items(rulesets);
    if left_out > 0 {
        missing.push(format!("more than {ITEM_LIMIT} rules, or long ones: {left_out} are left out"));
    }
    let note = nothing(&items).filter(|_| missing.is_empty()).map(str::to_owned);
    Found { items, source: sources.join(", "), missing, note, ..Found::default() }
}

/// The items of all sources, and how many more there are.
fn items(rulesets: Vec<Ruleset>) -> (Vec<Payload>, usize) {
    let (mut items, mut left_out) = (Vec::new(), 0);
    for ruleset in rulesets {
        let room = ITEM_LIMIT.saturating_sub(items.len());
        left_out += ruleset.into_items(room, &mut items);
    }
    (items, left_out)
}

/// A listing of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Of `nft -j list ruleset`.
    NftJson,
    /// Of `nft list ruleset`.
    NftText,
    /// Of `iptables-save`, IPv4.
    IptablesSave,
}

/// The items of one listing alone, and how many rules and chains were left out; `None` if it is none.
#[must_use]
pub fn items_of(listing: Listing, bytes: &[u8]) -> Option<(Vec<Payload>, usize)> {
    let text = || String::from_utf8_lossy(bytes);
    Some(items(vec![match listing {
        Listing::NftJson => nft::read(bytes).ok()?.ruleset,
        Listing::NftText => nft::plain::read(&text()),
        Listing::IptablesSave => save::read(&text(), "ip", Backend::IptablesLegacy),
    }]))
}

/// What there is to say if nothing is filtered.
fn nothing(items: &[Payload]) -> Option<&'static str> {
    if items.is_empty() {
        return Some("no firewall: nftables has no chains, and no tables of iptables exist");
    }
    let open = |item: &Payload| match item {
        Payload::FirewallRule(rule) => {
            rule.action == FirewallAction::Allow
                && rule.extra_details.get("Rule").is_some_and(|text| text.starts_with("policy "))
        }
        _ => false,
    };
    items.iter().all(open).then_some("no firewall: there are no rules, and each policy lets everything through")
}

/// Why there is no listing in JSON.
#[derive(Debug, Error)]
enum NoJson {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("nft's JSON is not understood: {0}")]
    Broken(#[from] serde_json::Error),
}

/// One look at the machine.
struct Look<'a> {
    host: &'a Host,
    clock: &'a dyn Clock,
    /// The programs that told something.
    sources: Vec<&'static str>,
    missing: Vec<String>,
}

impl Look<'_> {
    fn run(&mut self, program: Program, words: &'static [&'static str]) -> Result<Vec<u8>, ProgramError> {
        let output = programs::run(self.host, self.clock, program, words, LIMITS)?;
        if !self.sources.contains(&program.as_str()) {
            self.sources.push(program.as_str());
        }
        Ok(output)
    }

    /// Says why something is missing, and which right would help.
    fn miss(&mut self, what: &str, error: &ProgramError, needed: &[Capability]) {
        let lacking: Vec<&str> = match (error, Privileges::read(self.host)) {
            (ProgramError::Failed { .. }, Ok(held)) => {
                needed.iter().filter(|one| !held.has(**one)).map(|one| one.as_str()).collect()
            }
            _ => Vec::new(),
        };
        let help = match lacking.len() {
            0 => String::new(),
            1 => format!("; {} allows it", lacking.join("")),
            _ => format!("; {} allow it", lacking.join(" and ")),
        };
        self.missing.push(format!("{what}: {error}{help}"));
    }

    /// All of nftables, with what iptables wrote there.
    fn nftables(&mut self) -> Vec<Ruleset> {
        const WHAT: &str = "the rules of nftables are not seen";
        let error = match self.json(&["-j", "list", "ruleset"]) {
            Ok(listing) => return vec![listing.ruleset],
            Err(NoJson::Program(error @ ProgramError::TooSlow { .. })) => {
                self.miss(WHAT, &error, &[]);
                return Vec::new();
            }
            Err(NoJson::Program(error @ (ProgramError::Absent(_) | ProgramError::NotTrusted { .. }))) => {
                self.miss(WHAT, &error, &[]);
                return self.iptables_alone();
            }
            Err(error) => error,
        };
        // Too large, for example.
        if let Ok(listing) = self.json(&["-j", "-t", "list", "ruleset"]) {
            self.missing.push(format!("the elements of sets are left out: {error}"));
            return vec![listing.ruleset];
        }
        // nft can be built without JSON, and 1.0.6 breaks off at a table with flags.
        if let Ok(text) = self.run(Program::Nft, PLAIN) {
            self.missing.push(format!("nft's text is read, and sets keep their names: {error}"));
            return vec![nft::plain::read(&String::from_utf8_lossy(&text))];
        }
        match error {
            NoJson::Program(error) => self.miss(WHAT, &error, &[Capability::NetAdmin]),
            NoJson::Broken(_) => self.missing.push(format!("{WHAT}: {error}")),
        }
        Vec::new()
    }

    fn json(&mut self, words: &'static [&'static str]) -> Result<nft::Listing, NoJson> {
        let mut listing = nft::read(&self.run(Program::Nft, words)?)?;
        if listing.unclear_flags {
            self.find_dormant(&mut listing);
        }
        self.translate(&mut listing);
        Ok(listing)
    }

    fn find_dormant(&mut self, listing: &mut nft::Listing) {
        match self.run(Program::Nft, PLAIN) {
            Ok(text) => listing.sleep(&nft::plain::read(&String::from_utf8_lossy(&text))),
            Err(error) => self.miss("which tables are dormant is not known", &error, &[]),
        }
    }

    /// Rules of iptables that nft has in parts only are taken from iptables.
    fn translate(&mut self, listing: &mut nft::Listing) {
        for (family, program, ..) in FAMILIES {
            if !listing.has_foreign(family) {
                continue;
            }
            match self.run(program, &[]) {
                Ok(text) => {
                    let mut saved = save::read(&String::from_utf8_lossy(&text), family, Backend::IptablesNft);
                    listing.keep_native(&mut saved);
                    listing.translate(saved);
                }
                Err(error) => self.miss("some rules of iptables are not seen whole", &error, &[Capability::NetAdmin]),
            }
        }
        let left = listing.foreign();
        if left > 0 {
            self.missing.push(format!("{left} rule(s) have parts that nft cannot name: their Rule says xt there"));
        }
    }

    /// Without nft: what iptables wrote into nftables.
    fn iptables_alone(&mut self) -> Vec<Ruleset> {
        let mut rulesets = Vec::new();
        for (family, program, ..) in FAMILIES {
            match self.run(program, &[]) {
                Ok(text) => {
                    rulesets.push(save::read(&String::from_utf8_lossy(&text), family, Backend::IptablesNft));
                }
                Err(ProgramError::Absent(_)) => {}
                Err(error) => {
                    self.miss("the rules of iptables in nftables are not seen", &error, &[Capability::NetAdmin]);
                }
            }
        }
        rulesets
    }

    /// The older tables of iptables.
    fn legacy(&mut self) -> Vec<Ruleset> {
        let mut rulesets = Vec::new();
        for (family, _, program, names) in FAMILIES {
            match self.host.read_text(names, 4096) {
                Ok(tables) if tables.trim().is_empty() => {}
                Ok(tables) => match self.run(program, &[]) {
                    Ok(text) => {
                        rulesets.push(save::read(&String::from_utf8_lossy(&text), family, Backend::IptablesLegacy));
                    }
                    Err(error) => {
                        let tables = tables.split_whitespace().collect::<Vec<_>>().join(", ");
                        let what = format!("the older {family} tables of iptables ({tables}) are not seen");
                        self.miss(&what, &error, &[Capability::NetAdmin, Capability::NetRaw]);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.missing.push(format!(
                    "older {family} tables of iptables are not looked for: {names}: {error}; CAP_DAC_READ_SEARCH allows it"
                )),
            }
        }
        rulesets
    }
}
