//! LocalUsers: the accounts of `/etc/passwd`, with their groups, the state of their password (never the password), and
//! how many SSH keys open them; if it is asked for, those of the name service too.

mod groups;
mod name_service;

use std::collections::{HashMap, HashSet};
use std::io;

use groups::Groups;

use super::snapshot::Found;
use crate::model::payload::{ExtraDetails, LocalUser, Payload};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::passwd::{self, Account};
use crate::sys::shadow::{self, Password};
use crate::sys::{authorized_keys, group};

/// More accounts than a board has; the rest is left out, and said so.
const ACCOUNTS: usize = 4096;
/// So many names of others with the same user id are told.
const NAMESAKES: usize = 16;
/// Longer texts of an account are cut; a path has at most this many bytes.
const TEXT: usize = 4096;
/// From so many days on a password is meant to be good for ever: `99999` is what distributions write.
const FOR_EVER: u32 = 10_000;

pub(super) fn collect(host: &Host, clock: &dyn Clock, name_service: bool) -> Found {
    let text = match passwd::read(host) {
        Ok(text) => text,
        Err(error) => return Found::unavailable(passwd::PATH, format!("{}: {error}", passwd::PATH)),
    };
    let mut missing = Vec::new();
    let group_text = group::read(host).unwrap_or_else(|error| {
        missing.push(format!("the groups have no names: {}: {error}", group::PATH));
        String::new()
    });
    let told = if name_service { name_service::ask(host, clock, &mut missing) } else { name_service::Told::default() };

    let mut groups = Groups::default();
    group::groups(&group_text).chain(group::groups(&told.groups)).for_each(|group| groups.add(group));
    let (users, counts) = users(&text, &told.accounts);
    let mut sight = Sight { host, shadow: shadow::read(host), unknown_passwords: 0, closed: 0, long: 0 };
    let names = Names::of(&users);
    let items = users.iter().map(|user| Payload::LocalUser(item(user, &groups, &names, &mut sight))).collect();

    counts.tell(&mut missing);
    sight.tell(&mut missing);
    for (path, cut) in [(passwd::PATH, text.len() >= passwd::BYTES), (group::PATH, group_text.len() >= group::BYTES)] {
        if cut {
            missing.push(format!("{path} is longer than 1 MiB: the rest is left out"));
        }
    }
    if groups.left_out > 0 {
        missing.push(format!("{} more memberships in groups are left out", groups.left_out));
    }
    let source = if name_service { "/etc/passwd and the name service" } else { passwd::PATH };
    Found { items, source: source.to_owned(), missing, ..Found::default() }
}

/// An account, and who knows it.
struct User<'a> {
    account: Account<'a>,
    /// Whether only the name service knows it.
    elsewhere: bool,
}

/// What is no item.
#[derive(Default)]
struct Counts {
    broken: usize,
    left_out: usize,
}

/// The local accounts in the order of their file, then those that only the name service knows.
fn users<'a>(local: &'a str, told: &'a str) -> (Vec<User<'a>>, Counts) {
    let (mut users, mut counts) = (Vec::new(), Counts::default());
    let mut known: HashSet<(&str, u32)> = HashSet::new();
    let both = [(local, false), (told, true)].into_iter();
    for (line, elsewhere) in both.flat_map(|(text, elsewhere)| passwd::accounts(text).map(move |a| (a, elsewhere))) {
        match line {
            None => counts.broken += usize::from(!elsewhere),
            Some(account) if elsewhere && known.contains(&(account.name, account.uid)) => {}
            Some(_) if users.len() == ACCOUNTS => counts.left_out += 1,
            Some(account) => {
                known.insert((account.name, account.uid));
                users.push(User { account, elsewhere });
            }
        }
    }
    (users, counts)
}

impl Counts {
    fn tell(&self, missing: &mut Vec<String>) {
        if self.broken > 0 {
            missing.push(format!("{} line(s) of {} are no account", self.broken, passwd::PATH));
        }
        if self.left_out > 0 {
            missing.push(format!("{} more accounts are left out", self.left_out));
        }
    }
}

/// The names by user id.
struct Names<'a>(HashMap<u32, Vec<&'a str>>);

impl<'a> Names<'a> {
    fn of(users: &[User<'a>]) -> Self {
        let mut names: HashMap<u32, Vec<&str>> = HashMap::new();
        for User { account, .. } in users {
            let same = names.entry(account.uid).or_default();
            if same.len() <= NAMESAKES && !same.contains(&account.name) {
                same.push(account.name);
            }
        }
        Self(names)
    }

    /// The others that have the user id of this account.
    fn beside(&self, account: &Account<'_>) -> String {
        let same = self.0.get(&account.uid).map(Vec::as_slice).unwrap_or_default();
        same.iter().copied().filter(|name| *name != account.name).take(NAMESAKES).collect::<Vec<_>>().join(";")
    }
}

/// What stands beside the list of accounts, and how much of it we were not shown.
struct Sight<'a> {
    host: &'a Host,
    shadow: io::Result<HashMap<Box<str>, shadow::Entry>>,
    unknown_passwords: usize,
    closed: usize,
    long: usize,
}

impl Sight<'_> {
    fn tell(&self, missing: &mut Vec<String>) {
        if let (Err(error), 1..) = (&self.shadow, self.unknown_passwords) {
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied => "; CAP_DAC_READ_SEARCH allows it",
                _ => "",
            };
            let count = self.unknown_passwords;
            missing.push(format!("the state of {count} password(s) is unknown: {}: {error}{help}", shadow::PATH));
        }
        if self.closed > 0 {
            missing.push(format!(
                "the SSH keys of {} account(s) are not counted: their homes are closed to us; CAP_DAC_READ_SEARCH \
                 opens them, unless the unit hides them (ProtectHome=)",
                self.closed
            ));
        }
        if self.long > 0 {
            missing.push(format!("the SSH keys of {} account(s) are more than were counted", self.long));
        }
    }

    /// The state of the password in a word, and its entry.
    fn password(&mut self, user: &User<'_>) -> (&'static str, Option<shadow::Entry>) {
        let Account { name, password, .. } = user.account;
        let (state, entry) = match (&self.shadow, password) {
            // The name service says `x` or `*`, whatever the directory has.
            _ if user.elsewhere => return ("unknown", None),
            (Ok(entries), Password::Elsewhere) => {
                let entry = entries.get(name).copied();
                (entry.map_or(Password::None, |entry| entry.password), entry)
            }
            (Err(_), Password::Elsewhere) => {
                self.unknown_passwords += 1;
                return ("unknown", None);
            }
            (_, state) => (state, None),
        };
        let word = match state {
            Password::Set => "set",
            Password::Locked => "locked",
            Password::Empty => "empty",
            Password::None => "none",
            Password::Elsewhere => "unknown",
        };
        (word, entry)
    }

    /// How many SSH keys open the account; `None` if we may not look, or there is no home to look into.
    fn keys(&mut self, account: &Account<'_>) -> Option<usize> {
        if !account.home.starts_with('/') || account.home.len() > TEXT {
            return None;
        }
        if self.is_hidden(account.home) {
            self.closed += 1;
            return None;
        }
        match authorized_keys::count(self.host, account.home) {
            Ok(keys) => {
                self.long += usize::from(keys.cut);
                Some(keys.count)
            }
            Err(error) => {
                self.closed += usize::from(error.kind() == io::ErrorKind::PermissionDenied);
                None
            }
        }
    }

    /// Whether a sandbox has put an empty directory over `/home` or `/root`: nobody else makes one with mode 0000.
    fn is_hidden(&self, home: &str) -> bool {
        let top = home.trim_start_matches('/').split('/').next().unwrap_or_default();
        matches!(top, "home" | "root") && self.host.facts(format!("/{top}")).is_ok_and(|facts| facts.mode == 0)
    }
}

fn item(user: &User<'_>, groups: &Groups<'_>, names: &Names<'_>, sight: &mut Sight<'_>) -> LocalUser {
    let account = &user.account;
    let membership = groups.of(account.name, account.gid);
    let (password, entry) = sight.password(user);
    // The homes of a directory may be mounted only when somebody looks into them.
    let keys = if user.elsewhere { None } else { sight.keys(account) };
    let given = |text: &str| (!text.is_empty()).then(|| clipped(text).to_owned());
    let yes = |is: bool| is.then(|| "true".to_owned());
    let good_until = |entry: shadow::Entry| {
        let (changed, maximum) = (entry.changed.filter(|day| *day > 0)?, entry.maximum.filter(|n| *n < FOR_EVER)?);
        date(changed.checked_add(maximum)?)
    };
    let details: ExtraDetails = [
        ("Home", given(account.home)),
        // An empty field stands for this one (passwd(5)).
        ("Shell", given(account.shell).or_else(|| Some("/bin/sh".to_owned()))),
        ("Password", Some(password.to_owned())),
        ("LastChange", entry.and_then(|e| e.changed).filter(|day| *day > 0).and_then(date)),
        ("MustChange", yes(entry.is_some_and(|e| e.changed == Some(0)))),
        ("PasswordExpires", entry.and_then(good_until)),
        ("AccountExpires", entry.and_then(|e| e.expires).and_then(date)),
        ("Root", yes(account.uid == 0 && account.name != "root")),
        ("SharesUidWith", given(&names.beside(account))),
        ("Privileged", given(&membership.privileged)),
        ("SshKeys", keys.map(|count| count.to_string())),
        ("Source", user.elsewhere.then(|| "name service".to_owned())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect();
    LocalUser {
        user_id: account.uid.to_string(),
        user_name: account.name.to_owned(),
        group_ids: membership.ids,
        group_names: membership.names,
        extra_details: details,
    }
}

fn clipped(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT)).unwrap_or(text)
}

/// `YYYY-MM-DD` of a day since 1970-01-01; `None` beyond the year 9999.
fn date(day: u32) -> Option<String> {
    let span = jiff::Span::new().try_days(i64::from(day)).ok()?;
    Some(jiff::civil::date(1970, 1, 1).checked_add(span).ok()?.to_string())
}

#[cfg(test)]
mod tests;
