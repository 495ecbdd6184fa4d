//! Names that tell a secret. Compared without letter case, `-`, `_` and `.`: `DB_PASSWORD`, `--db-password` and
//! `db.password` are one.

/// A name that ends with one of these.
const ENDINGS: [&str; 20] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accountkey",
    "authkey",
    "masterkey",
    "signingkey",
    "encryptionkey",
    "credential",
    "credentials",
    "connectionstring",
    "sharedaccesssignature",
    "pwd",
    "psk",
];

/// A name whose last part, between `-`, `_` and `.`, is one of these.
const LAST_PARTS: [&str; 4] = ["pass", "pin", "passcode", "pw"];

/// The names of directories, in a shell's own writing.
const DIRECTORIES: [&str; 2] = ["PWD", "OLDPWD"];

/// The names that tell a secret.
#[derive(Clone, Debug)]
pub(super) struct Names {
    more: Vec<String>,
}

impl Names {
    /// The built-in names, and these.
    pub(super) fn new<'a>(more: impl IntoIterator<Item = &'a str>) -> Self {
        Self { more: more.into_iter().map(|name| plain(name).collect()).filter(|n: &String| !n.is_empty()).collect() }
    }

    /// Whether this name tells a secret.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        if name.len() < 2 || DIRECTORIES.contains(&name) {
            return false;
        }
        let ends_with = |ending: &str| {
            let mut letters = name.bytes().rev().filter(|b| !is_joint(*b)).map(|b| b.to_ascii_lowercase());
            ending.bytes().rev().all(|wanted| letters.next() == Some(wanted))
        };
        let last = name.rsplit(is_joint_char).next().unwrap_or(name);
        ENDINGS.into_iter().any(ends_with)
            || self.more.iter().any(|more| ends_with(more))
            || LAST_PARTS.iter().any(|part| last.eq_ignore_ascii_case(part))
    }
}

const fn is_joint(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.')
}

const fn is_joint_char(c: char) -> bool {
    matches!(c, '-' | '_' | '.')
}

fn plain(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !is_joint_char(*c)).map(|c| c.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_their_ends() {
        let names = Names::new(["Hotel-Code", ""]);
        for secret in [
            "password",
            "DB_PASSWORD",
            "db-password",
            "db.Password",
            "MYSQL_PWD",
            "SharedAccessKey",
            "AccountKey",
            "auth_token",
            "AWS_SECRET_ACCESS_KEY",
            "DB_PASS",
            "pass",
            "client-secret",
            "hotelcode",
            "my_hotel_code",
        ] {
            assert!(names.is_secret(secret), "{secret}");
        }
        for plain in [
            "PWD",
            "OLDPWD",
            "bypass",
            "compass",
            "key",
            "SharedAccessKeyName",
            "token-file",
            "password-stdin",
            "p",
            "",
            "spin",
            "keyring",
            "secretary",
        ] {
            assert!(!names.is_secret(plain), "{plain}");
        }
    }
}
