//! Rules of nftables in tables of iptables. `iptables-nft-save` tells them too, but leaves out what it does not know:
//! iptables 1.8.9 says of `tcp dport { 22, 23 } drop` that all of TCP is dropped. Only what iptables itself writes may be
//! told in its words.

use super::super::json::Node;

/// Whether iptables writes such rules.
pub(super) fn is_of_iptables(statements: &[Node]) -> bool {
    let mut seen: Vec<&Node> = Vec::new();
    statements.iter().all(|statement| match statement.named() {
        Some(("match", matched)) => {
            let (Some(left), Some(right)) = (matched.get("left"), matched.get("right")) else { return false };
            let again = seen.contains(&left);
            seen.push(left);
            !again && matches!(matched.text_of("op"), Some("==" | "!=")) && compares(left, right)
        }
        Some(("limit", limit)) => limit.get("inv").is_none(),
        Some((name, _)) => ["counter", "accept", "drop", "return", "jump", "goto", "xt"].contains(&name),
        None => false,
    })
}

/// Whether iptables compares the two.
fn compares(left: &Node, right: &Node) -> bool {
    let single = right.scalar().is_some_and(|value| !value.starts_with('@'));
    match left.named() {
        Some(("meta", inner)) => {
            single && matches!(inner.text_of("key"), Some("l4proto" | "iifname" | "oifname" | "iif" | "oif" | "mark"))
        }
        Some(("payload", inner)) => match (inner.text_of("protocol"), inner.text_of("field")) {
            (Some("ip" | "ip6"), Some("saddr" | "daddr")) => single || right.get("prefix").is_some(),
            (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => single,
            (Some("tcp" | "udp"), Some("sport" | "dport")) => single || right.get("range").is_some(),
            _ => false,
        },
        // Flags of TCP, and marks, through a mask.
        Some(("&", pair)) => pair.entries().0.first().and_then(Node::named).is_some_and(|(name, inner)| match name {
            "payload" => inner.text_of("protocol") == Some("tcp") && inner.text_of("field") == Some("flags"),
            _ => name == "meta" && inner.text_of("key") == Some("mark"),
        }),
        _ => false,
    }
}
