//! Which of the published fields a match of nft's JSON fills. What fits none stands in the rule's text only.

use super::super::json::Node;
use super::super::ruleset::{Field, Fields};

/// So many elements of a set are written into a field.
pub(super) const ELEMENTS: usize = 64;

/// Further details of a match: name and value.
pub(super) type Details = Vec<(&'static str, String)>;

/// Puts a match into the fields.
pub(super) fn express(fields: &mut Fields, details: &mut Details, matched: &Node) {
    let (Some(left), Some(right)) = (matched.get("left"), matched.get("right")) else { return };
    let operator = matched.text_of("op").unwrap_or("==");
    if let Some(name) = detail(left) {
        details.extend(value(operator, right).map(|value| (name, value)));
        return;
    }
    if let Some(protocol) = implied(left) {
        fields.fill(Field::Protocol, protocol.to_owned());
    }
    let ordered = ["<", "<=", ">", ">="].contains(&operator);
    let field = field(left).filter(|field| !ordered || [Field::SourcePort, Field::DestinationPort].contains(field));
    if let (Some(field), Some(value)) = (field, value(operator, right)) {
        fields.fill(field, if field == Field::Protocol { common(&value) } else { value });
    }
}

/// The field that an expression reads.
pub(super) fn field(left: &Node) -> Option<Field> {
    let (name, inner) = left.named()?;
    if name == "meta" {
        return (inner.text_of("key")? == "l4proto").then_some(Field::Protocol);
    }
    if name != "payload" {
        return None;
    }
    match (inner.text_of("protocol")?, inner.text_of("field")?) {
        ("ip" | "ip6", "saddr") => Some(Field::Source),
        ("ip" | "ip6", "daddr") => Some(Field::Destination),
        ("ip", "protocol") | ("ip6", "nexthdr") => Some(Field::Protocol),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "th", "sport") => Some(Field::SourcePort),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "th", "dport") => Some(Field::DestinationPort),
        _ => None,
    }
}

/// The protocol that a packet must have for the expression to be there.
pub(super) fn implied(left: &Node) -> Option<&'static str> {
    const ALL: [&str; 12] =
        ["tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "esp", "ah", "comp", "gre"];
    match left.named()? {
        ("payload", inner) => {
            let protocol = inner.text_of("protocol")?;
            ALL.into_iter().find(|known| *known == protocol)
        }
        ("tcp option", _) => Some("tcp"),
        ("&" | "|" | "^" | "concat", inner) => inner.entries().0.iter().find_map(implied),
        _ => None,
    }
}

/// What else is told by name.
fn detail(left: &Node) -> Option<&'static str> {
    match left.named()? {
        ("meta", inner) => match inner.text_of("key")? {
            "iif" | "iifname" => Some("InInterface"),
            "oif" | "oifname" => Some("OutInterface"),
            _ => None,
        },
        ("ct", inner) => (inner.text_of("key")? == "state").then_some("State"),
        _ => None,
    }
}

/// As iptables and most people call it.
pub(in super::super) fn common(protocol: &str) -> String {
    protocol.replace("ipv6-icmp", "icmpv6")
}

/// What a field is compared with.
fn value(operator: &str, right: &Node) -> Option<String> {
    let compared = || if let Node::Number(number) = right { Some(*number) } else { None };
    match operator {
        "==" | "in" => values(right),
        "!=" => Some(format!("!{}", values(right)?)),
        "<" => Some(format!("0-{}", compared()?.checked_sub(1).filter(|number| *number >= 0)?)),
        "<=" => Some(format!("0-{}", compared()?)),
        ">" => Some(format!("{}-65535", compared()?.checked_add(1).filter(|number| *number <= 65535)?)),
        ">=" => Some(format!("{}-65535", compared()?)),
        _ => None,
    }
}

/// One value, or those of a set with commas between.
fn values(node: &Node) -> Option<String> {
    match node.get("set").unwrap_or(node) {
        Node::List(entries, more) => {
            let count = entries.len() + more;
            if count > ELEMENTS {
                return Some(format!("{{{count} elements}}"));
            }
            let values: Vec<String> = entries.iter().map(single).collect::<Option<_>>()?;
            Some(values.join(",")).filter(|all| !all.is_empty())
        }
        one => single(one),
    }
}

/// An address, network, range, number or word.
pub(super) fn single(node: &Node) -> Option<String> {
    match node {
        Node::Text(text) if text == "*" || text.is_empty() => None,
        Node::Text(_) | Node::Number(_) => node.scalar(),
        Node::Map(_) => match node.named()? {
            ("prefix", inner) => Some(format!("{}/{}", inner.text_of("addr")?, inner.get("len")?.scalar()?)),
            ("range", Node::List(ends, 0)) => match &ends[..] {
                [first, last] => Some(format!("{}-{}", first.scalar()?, last.scalar()?)),
                _ => None,
            },
            ("elem", inner) => single(inner.get("val")?),
            _ => None,
        },
        _ => None,
    }
}
