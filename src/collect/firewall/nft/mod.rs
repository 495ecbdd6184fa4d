//! The listing of `nft -j list ruleset` (libnftables-json(5)): an object with one list, `nftables`; each entry is a map
//! with one member, named after what it describes: `table`, `chain`, `rule`, `set`, `map` and others. A rule has its
//! statements in the list `expr`, each a map with one member again.
//!
//! What iptables wrote with matches of its own stands there as `xt` without their values.

mod matches;
mod native;
pub(super) mod plain;
mod text;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{Bounded, NODES, Node};
use super::ruleset::{Backend, Base, Branch, CHAIN_LIMIT, Chain, Field, Fields, Rule, Ruleset, Verdict};
use crate::model::payload::FirewallAction;

pub(super) use matches::common;
use matches::{ELEMENTS, express, field, implied, single};

/// Family, table, and the name of a chain or set.
type Name = (String, String, String);

/// The target of a rule that is too long to be read to its end.
const UNKNOWN: &str = "unknown";

/// What nft says.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) ruleset: Ruleset,
    /// The rules that have parts of iptables' own: place of the chain, and of the rule in it.
    foreign: Vec<(usize, usize)>,
    /// The rules that iptables would not write: places alike.
    native: Vec<(usize, usize)>,
    /// A table has flags, and which ones cannot be read: nft before 1.0.7 writes anything there.
    pub(super) unclear_flags: bool,
    places: HashMap<Name, usize>,
    dormant: HashSet<(String, String)>,
    sets: HashMap<Name, Elements>,
    /// Rules that look at a named map: chain, rule, name of the map.
    maps: Vec<(usize, usize, String)>,
}

/// What a named set or map holds.
#[derive(Debug, Default)]
struct Elements {
    /// Empty if there are too many.
    entries: Vec<Node>,
    count: usize,
}

/// Reads the listing.
///
/// # Errors
/// It is no JSON, or no listing.
pub(super) fn read(json: &[u8]) -> Result<Listing, serde_json::Error> {
    let mut listing = Listing::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Reader { listing: &mut listing, level: Level::Document }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    listing.finish();
    Ok(listing)
}

#[derive(Clone, Copy)]
enum Level {
    Document,
    Entries,
    Entry,
}

struct Reader<'a> {
    listing: &'a mut Listing,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nft's listing")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !matches!(self.level, Level::Entries) {
            return Err(A::Error::custom("a list where an object belongs"));
        }
        while seq.next_element_seed(Reader { listing: &mut *self.listing, level: Level::Entry })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            match (self.level, name.as_str()) {
                (Level::Document, "nftables") => {
                    found = true;
                    map.next_value_seed(Reader { listing: &mut *self.listing, level: Level::Entries })?;
                }
                (Level::Entry, "table" | "chain" | "rule" | "set" | "map") => {
                    let budget = Cell::new(NODES);
                    let entry = map.next_value_seed(Bounded(&budget))?;
                    self.listing.add(&name, &entry);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if matches!(self.level, Level::Document) && !found {
            return Err(A::Error::custom("no member nftables"));
        }
        Ok(())
    }
}

impl Listing {
    fn add(&mut self, kind: &str, entry: &Node) {
        let part = |key| entry.text_of(key).unwrap_or_default().to_owned();
        let (family, table, name) = (part("family"), part("table"), part("name"));
        match kind {
            "table" => self.table(family, name, entry.get("flags")),
            "chain" => {
                let base = entry.text_of("hook").map(|hook| Base {
                    hook: hook.to_owned(),
                    priority: entry.get("prio").and_then(Node::scalar),
                    kind: entry.text_of("type").map(str::to_owned),
                    policy: entry.text_of("policy").unwrap_or("accept").to_owned(),
                    device: entry.get("dev").and_then(names),
                });
                match self.chain((family, table, name)).and_then(|at| self.ruleset.chains.get_mut(at)) {
                    Some(chain) => chain.base = base,
                    None => self.ruleset.chains_left_out += 1,
                }
            }
            "rule" => self.rule((family, table, part("chain")), entry),
            _ => {
                // None, or none are told (`-t`).
                let Some((entries, more)) = entry.get("elem").map(Node::entries) else { return };
                let count = entries.len() + more;
                let entries = if count > ELEMENTS { Vec::new() } else { entries.to_vec() };
                self.sets.insert((family, table, name), Elements { entries, count });
            }
        }
    }

    fn table(&mut self, family: String, name: String, flags: Option<&Node>) {
        let Some(flags) = flags else { return };
        let flags: Vec<_> = flags.entries().0.iter().map(|flag| flag.text().unwrap_or_default()).collect();
        if flags.contains(&"dormant") {
            self.dormant.insert((family, name));
        } else if !flags.iter().all(|flag| ["owner", "persist"].contains(flag)) {
            self.unclear_flags = true;
        }
    }

    /// The chain's place; `None` if there are too many.
    fn chain(&mut self, name: Name) -> Option<usize> {
        if let Some(at) = self.places.get(&name) {
            return Some(*at);
        }
        let at = self.ruleset.chains.len();
        if at >= CHAIN_LIMIT {
            return None;
        }
        self.places.insert(name.clone(), at);
        let (family, table, name) = name;
        self.ruleset.chains.push(Chain { family, table, name, ..Chain::default() });
        Some(at)
    }

    fn rule(&mut self, chain: Name, entry: &Node) {
        let Some(at) = self.chain(chain) else { return };
        let empty = Node::List(Vec::new(), 0);
        let (rule, map, foreign) = rule(entry.get("expr").unwrap_or(&empty), entry.text_of("comment"));
        let kept = self.ruleset.takes(&rule.text);
        self.ruleset.jumps_unknown |= rule.verdict.target.as_deref() == Some(UNKNOWN);
        let Some(chain) = self.ruleset.chains.get_mut(at) else { return };
        if !kept {
            chain.left_out += 1;
            return;
        }
        let place = chain.rules.len();
        chain.rules.push(rule);
        if foreign {
            self.foreign.push((at, place));
        } else if !entry.get("expr").is_some_and(|expr| native::is_of_iptables(expr.entries().0)) {
            self.native.push((at, place));
        }
        self.maps.extend(map.map(|name| (at, place, name)));
    }

    /// What can be said only when all is read: dormant tables, iptables' tables, the elements of named sets and maps.
    fn finish(&mut self) {
        let dormant = std::mem::take(&mut self.dormant);
        self.put_to_sleep(&dormant);
        for (at, place, name) in std::mem::take(&mut self.maps) {
            let Some(chain) = self.ruleset.chains.get_mut(at) else { continue };
            let elements = self.sets.get(&(chain.family.clone(), chain.table.clone(), name));
            let (Some(rule), Some(elements)) = (chain.rules.get_mut(place), elements) else { continue };
            rule.branches = branches(&elements.entries).unwrap_or_default();
            if rule.branches.is_empty() {
                rule.details.push(("Sets", format!("{} elements, not listed", elements.count)));
            }
        }
        for chain in &mut self.ruleset.chains {
            let Chain { family, table, rules, .. } = chain;
            for rule in rules {
                resolve(rule, |name| self.sets.get(&(family.clone(), table.clone(), name.to_owned())));
            }
        }
        let undecided = |rule: &Rule| rule.branches.is_empty() && rule.verdict.target.as_deref() == Some("vmap");
        self.ruleset.jumps_unknown |= self.ruleset.chains.iter().flat_map(|chain| &chain.rules).any(undecided);
        mark_iptables(&mut self.ruleset);
    }

    /// Puts the rules that are nft's own in the place of what iptables says of them.
    pub(super) fn keep_native(&self, saved: &mut Ruleset) {
        for (at, place) in &self.native {
            let Some(chain) = self.ruleset.chains.get(*at) else { continue };
            let same = |other: &&mut Chain| {
                (&other.family, &other.table, &other.name) == (&chain.family, &chain.table, &chain.name)
                    && other.rules.len() == chain.rules.len()
            };
            let theirs = saved.chains.iter_mut().find(same).and_then(|other| other.rules.get_mut(*place));
            if let (Some(theirs), Some(ours)) = (theirs, chain.rules.get(*place)) {
                theirs.clone_from(ours);
            }
        }
    }

    /// Rules that have parts of iptables' own.
    pub(super) const fn foreign(&self) -> usize {
        self.foreign.len()
    }

    /// Whether tables of iptables have such rules in this family.
    pub(super) fn has_foreign(&self, family: &str) -> bool {
        let chains = self.foreign.iter().filter_map(|(at, _)| self.ruleset.chains.get(*at));
        chains.into_iter().any(|chain| chain.backend == Backend::IptablesNft && chain.family == family)
    }

    /// Takes those rules from what iptables says of the same tables, chain by chain, where both have as many rules.
    pub(super) fn translate(&mut self, saved: Ruleset) {
        let mut by_name: HashMap<Name, Vec<Option<Rule>>> = HashMap::new();
        for chain in saved.chains.into_iter().filter(|chain| chain.left_out == 0) {
            let rules = chain.rules.into_iter().map(Some).collect();
            by_name.insert((chain.family, chain.table, chain.name), rules);
        }
        self.foreign.retain(|(at, place)| {
            let Some(chain) = self.ruleset.chains.get_mut(*at) else { return true };
            let name = (chain.family.clone(), chain.table.clone(), chain.name.clone());
            let saved = by_name.get_mut(&name).filter(|rules| rules.len() == chain.rules.len() + chain.left_out);
            let ours = chain.rules.get_mut(*place);
            let theirs = saved.and_then(|rules| rules.get_mut(*place)).and_then(Option::take);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                *ours = theirs;
                return false;
            }
            true
        });
    }

    /// Marks the chains that nft's text says are dormant.
    pub(super) fn sleep(&mut self, plain: &Ruleset) {
        let asleep = plain.chains.iter().filter(|chain| chain.dormant);
        self.put_to_sleep(&asleep.map(|chain| (chain.family.clone(), chain.table.clone())).collect());
    }

    fn put_to_sleep(&mut self, tables: &HashSet<(String, String)>) {
        for chain in &mut self.ruleset.chains {
            chain.dormant |= tables.contains(&(chain.family.clone(), chain.table.clone()));
        }
    }
}

/// Marks the tables that iptables takes for its own: they and all their base chains have its names.
fn mark_iptables(ruleset: &mut Ruleset) {
    let mut tables: HashMap<(String, String), bool> = HashMap::new();
    for chain in ruleset.chains.iter().filter(|chain| chain.base.is_some()) {
        let own = ["ip", "ip6"].contains(&chain.family.as_str())
            && ["filter", "nat", "mangle", "raw", "security"].contains(&chain.table.as_str())
            && super::save::hook(&chain.name).is_some();
        *tables.entry((chain.family.clone(), chain.table.clone())).or_insert(true) &= own;
    }
    for chain in &mut ruleset.chains {
        if tables.get(&(chain.family.clone(), chain.table.clone())) == Some(&true) {
            chain.backend = Backend::IptablesNft;
        }
    }
}

/// A name, or several with commas between.
fn names(node: &Node) -> Option<String> {
    let names: Vec<&str> = node.entries().0.iter().filter_map(Node::text).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// The rule, the named map that it decides by, and whether it has parts of iptables' own.
fn rule(statements: &Node, comment: Option<&str>) -> (Rule, Option<String>, bool) {
    let (mut fields, mut details) = (Fields::default(), Vec::new());
    let (entries, more) = statements.entries();
    let mut verdict = None;
    let mut foreign = false;
    for statement in entries {
        match statement.named() {
            Some(("match", matched)) => express(&mut fields, &mut details, matched),
            Some((name, inner)) => {
                foreign |= name == "xt";
                verdict = verdict.or_else(|| decided(name, inner, statement));
            }
            None => {}
        }
    }
    // What does not decide is named only if nothing else does: a rule that counts, or writes to the log.
    let verdict = verdict.unwrap_or_else(|| {
        let does = entries.iter().rev().filter_map(Node::named).map(|(name, _)| name);
        let last = does.filter(|name| *name != "match").min_by_key(|name| *name == "counter");
        Verdict::other(if more > 0 { UNKNOWN } else { last.unwrap_or("continue") }.to_owned())
    });
    details.extend(comment.map(|comment| ("Comment", comment.to_owned())));
    let mut rule = Rule { fields, verdict, text: String::new(), details, key: None, branches: Vec::new() };
    let map = by_map(&mut rule, entries, more);
    rule.text = match (&rule.branches[..], entries) {
        // Each element has an item of its own.
        (branches @ [_, ..], [before @ .., last]) => {
            let key = last.get("vmap").and_then(|vmap| vmap.get("key")).map(text::element).unwrap_or_default();
            let before = text::rule(&Node::List(before.to_vec(), 0), None);
            let comment = text::rule(&Node::List(Vec::new(), 0), comment);
            format!("{before} {key} vmap {{ {} elements }}{comment}", branches.len()).trim_start().to_owned()
        }
        _ => text::rule(statements, comment),
    };
    (rule, map, foreign)
}

/// What a statement decides, if it does; those that only count, mark or log do not.
fn decided(name: &str, inner: &Node, statement: &Node) -> Option<Verdict> {
    Some(match name {
        "accept" => Verdict::plain(FirewallAction::Allow),
        "drop" | "reject" => Verdict::plain(FirewallAction::Deny),
        "jump" | "goto" => Verdict::onward(name, inner.text_of("target").unwrap_or_default()),
        "xt" if inner.text_of("type") == Some("target") => match inner.text_of("name").unwrap_or_default() {
            "REJECT" => Verdict::plain(FirewallAction::Deny),
            target => Verdict::other(target.to_owned()),
        },
        "return" | "continue" | "queue" | "masquerade" | "snat" | "dnat" | "redirect" | "tproxy" | "synproxy"
        | "fwd" | "flow" | "vmap" => {
            Verdict::other(if name == "vmap" { name.to_owned() } else { text::statement(statement) })
        }
        _ => return None,
    })
}

/// Takes a verdict map apart, if it ends the rule. Gives the name of a named one.
fn by_map(rule: &mut Rule, entries: &[Node], more: usize) -> Option<String> {
    let [before @ .., last] = entries else { return None };
    let vmap = last.get("vmap").filter(|_| more == 0)?;
    // An earlier decision comes first.
    if before
        .iter()
        .any(|statement| statement.named().is_some_and(|(name, inner)| decided(name, inner, statement).is_some()))
    {
        return None;
    }
    let (key, data) = (vmap.get("key")?, vmap.get("data")?);
    rule.key = field(key).filter(|field| rule.fields.get(*field).is_none());
    if let Some(name) = data.text() {
        if let Some(protocol) = implied(key) {
            rule.fields.fill(Field::Protocol, protocol.to_owned());
        }
        return Some(name.trim_start_matches('@').to_owned());
    }
    let (elements, more) = data.get("set").map(Node::entries)?;
    if more == 0 && elements.len() <= ELEMENTS {
        rule.branches = branches(elements)?;
    }
    if !rule.branches.is_empty()
        && let Some(protocol) = implied(key)
    {
        rule.fields.fill(Field::Protocol, protocol.to_owned());
    }
    None
}

/// One branch for each element; `None` if one of them is no key with a verdict.
fn branches(elements: &[Node]) -> Option<Vec<Branch>> {
    let branch = |element: &Node| {
        let Node::List(pair, 0) = element else { return None };
        let [key, verdict] = &pair[..] else { return None };
        let (name, inner) = verdict.named()?;
        let verdict = decided(name, inner, verdict)?;
        Some(Branch { element: text::element(element), key: single(key), verdict })
    };
    elements.iter().map(branch).collect()
}

/// Puts the elements of named sets in the place of their names.
fn resolve<'a>(rule: &mut Rule, find: impl Fn(&str) -> Option<&'a Elements>) {
    let mut told = Vec::new();
    for field in [Field::Source, Field::SourcePort, Field::Destination, Field::DestinationPort, Field::Protocol] {
        let Some(value) = rule.fields.get(field) else { continue };
        let (not, name) = value.strip_prefix('!').map_or(("", value.as_str()), |rest| ("!", rest));
        let Some(name) = name.strip_prefix('@') else { continue };
        let Some(set) = find(name) else { continue };
        let entries: Option<Vec<String>> = set.entries.iter().map(single).collect();
        let listed = entries.filter(|entries| !entries.is_empty());
        told.push(format!("{name}: {} elements{}", set.count, if listed.is_some() { "" } else { ", not listed" }));
        if let Some(entries) = listed {
            *value = format!("{not}{}", entries.join(","));
        }
    }
    if !told.is_empty() {
        rule.details.push(("Sets", told.join("; ")));
    }
}
