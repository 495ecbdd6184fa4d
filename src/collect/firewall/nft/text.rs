//! A rule of nft's JSON as one line, much as nft itself writes it. Nothing of the rule is left out but the figures of
//! its counters: what has no form here is written as its names and values.

use super::super::json::Node;

/// So many bytes of one rule are written.
const LINE_LIMIT: usize = 4096;

/// What computes a value of two others.
const OPERATORS: [&str; 5] = ["&", "|", "^", "<<", ">>"];

/// A line that stops growing.
#[derive(Debug, Default)]
struct Line {
    text: String,
    over: usize,
}

impl Line {
    fn push(&mut self, text: &str) {
        if self.over == 0 && self.text.len() + text.len() <= LINE_LIMIT {
            self.text.push_str(text);
        } else {
            self.over += text.len();
        }
    }

    fn finish(mut self) -> String {
        if self.over > 0 {
            self.text.push_str(&format!(" … {} bytes more", self.over));
        }
        self.text
    }

    /// Each entry, with something between.
    fn join(&mut self, entries: &[Node], more: usize, between: &str) {
        for (at, entry) in entries.iter().enumerate() {
            self.push(if at == 0 { "" } else { between });
            self.expression(entry);
        }
        if more > 0 {
            self.push(&format!(" … {more} more"));
        }
    }

    /// `name value name value`.
    fn members(&mut self, members: &[(String, Node)]) {
        for (at, (name, value)) in members.iter().enumerate() {
            self.push(if at == 0 { "" } else { " " });
            self.push(&word(name));
            if *value != Node::Null {
                self.push(" ");
                self.expression(value);
            }
        }
    }

    fn expression(&mut self, node: &Node) {
        match node {
            Node::Null => {}
            Node::Flag(flag) => self.push(if *flag { "true" } else { "false" }),
            Node::Number(number) => self.push(&number.to_string()),
            Node::Text(text) => self.push(&word(text)),
            Node::List(entries, more) => self.join(entries, *more, ","),
            Node::Map(members) => match members.first() {
                Some((name, inner)) if members.len() == 1 => self.named(name, inner),
                _ => self.members(members),
            },
        }
    }

    fn named(&mut self, name: &str, inner: &Node) {
        let (entries, more) = inner.entries();
        match name {
            "payload" if inner.get("protocol").is_some() => self.words(inner, &["protocol", "field"]),
            "payload" if inner.get("base").is_some() && inner.get("tunnel").is_none() => {
                let part = |key| inner.get(key).and_then(Node::scalar).unwrap_or_default();
                self.push(&format!("@{},{},{}", part("base"), part("offset"), part("len")));
            }
            "meta" => {
                let key = inner.text_of("key").unwrap_or_default();
                self.push(if ["iif", "oif", "iifname", "oifname"].contains(&key) { "" } else { "meta " });
                self.push(&word(key));
            }
            "ct" | "rt" | "socket" | "tcp option" | "ip option" | "sctp chunk" | "exthdr" => {
                self.push(name);
                self.push(" ");
                self.words(inner, &["dir", "family", "key", "name", "field"]);
            }
            "fib" => {
                self.push("fib ");
                let (flags, more) = inner.get("flags").map(Node::entries).unwrap_or_default();
                self.join(flags, more, " . ");
                self.push(" ");
                self.words(inner, &["result"]);
            }
            "prefix" => self.pair(inner.get("addr"), "/", inner.get("len")),
            "range" => self.join(entries, more, "-"),
            "concat" => self.join(entries, more, " . "),
            "set" => {
                self.push("{ ");
                for (at, entry) in entries.iter().enumerate() {
                    self.push(if at == 0 { "" } else { ", " });
                    self.element(entry);
                }
                if more > 0 {
                    self.push(&format!(", … {more} more"));
                }
                self.push(" }");
            }
            "elem" if inner.get("val").is_some() => {
                self.element(inner.get("val").unwrap_or(&Node::Null));
                let Node::Map(members) = inner else { return };
                let lasting =
                    members.iter().filter(|(name, _)| !["val", "expires", "counter"].contains(&name.as_str()));
                for (name, value) in lasting {
                    self.push(&format!(" {name} "));
                    self.expression(value);
                }
            }
            "map" | "vmap" => {
                let between = if name == "map" { " map " } else { " vmap " };
                self.pair(inner.get("key"), between, inner.get("data"));
            }
            _ if OPERATORS.contains(&name) => self.join(entries, more, &format!(" {name} ")),
            _ => {
                self.push(&word(name));
                if *inner != Node::Null {
                    self.push("(");
                    self.expression(inner);
                    self.push(")");
                }
            }
        }
    }

    /// An element of a set, or of a map with its value.
    fn element(&mut self, node: &Node) {
        match node {
            Node::List(pair, 0) if pair.len() == 2 => self.pair(pair.first(), " : ", pair.get(1)),
            Node::Map(_) => match node.named() {
                Some(("jump" | "goto" | "accept" | "drop" | "return" | "continue" | "queue", _)) => {
                    self.statement(node);
                }
                _ => self.expression(node),
            },
            _ => self.expression(node),
        }
    }

    fn pair(&mut self, left: Option<&Node>, between: &str, right: Option<&Node>) {
        self.element(left.unwrap_or(&Node::Null));
        self.push(between);
        self.element(right.unwrap_or(&Node::Null));
    }

    /// The values of these members, those that are there.
    fn words(&mut self, node: &Node, keys: &[&str]) {
        for (at, value) in keys.iter().filter_map(|key| node.get(key)).enumerate() {
            self.push(if at == 0 { "" } else { " " });
            match value {
                // Names of nft's own; one has a blank: `saddr ip`.
                Node::Text(text) if text.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_".contains(&b)) => {
                    self.push(text);
                }
                value => self.expression(value),
            }
        }
    }

    fn statement(&mut self, node: &Node) {
        let Some((name, inner)) = node.named() else { return self.expression(node) };
        match name {
            "match" => {
                self.expression(inner.get("left").unwrap_or(&Node::Null));
                self.push(" ");
                let computed =
                    inner.get("left").and_then(Node::named).is_some_and(|(name, _)| OPERATORS.contains(&name));
                match inner.text_of("op") {
                    Some("==" | "in") | None => self.push(if computed { "== " } else { "" }),
                    Some(operator) => self.push(&format!("{operator} ")),
                }
                match inner.get("right") {
                    Some(Node::Flag(flag)) => self.push(if *flag { "exists" } else { "missing" }),
                    right => self.expression(right.unwrap_or(&Node::Null)),
                }
            }
            "vmap" => self.named(name, inner),
            "mangle" => self.pair(inner.get("key"), " set ", inner.get("value")),
            "set" if inner.get("set").is_some() => {
                self.words(inner, &["op", "set"]);
                self.push(" { ");
                self.element(inner.get("elem").unwrap_or(&Node::Null));
                self.push(" }");
            }
            "jump" | "goto" => {
                self.push(name);
                self.push(" ");
                self.words(inner, &["target"]);
            }
            // Its figures are no configuration.
            "counter" if matches!(inner, Node::Map(_)) => self.push("counter"),
            "limit" if inner.get("rate").is_some() => self.limit(inner),
            "xt" => {
                self.push("xt ");
                self.words(inner, &["type", "name"]);
            }
            _ => {
                // nft's own names may have a blank: `ct count`.
                let own = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ');
                self.push(&if own { name.to_owned() } else { word(name) });
                match inner {
                    Node::Map(members) if members.len() != 1 || !is_expression(members) => {
                        self.push(" ");
                        self.members(members);
                    }
                    Node::Null => {}
                    inner => {
                        self.push(" ");
                        self.expression(inner);
                    }
                }
            }
        }
    }

    fn limit(&mut self, limit: &Node) {
        let over = if limit.get("inv") == Some(&Node::Flag(true)) { "over " } else { "" };
        self.push(&format!("limit rate {over}"));
        self.words(limit, &["rate", "rate_unit"]);
        self.push("/");
        self.words(limit, &["per"]);
        if limit.get("burst").is_some_and(|burst| *burst != Node::Number(0)) {
            self.push(" burst ");
            self.words(limit, &["burst", "burst_unit"]);
        }
    }
}

/// Whether a map is one expression, and not the settings of a statement.
fn is_expression(members: &[(String, Node)]) -> bool {
    members.iter().any(|(_, value)| matches!(value, Node::Map(_)))
        && members.iter().all(|(name, _)| ["payload", "meta", "ct", "map", "vmap", "concat"].contains(&name.as_str()))
}

/// The text as it is if it is one plain word, else in quotes.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@._:/-*+!=<>".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        serde_json::to_string(text).unwrap_or_default()
    }
}

/// The rule: its statements, then its comment.
pub(super) fn rule(statements: &Node, comment: Option<&str>) -> String {
    let mut line = Line::default();
    let (entries, more) = statements.entries();
    for (at, entry) in entries.iter().enumerate() {
        line.push(if at == 0 { "" } else { " " });
        line.statement(entry);
    }
    if more > 0 {
        line.push(&format!(" … {more} more"));
    }
    if let Some(comment) = comment {
        line.push(&format!(" comment {}", word(comment)));
    }
    line.finish()
}

/// An element of a set or map.
pub(super) fn element(node: &Node) -> String {
    let mut line = Line::default();
    line.element(node);
    line.finish()
}

/// The names of a statement, and of what it does: `dnat addr 10.0.0.2 port 80`.
pub(super) fn statement(node: &Node) -> String {
    let mut line = Line::default();
    line.statement(node);
    line.finish()
}
