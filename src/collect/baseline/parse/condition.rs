//! Reading a condition: a table with one combinator, or with one probe and its own keys.

use toml::Value;

use super::super::check::{
    AccountProbe, AccountRule, Condition, FileProbe, KeyProbe, MountProbe, PamProbe, PamRule, Probe, TextProbe,
};
use super::super::compare::{Comparison, Rule};
use super::fields::{Fields, Place, short};

/// Combinators within combinators.
const DEPTH: usize = 4;
const COMBINATORS: [&str; 3] = ["any", "all", "not"];
const PROBES: [&str; 15] = [
    "file", "key", "text", "value", "sysctl", "mount", "module", "service", "package", "account", "group", "sshd",
    "pam", "boot", "port",
];
const RULES: [(&str, AccountRule); 14] = [
    ("empty-password", AccountRule::EmptyPassword),
    ("only-root-is-zero", AccountRule::OnlyRootIsZero),
    ("unique-uids", AccountRule::UniqueUids),
    ("unique-names", AccountRule::UniqueNames),
    ("system-shells", AccountRule::SystemShells),
    ("groups-exist", AccountRule::GroupsExist),
    ("home-closed", AccountRule::HomeClosed),
    ("home-owned", AccountRule::HomeOwned),
    ("weak-hash", AccountRule::WeakHash),
    ("default-password", AccountRule::DefaultPassword),
    ("plain-password", AccountRule::PlainPassword),
    ("locked", AccountRule::Locked),
    ("keys-closed", AccountRule::KeysClosed),
    ("max-days", AccountRule::MaxDays),
];

/// Reads a condition; `None` if it has a problem that leaves nothing of it.
pub(super) fn read(place: Place<'_>, value: Value) -> Option<Condition> {
    let mut fields = place.table(value)?;
    // `group` is a key of the probe `file` too.
    let beside_file = |key: &str| key == "group" && fields.has("file");
    let keys = COMBINATORS.into_iter().chain(PROBES);
    let found: Vec<&str> = keys.filter(|key| fields.has(key) && !beside_file(key)).collect();
    let [one] = found[..] else {
        let known = COMBINATORS.into_iter().chain(PROBES).collect::<Vec<_>>().join(", ");
        fields.place.problem(match &found[..] {
            [] => format!("is no condition; expected one of {known}"),
            several => format!("has {}; expected exactly one of them", several.join(" and ")),
        });
        return None;
    };
    if COMBINATORS.contains(&one) {
        fields.place.depth += 1;
        if fields.place.depth > DEPTH {
            fields
                .place
                .problem(format!("is too deep; expected at most {DEPTH} of any, all and not within each other"));
            return None;
        }
        let condition = match one {
            "any" => Some(Condition::Any(fields.conditions("any", true))),
            "all" => Some(Condition::All(fields.conditions("all", true))),
            _ => fields.condition("not").map(Box::new).map(Condition::Not),
        };
        fields.end();
        return condition;
    }
    let probe = probe(&mut fields, one);
    fields.end();
    probe.map(Condition::Probe)
}

fn probe(fields: &mut Fields, one: &str) -> Option<Probe> {
    Some(match one {
        "file" => Probe::File(file(fields)?),
        "key" => {
            let key = fields.text("key", 256);
            let files = files(fields, "in");
            let blank = fields.optional_word("separator", &["=", " "]).map(|word| word == " ");
            let (section, last) = (fields.optional_text("section", 256), fields.flag("last").unwrap_or(false));
            let compare = compare(fields, true);
            Probe::Key(KeyProbe { key: key?, files: files?, section, blank, last, compare: compare? })
        }
        "text" => {
            let files = files(fields, "text");
            let (contains, lacks) = (fields.optional_text("contains", 256), fields.optional_text("lacks", 256));
            let (exact, absent_holds) = (fields.flag("exact").unwrap_or(false), absent(fields));
            let wanted = contains.is_some();
            let ((Some(part), None) | (None, Some(part))) = (contains, lacks) else {
                fields.place.problem("expected either contains or lacks");
                return None;
            };
            Probe::Text(TextProbe { files: files?, part, wanted, exact, absent_holds })
        }
        "value" => {
            let (path, compare) = (content_path(fields, "value"), compare(fields, true));
            Probe::Value { path: path?, compare: compare? }
        }
        "sysctl" => {
            let (name, compare) = (name(fields, "sysctl"), compare(fields, true));
            Probe::Sysctl { name: name?, compare: compare? }
        }
        "mount" => Probe::Mount(MountProbe {
            separate: fields.flag("separate"),
            options: fields.texts("options"),
            without: fields.texts("without"),
            kind: fields.texts("kind"),
            absent_holds: absent(fields),
            point: path(fields, "mount", false)?,
        }),
        "module" => {
            let (loaded, loadable) = (fields.flag("loaded"), fields.flag("loadable"));
            let name = name(fields, "module")?;
            if loaded.is_none() && loadable.is_none() {
                fields.place.problem("expected loaded or loadable, or both");
            }
            Probe::Module { name, loaded, loadable }
        }
        "service" => {
            let (names, enabled) = (names(fields, "service"), needed_flag(fields, "enabled"));
            Probe::Service { names: names?, enabled: enabled? }
        }
        "package" => {
            let (names, installed) = (names(fields, "package"), needed_flag(fields, "installed"));
            Probe::Package { names: names?, installed: installed? }
        }
        "account" => Probe::Account(account(fields)?),
        "group" => {
            let members = fields.texts_or_none("members");
            Probe::Group { members, name: name(fields, "group")? }
        }
        "sshd" => {
            let (option, compare) = (name(fields, "sshd"), compare(fields, true));
            Probe::Sshd { default: fields.optional_text("default", 512), option: option?, compare: compare? }
        }
        "pam" => Probe::Pam(pam(fields)?),
        "boot" => {
            let (name, compare, present) = (name(fields, "boot"), compare(fields, false), fields.flag("present"));
            if compare.is_none() && present.is_none() {
                fields.place.problem("expected present, or a comparison");
            }
            Probe::Boot { name: name?, compare, present }
        }
        _ => {
            let tcp = fields.optional_word("protocol", &["tcp", "udp"]) != Some("udp");
            let (listening, loopback) =
                (fields.flag("listening").unwrap_or(false), fields.flag("loopback").unwrap_or(false));
            Probe::Port { ports: fields.ports("port"), tcp, listening, loopback }
        }
    })
}

fn file(fields: &mut Fields) -> Option<FileProbe> {
    let about = ["exists", "mode", "owner", "group", "kind"].iter().any(|key| fields.has(key));
    let probe = FileProbe {
        exists: fields.flag("exists"),
        mode: fields.mode("mode"),
        owner: fields.texts("owner"),
        group: fields.texts("group"),
        directory: fields.optional_word("kind", &["file", "directory"]).map(|kind| kind == "directory"),
        private_keys: fields.optional_word("content", &["private-key"]).is_some(),
        path: path(fields, "file", true)?,
    };
    if !about {
        fields.place.problem("expected at least one of exists, mode, owner, group, kind");
    }
    Some(probe)
}

fn account(fields: &mut Fields) -> Option<AccountProbe> {
    let rule = fields.word("account", &RULES.map(|(name, _)| name));
    let (name, mode, at_most) = (fields.optional_text("name", 64), fields.mode("mode"), fields.number("at_most"));
    let rule = rule.and_then(|name| RULES.into_iter().find(|(known, _)| *known == name)).map(|(_, rule)| rule)?;
    match rule {
        AccountRule::Locked if name.is_none() => fields.problem("name", "is missing"),
        AccountRule::MaxDays if at_most.is_none() => fields.problem("at_most", "is missing"),
        _ => {}
    }
    Some(AccountProbe { rule, name, mode: mode.unwrap_or(0o750), at_most: at_most.unwrap_or(i64::MAX) })
}

fn pam(fields: &mut Fields) -> Option<PamProbe> {
    let services = names(fields, "pam");
    let kind = fields.optional_word("type", &["auth", "account", "password", "session"]).unwrap_or("auth");
    let (requires, forbids) = (fields.optional_text("requires", 64), fields.optional_text("forbids", 64));
    let closed = fields.flag("closed");
    let argument = fields.optional_text("argument", 64);
    let compare = if argument.is_some() { compare(fields, false) } else { None };
    let rule = match (requires, forbids, closed) {
        (Some(module), None, None) => PamRule::Requires { module, argument: argument.map(|name| (name, compare)) },
        (None, Some(module), None) => PamRule::Forbids(module),
        (None, None, Some(true)) => PamRule::Closed,
        _ => {
            fields.place.problem("expected exactly one of requires, forbids and closed = true");
            return None;
        }
    };
    Some(PamProbe { services: services?, kind: kind.into(), rule })
}

/// The one comparison among the keys.
fn compare(fields: &mut Fields, needed: bool) -> Option<Comparison> {
    const KEYS: &str = "is, is_not, one_of, none_of, at_least, at_most, contains, lacks";
    let list = |fields: &mut Fields, key| Some(fields.texts(key)).filter(|list| !list.is_empty());
    let rules = [
        fields.value("is").map(Rule::Is),
        fields.value("is_not").map(Rule::IsNot),
        list(fields, "one_of").map(Rule::OneOf),
        list(fields, "none_of").map(Rule::NoneOf),
        fields.number("at_least").map(Rule::AtLeast),
        fields.number("at_most").map(Rule::AtMost),
        fields.optional_text("contains", 256).map(Rule::Contains),
        fields.optional_text("lacks", 256).map(Rule::Lacks),
    ];
    let (exact, absent_holds) = (fields.flag("exact").unwrap_or(false), absent(fields));
    let mut rules = rules.into_iter().flatten();
    match (rules.next(), rules.next()) {
        (Some(rule), None) => return Some(Comparison { rule, exact, absent_holds }),
        (None, _) if needed => fields.place.problem(format!("has no comparison; expected one of {KEYS}")),
        (None, _) => {}
        _ => fields.place.problem(format!("has several comparisons; expected exactly one of {KEYS}")),
    }
    None
}

fn absent(fields: &mut Fields) -> bool {
    fields.optional_word("absent", &["pass", "fail"]) == Some("pass")
}

fn needed_flag(fields: &mut Fields, key: &'static str) -> Option<bool> {
    if !fields.has(key) {
        fields.problem(key, "is missing; expected true or false");
    }
    fields.flag(key)
}

/// A name that is looked for, and perhaps part of a path: it must not lead elsewhere.
fn name(fields: &mut Fields, key: &'static str) -> Option<Box<str>> {
    let name = fields.text(key, 128)?;
    if is_name(&name) {
        return Some(name);
    }
    fields.problem(key, format!("is \"{}\", expected a name without blanks and without ..", short(&name)));
    None
}

fn names(fields: &mut Fields, key: &'static str) -> Option<Vec<Box<str>>> {
    let names = fields.texts(key);
    for name in &names {
        if !is_name(name) || name.contains('/') {
            fields.problem(key, format!("is \"{}\", expected a name without blanks and without /", short(name)));
        }
    }
    (!names.is_empty()).then_some(names)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(['/', '.'])
        && !name.split(['/', '.']).any(str::is_empty)
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
}

fn files(fields: &mut Fields, key: &'static str) -> Option<Vec<Box<str>>> {
    if !fields.has(key) {
        fields.problem(key, "is missing; expected a path or a list of paths");
    }
    let files = fields.texts(key);
    for path in &files {
        if let Some(wrong) = path_fault(path, true).or_else(|| content_fault(path)) {
            fields.problem(key, format!("{}: {wrong}", short(path)));
        }
    }
    (!files.is_empty()).then_some(files)
}

fn path(fields: &mut Fields, key: &'static str, stars: bool) -> Option<Box<str>> {
    let path = fields.text(key, 256)?;
    if let Some(wrong) = path_fault(&path, stars) {
        fields.problem(key, format!("{}: {wrong}", short(&path)));
        return None;
    }
    Some(path)
}

fn content_path(fields: &mut Fields, key: &'static str) -> Option<Box<str>> {
    let path = path(fields, key, false)?;
    if let Some(wrong) = content_fault(&path) {
        fields.problem(key, format!("{}: {wrong}", short(&path)));
        return None;
    }
    Some(path)
}

/// Why a path is refused.
fn path_fault(path: &str, stars: bool) -> Option<&'static str> {
    let mut parts = path.split('/').skip(1);
    let wrong = !path.starts_with('/')
        || path.len() > 256
        || path.contains(|c: char| c.is_control())
        || (path != "/" && parts.any(|part| part.is_empty() || part == "." || part == ".." || part.contains("**")));
    if wrong {
        Some("expected an absolute path of at most 256 bytes, without .., //, ** and without / at its end")
    } else {
        (!stars && path.contains('*')).then_some("expected a path without *")
    }
}

/// Why the content of a file is not read: what it says could block, be endless, or must stay secret.
fn content_fault(path: &str) -> Option<&'static str> {
    const OURS: [&str; 3] = ["/etc/twinward", "/var/lib/twinward", "/run/credentials"];
    const SECRETS: [&str; 5] =
        ["/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-", "/etc/security/opasswd"];
    let of_process = path.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()).is_some_and(|first| {
        first.starts_with(|c: char| c.is_ascii_digit())
            || first.contains('*')
            || first.ends_with("self")
            || first.starts_with('k')
    });
    if path.starts_with("/dev/") || of_process {
        return Some("devices and processes are not read");
    }
    if path.split('/').nth(1).is_some_and(|first| first.contains('*')) {
        return Some("expected a path whose first part has no *");
    }
    if OURS.iter().any(|place| std::path::Path::new(path).starts_with(place)) {
        return Some("what may hold the agent's key is not read");
    }
    let mut patterns = SECRETS.iter();
    let secret = patterns.any(|secret| crate::sys::glob::fits(path.as_bytes(), secret.as_bytes()));
    secret.then_some("hashes of passwords are not read; the probe account has rules for them")
}
