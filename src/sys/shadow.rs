//! Passwords of the local users, from `/etc/shadow` (`shadow(5)`): one line an account,
//! `name:hash:changed:minimum:maximum:warning:inactive:expires:`, the numbers in days, dates as days since 1970-01-01.
//!
//! What leaves this file is the state of a password. The hash does not: the text is wiped once it is read.

use std::collections::HashMap;
use std::io;

use zeroize::Zeroizing;

use super::host::Host;

/// The file.
pub const PATH: &str = "/etc/shadow";
/// Larger files are cut; a line has about 120 bytes.
const BYTES: usize = 2 << 20;
const LINES: usize = 16_384;
/// A field of `/etc/passwd` that only says that the password stands in `/etc/shadow`.
const ELSEWHERE: [&[u8]; 2] = [b"x", b"*NP*"];

/// What is known of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// There is one.
    Set,
    /// There is one, or there was none, and it is locked: no password opens the account.
    Locked,
    /// The account opens without one.
    Empty,
    /// No password opens the account, and none is kept for it.
    None,
    /// `/etc/passwd` leaves it to `/etc/shadow`.
    Elsewhere,
}

impl Password {
    /// The state of a password field of `/etc/passwd`, where old systems keep the hash.
    #[must_use]
    pub fn of_passwd(field: &[u8]) -> Self {
        if ELSEWHERE.contains(&field) { Self::Elsewhere } else { Self::of_shadow(field) }
    }

    /// The state of a password field of `/etc/shadow`. A `!` in front locks what follows it.
    #[must_use]
    pub fn of_shadow(field: &[u8]) -> Self {
        let locks = field.iter().take_while(|byte| **byte == b'!').count();
        let (locked, rest) = (locks > 0, field.get(locks..).unwrap_or_default());
        match (locked, rest) {
            (false, []) => Self::Empty,
            (true, []) => Self::Locked,
            (_, rest) if !is_hash(rest) => Self::None,
            (true, _) => Self::Locked,
            (false, _) => Self::Set,
        }
    }
}

/// Whether `crypt(5)` could have made the text: `$` or `_` in front, or the 13 letters of DES or more.
fn is_hash(text: &[u8]) -> bool {
    let of_des = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    text.starts_with(b"$") || text.starts_with(b"_") || (text.len() >= 13 && text.iter().all(of_des))
}

/// What the file says of one account. Days are since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its password.
    pub password: Password,
    /// The day of its last change; 0: it must be changed at the next login.
    pub changed: Option<u32>,
    /// After so many days it must be changed.
    pub maximum: Option<u32>,
    /// The day from which on the account is closed.
    pub expires: Option<u32>,
}

/// Reads the entries by the name of the account.
///
/// # Errors
/// `NotFound`: this system has no such file; `PermissionDenied`: we lack CAP_DAC_READ_SEARCH.
pub fn read(host: &Host) -> io::Result<HashMap<Box<str>, Entry>> {
    Ok(parse(&Zeroizing::new(host.read(PATH, BYTES)?)))
}

/// The entries in the bytes of the file, of several with one name the first; lines that cannot be read are left out.
#[must_use]
pub fn parse(bytes: &[u8]) -> HashMap<Box<str>, Entry> {
    let mut entries = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(LINES) {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(field)) = (fields.next(), fields.next()) else { continue };
        let days = |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.trim().parse().ok();
        let entry = Entry {
            password: Password::of_shadow(field),
            changed: days(fields.next()),
            maximum: days(fields.nth(1)),
            expires: days(fields.nth(2)),
        };
        entries.entry(String::from_utf8_lossy(name).into()).or_insert(entry);
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_tells_the_state_of_the_password() {
        for (field, state) in [
            ("$6$salt$hash", Password::Set),
            ("$y$j9T$salt$hash", Password::Set),
            ("_J9..rasmBYk8r9AiWNc", Password::Set),
            ("aaX2fEwVxPGmo", Password::Set),
            ("", Password::Empty),
            ("!", Password::Locked),
            ("!!", Password::Locked),
            ("!$6$salt$hash", Password::Locked),
            ("!aaX2fEwVxPGmo", Password::Locked),
            ("*", Password::None),
            ("!*", Password::None),
            ("*LK*", Password::None),
            ("x", Password::None),
            ("short", Password::None),
        ] {
            assert_eq!(Password::of_shadow(field.as_bytes()), state, "{field}");
        }
        assert_eq!(Password::of_passwd(b"x"), Password::Elsewhere);
        assert_eq!(Password::of_passwd(b""), Password::Empty);
        assert_eq!(Password::of_passwd(b"*"), Password::None);
    }

    #[test]
    fn days_are_read_where_they_stand() {
        let entries = parse(b"root:$6$a$b:19000:0:90:7:14:20000:\npi:!:0:::::-1:\n\nbroken\nroot::1::::::\n");
        let root = Entry { password: Password::Set, changed: Some(19000), maximum: Some(90), expires: Some(20000) };
        let pi = Entry { password: Password::Locked, changed: Some(0), maximum: None, expires: None };
        assert_eq!((entries.len(), entries["root"], entries["pi"]), (2, root, pi));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_hash_is_in_what_is_kept(hash in "[$][0-9a-z]{1,2}[$][./0-9A-Za-z]{20,86}", lock in "!{0,2}") {
            let entries = parse(format!("pi:{lock}{hash}:19000:0:99999:7:::\n").as_bytes());
            let shown = format!("{entries:?}");
            prop_assert!(!shown.contains(&hash[3..]));
            let state = if lock.is_empty() { Password::Set } else { Password::Locked };
            prop_assert_eq!(entries["pi"].password, state);
        }
    }
}
