//! The probes `account` and `group`: rules for the local accounts. Neither a password nor a hash is ever part of an
//! answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::check::{AccountProbe, AccountRule};
use super::super::machine::{Cannot, Machine};
use super::super::verdict::Verdict;
use super::crypt;
use super::files::is_private_key;
use crate::model::secret::Secret;
use crate::sys::account_files::Account;
use crate::sys::host::{FileFacts, FileKind, Host};
use crate::sys::text_file::{self, present};

/// Known accounts of images with their known passwords, the commonest first. Of one account a few are tried.
const KNOWN: &[(&str, &[&str])] = &[
    ("pi", &["raspberry"]),
    ("root", &["root", "toor", "1234", "admin", "password", "orangepi", "odroid", "oelinux123"]),
    ("admin", &["admin", "password", "1234"]),
    ("ubnt", &["ubnt"]),
    ("user", &["user", "password"]),
    ("debian", &["temppwd", "debian"]),
    ("ubuntu", &["ubuntu"]),
    ("orangepi", &["orangepi"]),
    ("rock", &["rock"]),
    ("radxa", &["radxa"]),
    ("odroid", &["odroid"]),
    ("linaro", &["linaro"]),
    ("nvidia", &["nvidia"]),
    ("torizon", &["torizon"]),
    ("khadas", &["khadas"]),
    ("pine64", &["pine64"]),
    ("alarm", &["alarm"]),
    ("osmc", &["osmc"]),
    ("volumio", &["volumio"]),
    ("vagrant", &["vagrant"]),
    ("guest", &["guest"]),
    ("support", &["support"]),
    ("service", &["service"]),
];

pub(super) fn account(machine: &Machine, probe: &AccountProbe) -> Result<Verdict, Cannot> {
    use AccountRule as Rule;
    let named = |account: &&Account| probe.name.as_deref().is_none_or(|name| name == account.name);
    let all: Vec<&Account> = machine.accounts()?.iter().filter(named).collect();
    let users = Users { machine, probe, all };
    match probe.rule {
        Rule::EmptyPassword => users.passwords("has an empty password", "no empty password", str::is_empty),
        Rule::WeakHash => users.passwords("has a hash that is easily broken", "yescrypt or SHA-512", is_weak),
        Rule::Locked => {
            users.passwords("can sign in with a password", "no such account, or one without password", |field| {
                !field.starts_with(['!', '*']) && field != "x"
            })
        }
        Rule::DefaultPassword => users.default_passwords(),
        Rule::MaxDays => users.most_days(),
        Rule::OnlyRootIsZero => Ok(users.each("no other user with id 0", |account| {
            (account.uid == 0 && account.name != "root").then(|| "has user id 0".to_owned())
        })),
        Rule::PlainPassword => Ok(users.each("x in its second field", |account| {
            let field = account.password.expose();
            let plain = !field.is_empty() && field != b"x" && !field.starts_with(b"!") && !field.starts_with(b"*");
            plain.then(|| "has its hash in /etc/passwd".to_owned())
        })),
        Rule::UniqueUids => Ok(users.unique("user id", |account| account.uid.to_string())),
        Rule::UniqueNames => Ok(users.unique("name", |account| account.name.clone())),
        Rule::SystemShells => users.system_shells(),
        Rule::GroupsExist => {
            let ids: BTreeSet<u32> = machine.groups()?.iter().map(|group| group.gid).collect();
            Ok(users.each("a group in /etc/group", |account| {
                (!ids.contains(&account.gid)).then(|| format!("is in the unknown group {}", account.gid))
            }))
        }
        Rule::HomeClosed => {
            let mode = probe.mode;
            users.homes(&format!("mode {mode:04o} or stricter"), |_, facts| {
                (facts.mode & !mode != 0).then(|| format!("has mode {:04o}", facts.mode))
            })
        }
        Rule::HomeOwned => users.homes("the owner that it is the home of", |account, facts| {
            (facts.uid != account.uid).then(|| format!("belongs to uid {}", facts.uid))
        }),
        Rule::KeysClosed => users.keys(),
    }
}

struct Users<'a> {
    machine: &'a Machine<'a>,
    probe: &'a AccountProbe,
    all: Vec<&'a Account>,
}

impl Users<'_> {
    fn each(&self, expected: &str, wrong: impl Fn(&Account) -> Option<String>) -> Verdict {
        let amiss: Vec<String> =
            self.all.iter().filter_map(|account| Some(format!("{} {}", account.name, wrong(account)?))).collect();
        Verdict::of_list(&amiss, expected)
    }

    fn unique(&self, what: &str, value: impl Fn(&Account) -> String) -> Verdict {
        let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for account in &self.all {
            names.entry(value(account)).or_default().push(&account.name);
        }
        let twice = names.into_iter().filter(|(_, names)| names.len() > 1);
        let amiss: Vec<String> =
            twice.map(|(value, names)| format!("the {what} {value} is that of {}", names.join(", "))).collect();
        Verdict::of_list(&amiss, &format!("each {what} once"))
    }

    /// The password field of each account, from `/etc/shadow` if it is there.
    fn fields(&self) -> Result<Vec<(&str, &Secret)>, Cannot> {
        let in_passwd = self.all.iter().map(|account| (account.name.as_str(), &account.password));
        let shadow = self.machine.shadow()?;
        if shadow.is_none() && in_passwd.clone().any(|(_, field)| field.expose() == b"x") {
            return Err(Cannot("there is no /etc/shadow, and /etc/passwd refers to it".to_owned()));
        }
        let of: BTreeMap<&str, &Secret> =
            shadow.unwrap_or_default().iter().rev().map(|entry| (entry.name.as_str(), &entry.password)).collect();
        Ok(in_passwd
            .map(|(name, field)| match of.get(name) {
                Some(hash) if field.expose() == b"x" => (name, *hash),
                _ => (name, field),
            })
            .collect())
    }

    fn passwords(&self, wrong: &str, expected: &str, is: impl Fn(&str) -> bool) -> Result<Verdict, Cannot> {
        let fields = self.fields()?;
        // What is not even text is no hash that opens anything.
        let amiss = fields.iter().filter(|(_, field)| field.expose_text().is_some_and(&is));
        let amiss: Vec<String> = amiss.map(|(name, _)| format!("{name} {wrong}")).collect();
        Ok(Verdict::of_list(&amiss, expected))
    }

    fn default_passwords(&self) -> Result<Verdict, Cannot> {
        let fields = self.fields()?;
        let (mut amiss, mut untried) = (Vec::new(), Vec::new());
        for (name, passwords) in KNOWN {
            let Some((_, hash)) = fields.iter().find(|(account, _)| account == name) else { continue };
            let Some(hash) = hash.expose_text().filter(|hash| hash.starts_with('$')) else { continue };
            let tried: Vec<_> = passwords.iter().map(|word| crypt::matches(self.machine, hash, word)).collect();
            if tried.contains(&Some(true)) {
                amiss.push(format!("{name} has the password that everybody knows"));
            } else if tried.contains(&None) && *name != "root" {
                untried.push(*name);
            }
        }
        if amiss.is_empty() && !untried.is_empty() {
            return Err(Cannot(format!(
                "the password of {} cannot be tried: another kind of hash, or enough were tried",
                untried.join(", ")
            )));
        }
        Ok(Verdict::of_list(&amiss, "a password of one's own"))
    }

    fn most_days(&self) -> Result<Verdict, Cannot> {
        let Some(shadow) = self.machine.shadow()? else {
            return Ok(Verdict::Beside("there is no /etc/shadow".to_owned()));
        };
        let most = self.probe.at_most;
        let mut amiss = Vec::new();
        for entry in shadow.iter().filter(|entry| self.all.iter().any(|account| account.name == entry.name)) {
            let hash = entry.password.expose();
            if hash.is_empty() || hash.starts_with(b"!") || hash.starts_with(b"*") {
                continue;
            }
            match entry.most_days {
                Some(days) if (0..=most).contains(&days) => {}
                Some(days) if days >= 0 => amiss.push(format!("{} may keep a password for {days} days", entry.name)),
                _ => amiss.push(format!("{} may keep a password for ever", entry.name)),
            }
        }
        Ok(Verdict::of_list(&amiss, &format!("at most {most} days")))
    }

    /// The least id of people's accounts (`login.defs(5)`).
    fn least_person(&self) -> Result<u32, Cannot> {
        const PLAIN: u32 = 1000;
        let text = text_file::read(self.machine.host, "/etc/login.defs", text_file::TEXT_LIMIT)?.unwrap_or_default();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("UID_MIN"));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(PLAIN))
    }

    fn system_shells(&self) -> Result<Verdict, Cannot> {
        /// Programs that let nobody do anything of his own.
        const CLOSED: [&str; 6] = ["nologin", "false", "true", "sync", "shutdown", "halt"];
        let least = self.least_person()?;
        Ok(self.each("nologin or false", |account| {
            let system = account.uid < least || account.uid == NOBODY;
            let program = account.shell.rsplit('/').next().unwrap_or_default();
            (system && account.uid != 0 && !CLOSED.contains(&program)).then(|| match &*account.shell {
                "" => "has the shell /bin/sh".to_owned(),
                shell => format!("has the shell {shell}"),
            })
        }))
    }

    /// The homes of people and of root that are there, one account for each, and on which machine to look at it.
    fn of_people(&self) -> Result<Vec<(&Account, &Host, PathBuf, FileFacts)>, Cannot> {
        let least = self.least_person()?;
        let mut seen = BTreeSet::new();
        let mut homes = Vec::new();
        for account in &self.all {
            let person = account.uid == 0 || (account.uid >= least && account.uid != NOBODY);
            let home = Path::new(&account.home);
            let plain =
                home.is_absolute() && home != Path::new("/") && !account.home.split('/').any(|part| part == "..");
            if !person || !plain || !seen.insert(home) {
                continue;
            }
            let host = self.machine.place(&account.home)?;
            if let Some(facts) = present(home, host.facts(home))? {
                homes.push((*account, host, home.to_owned(), facts));
            }
        }
        Ok(homes)
    }

    fn homes(&self, expected: &str, wrong: impl Fn(&Account, FileFacts) -> Option<String>) -> Result<Verdict, Cannot> {
        let mut amiss = Vec::new();
        for (account, _, home, facts) in self.of_people()? {
            amiss.extend(wrong(account, facts).map(|wrong| format!("{} {wrong}", home.display())));
        }
        Ok(Verdict::of_list(&amiss, expected))
    }

    fn keys(&self) -> Result<Verdict, Cannot> {
        /// More files than anybody has there.
        const FILES: usize = 256;
        let mut amiss = Vec::new();
        for (account, host, home, _) in self.of_people()? {
            let directory = home.join(".ssh");
            let names = text_file::names(host, &directory, FILES + 1)?;
            if names.len() > FILES {
                // One that is left out could be the one that is amiss.
                amiss.push(format!("{} has more than {FILES} files", directory.display()));
            }
            if names.is_empty() {
                continue;
            }
            let mut look = |path: &Path, closed: u32| -> Result<(), Cannot> {
                let Some(facts) = present(path, host.facts(path))? else { return Ok(()) };
                if facts.uid != account.uid && facts.uid != 0 {
                    amiss.push(format!("{} belongs to uid {}", path.display(), facts.uid));
                } else if facts.mode & closed != 0 {
                    amiss.push(format!("{} has mode {:04o}", path.display(), facts.mode));
                }
                Ok(())
            };
            look(&directory, 0o022)?;
            for path in names.iter().map(|name| directory.join(name)) {
                let Some(facts) = present(&path, host.facts(&path))?.filter(|f| f.kind == FileKind::File) else {
                    continue;
                };
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("authorized_keys")) {
                    look(&path, 0o022)?;
                } else if is_private_key(host, &path, facts)? {
                    look(&path, 0o077)?;
                }
            }
        }
        Ok(Verdict::of_list(
            &amiss,
            "the user or root as owner, keys readable by the user only, nothing writable by others",
        ))
    }
}

/// Who has no files.
const NOBODY: u32 = 65_534;

/// DES in either form, and MD5: quickly tried out.
fn is_weak(field: &str) -> bool {
    let des = field.len() == 13 && field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    des || (field.len() == 20 && field.starts_with('_')) || field.starts_with("$1$") || field.starts_with("$md5")
}

pub(super) fn group(machine: &Machine, name: &str, allowed: &[Box<str>]) -> Result<Verdict, Cannot> {
    let groups = machine.groups()?;
    let Some(group) = groups.iter().find(|group| group.name == name) else { return Ok(Verdict::Holds) };
    let primary = machine.accounts()?.iter().filter(|account| account.gid == group.gid).map(|account| &account.name);
    let members: BTreeSet<&String> = group.members.iter().chain(primary).collect();
    let amiss: Vec<String> = members
        .into_iter()
        .filter(|member| !allowed.iter().any(|name| **name == ***member))
        .map(|member| format!("{member} is in the group {name}"))
        .collect();
    let expected = if allowed.is_empty() { "nobody".to_owned() } else { format!("nobody but {}", allowed.join(", ")) };
    Ok(Verdict::of_list(&amiss, &expected))
}
