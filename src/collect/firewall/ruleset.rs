//! What all sources of rules are turned into: chains with their rules, and how they become the items of the event.

use std::collections::HashMap;

use crate::model::payload::{Direction, FirewallAction, FirewallRule, Payload};

/// So many items are given; a policy comes before any rule.
pub(super) const ITEM_LIMIT: usize = 2000;
/// So many chains are kept.
pub(super) const CHAIN_LIMIT: usize = 1000;
/// So many bytes of rules' texts are kept; a rule beyond is counted only.
const TEXT_LIMIT: usize = 512 * 1024;

/// Who keeps the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Backend {
    #[default]
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

impl Backend {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }
}

/// The published fields of a rule, as far as it fills them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) source: Option<String>,
    pub(super) source_port: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) destination_port: Option<String>,
    pub(super) protocol: Option<String>,
}

/// One of the [`Fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    SourcePort,
    Destination,
    DestinationPort,
    Protocol,
}

impl Fields {
    pub(super) const fn get(&mut self, field: Field) -> &mut Option<String> {
        match field {
            Field::Source => &mut self.source,
            Field::SourcePort => &mut self.source_port,
            Field::Destination => &mut self.destination,
            Field::DestinationPort => &mut self.destination_port,
            Field::Protocol => &mut self.protocol,
        }
    }

    /// Sets a field that is free. What a taken one says stands in the rule's text only.
    pub(super) fn fill(&mut self, field: Field, value: String) {
        self.get(field).get_or_insert(value);
    }
}

/// What becomes of a packet that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) action: FirewallAction,
    /// What is done, where it is neither letting through nor refusing.
    pub(super) target: Option<String>,
    /// The chain that goes on.
    pub(super) next: Option<String>,
}

impl Verdict {
    pub(super) const fn plain(action: FirewallAction) -> Self {
        Self { action, target: None, next: None }
    }

    pub(super) const fn other(target: String) -> Self {
        Self { action: FirewallAction::Other, target: Some(target), next: None }
    }

    /// `jump` or `goto`.
    pub(super) fn onward(word: &str, chain: &str) -> Self {
        Self { action: FirewallAction::Other, target: Some(format!("{word} {chain}")), next: Some(chain.to_owned()) }
    }
}

/// One way through a rule that decides by a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// The element, for people: `22 : accept`.
    pub(super) element: String,
    /// Its key, if a field can say it.
    pub(super) key: Option<String>,
    pub(super) verdict: Verdict,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) fields: Fields,
    pub(super) verdict: Verdict,
    /// The whole rule in one line.
    pub(super) text: String,
    /// Further details: name and value.
    pub(super) details: Vec<(&'static str, String)>,
    /// If it decides by a map: the field of the map's key, and the elements. Empty if it does not.
    pub(super) key: Option<Field>,
    pub(super) branches: Vec<Branch>,
}

impl Rule {
    fn next_chains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.verdict).chain(self.branches.iter().map(|b| &b.verdict)).filter_map(|v| v.next.as_deref())
    }
}

/// Where packets come into a chain by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) hook: String,
    pub(super) priority: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) policy: String,
    /// The network interface it belongs to.
    pub(super) device: Option<String>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) backend: Backend,
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
    /// `None`: other chains lead to it.
    pub(super) base: Option<Base>,
    pub(super) dormant: bool,
    pub(super) rules: Vec<Rule>,
    /// Rules that were not kept; they come after the others.
    pub(super) left_out: usize,
    /// The hooks whose chains lead here, as bits; see [`HOOKS`]. `None`: not known.
    pub(super) reached: Option<u8>,
}

/// The hooks, each with the way of its packets.
const HOOKS: [(&str, Option<Direction>); 7] = [
    ("ingress", Some(Direction::In)),
    ("prerouting", Some(Direction::In)),
    ("input", Some(Direction::In)),
    ("forward", None),
    ("output", Some(Direction::Out)),
    ("postrouting", Some(Direction::Out)),
    ("egress", Some(Direction::Out)),
];
/// A hook that we do not know.
const OTHER_HOOK: u8 = 1 << 7;

/// All chains of one source.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
    /// Chains that were not kept.
    pub(super) chains_left_out: usize,
    /// Some jumps are not known: then it is not said what leads to a chain.
    pub(super) jumps_unknown: bool,
    texts: usize,
}

impl Ruleset {
    /// Whether a rule with this text may still be kept.
    pub(super) const fn takes(&mut self, text: &str) -> bool {
        self.texts += text.len() + 100;
        self.jumps_unknown |= self.texts > TEXT_LIMIT;
        self.texts <= TEXT_LIMIT
    }

    /// Follows all jumps: a chain belongs to the hooks of those that lead to it.
    fn follow_jumps(&mut self) {
        let places: HashMap<(&str, &str, &str), usize> = self
            .chains
            .iter()
            .enumerate()
            .map(|(at, chain)| ((chain.family.as_str(), chain.table.as_str(), chain.name.as_str()), at))
            .collect();
        let next: Vec<Vec<usize>> = self
            .chains
            .iter()
            .map(|chain| {
                let names = chain.rules.iter().flat_map(Rule::next_chains);
                let places = |name| places.get(&(chain.family.as_str(), chain.table.as_str(), name)).copied();
                let mut next: Vec<usize> = names.filter_map(places).collect();
                next.sort_unstable();
                next.dedup();
                next
            })
            .collect();
        let unknown = self.jumps_unknown || self.chains_left_out > 0;
        for chain in &mut self.chains {
            let hook = chain.base.as_ref().map(|base| HOOKS.iter().position(|(name, _)| *name == base.hook));
            let bit = hook.map(|known| known.map_or(OTHER_HOOK, |bit| 1 << bit));
            chain.reached = bit.or((!unknown).then_some(0));
        }
        // Bits are only added, so each chain comes up again at most once for each of them.
        let mut waiting: Vec<usize> = (0..self.chains.len()).collect();
        while let Some(from) = waiting.pop() {
            let bits = self.chains.get(from).and_then(|chain| chain.reached).unwrap_or(0);
            for to in next.get(from).into_iter().flatten() {
                let Some(reached) = self.chains.get_mut(*to).and_then(|chain| chain.reached.as_mut()) else { continue };
                if *reached | bits != *reached {
                    *reached |= bits;
                    waiting.push(*to);
                }
            }
        }
    }

    /// Makes items of the rules and policies, at most `room`; gives how many rules and chains were left out.
    pub(super) fn into_items(mut self, room: usize, items: &mut Vec<Payload>) -> usize {
        self.follow_jumps();
        let policies = self.chains.iter().filter(|chain| chain.base.is_some()).count();
        let (mut room, mut left_out) = (room.saturating_sub(policies), self.chains_left_out);
        for mut chain in self.chains {
            let rules = std::mem::take(&mut chain.rules);
            let count = rules.len() + chain.left_out;
            left_out += chain.left_out;
            for (position, rule) in rules.into_iter().enumerate() {
                let needed = rule.branches.len().max(1);
                if needed > room {
                    left_out += 1;
                    continue;
                }
                room -= needed;
                chain.push_rule(position, rule, items);
            }
            if let Some(base) = &chain.base {
                let mut item = chain.item(count, policy(&base.policy).action);
                item.extra_details.insert("Rule".to_owned(), format!("policy {}", base.policy));
                item.extra_details.extend(policy(&base.policy).target.map(|target| ("Target".to_owned(), target)));
                items.push(Payload::FirewallRule(item));
            }
        }
        left_out
    }
}

/// `accept` or `drop`, in iptables' tables large.
pub(super) fn policy(word: &str) -> Verdict {
    match word.to_ascii_lowercase().as_str() {
        "accept" => Verdict::plain(FirewallAction::Allow),
        "drop" => Verdict::plain(FirewallAction::Deny),
        _ => Verdict::other(word.to_owned()),
    }
}

impl Chain {
    fn push_rule(&self, position: usize, rule: Rule, items: &mut Vec<Payload>) {
        if rule.branches.is_empty() {
            items.push(self.rule_item(position, rule.fields, rule.verdict, rule.text, rule.details));
            return;
        }
        for branch in rule.branches {
            let (mut fields, mut details) = (rule.fields.clone(), rule.details.clone());
            if let (Some(field), Some(key)) = (rule.key, branch.key) {
                fields.fill(field, key);
            }
            details.push(("MapElement", branch.element));
            items.push(self.rule_item(position, fields, branch.verdict, rule.text.clone(), details));
        }
    }

    fn rule_item(
        &self,
        position: usize,
        fields: Fields,
        verdict: Verdict,
        text: String,
        details: Vec<(&'static str, String)>,
    ) -> Payload {
        let mut item = self.item(position, verdict.action);
        item.source_address = fields.source;
        item.source_port = fields.source_port;
        item.destination_address = fields.destination;
        item.destination_port = fields.destination_port;
        item.protocol = fields.protocol;
        let more = details.into_iter().chain([("Rule", text)]).chain(verdict.target.map(|target| ("Target", target)));
        item.extra_details.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Payload::FirewallRule(item)
    }

    /// An item with all that is the same for the whole chain.
    fn item(&self, position: usize, action: FirewallAction) -> FirewallRule {
        let reached = self.reached.unwrap_or(0);
        let hooks: Vec<_> = HOOKS.iter().enumerate().filter(|(bit, _)| reached & (1 << bit) != 0).collect();
        let (mut ways, known) = (hooks.iter().map(|(_, (_, way))| *way), reached & OTHER_HOOK == 0);
        let first = ways.next().flatten().filter(|_| known);
        let names = match &self.base {
            Some(base) => base.hook.clone(),
            None => hooks.iter().map(|(_, (name, _))| *name).collect::<Vec<_>>().join(","),
        };
        let base = self.base.as_ref();
        let details = [
            ("Backend", Some(self.backend.as_str().to_owned())),
            ("Family", Some(self.family.clone())),
            ("Table", Some(self.table.clone())),
            ("Hook", Some(names).filter(|names| !names.is_empty())),
            ("HookPriority", base.and_then(|base| base.priority.clone())),
            ("ChainType", base.and_then(|base| base.kind.clone())),
            ("Interface", base.and_then(|base| base.device.clone())),
            // Its rules are in force for nobody.
            ("Reached", (self.reached == Some(0)).then(|| "no".to_owned())),
            ("Owner", self.owner().map(str::to_owned)),
        ];
        FirewallRule {
            enabled: !self.dormant,
            action,
            priority: u32::try_from(position).ok(),
            direction: first.filter(|first| ways.all(|way| way == Some(*first))),
            chain_name: Some(self.name.clone()),
            application: None,
            source_address: None,
            source_port: None,
            destination_address: None,
            destination_port: None,
            protocol: None,
            extra_details: details.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        }
    }

    /// The program that wrote the chain, where its name says so.
    fn owner(&self) -> Option<&'static str> {
        if self.name.starts_with("ufw-") || self.name.starts_with("ufw6-") {
            return Some("ufw");
        }
        (self.table == "firewalld").then_some("firewalld")
    }
}
