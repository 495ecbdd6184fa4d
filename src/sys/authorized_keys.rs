//! The keys that open an account by SSH, from `.ssh/authorized_keys` and `.ssh/authorized_keys2` in its home
//! (`sshd(8)`): one key a line, `[options] type base64 [comment]`; options are apart by commas, and blanks in them stand
//! between quotes. Blank lines and those that start with `#` are none. Keys are counted, not kept.

use std::io::{self, Read};

use super::host::{FileKind, Host};

const FILES: [&str; 2] = ["authorized_keys", "authorized_keys2"];
/// Larger files are counted so far only; a key has 80 to 800 bytes.
const BYTES: usize = 256 * 1024;
/// How the names of the types of keys start; certificates have the same.
const TYPES: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"];
/// How the base64 of each key starts: with the length of the name of its type, which is less than 2^16.
const START: &str = "AAAA";

/// The keys of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// How many there are.
    pub count: usize,
    /// Whether a file was so long that it was not read to its end.
    pub cut: bool,
}

/// Counts the keys in a home, which must be there.
///
/// # Errors
/// `NotFound`: there is no such home; else those of reading.
pub fn count(host: &Host, home: &str) -> io::Result<Keys> {
    if host.facts(home)?.kind != FileKind::Directory {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut keys = Keys::default();
    for name in FILES {
        let path = format!("{home}/.ssh/{name}");
        // Its owner chooses what stands there. A device must not even be opened: that alone can have an effect.
        match host.facts(&path) {
            Ok(facts) if facts.kind == FileKind::File => {
                let mut bytes = Vec::new();
                host.regular(&path)?.take(BYTES as u64).read_to_end(&mut bytes)?;
                let text = String::from_utf8_lossy(&bytes);
                keys.count += text.lines().filter(|line| is_key(line)).count();
                keys.cut |= text.len() >= BYTES;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // A link to a place that we are not shown could hold keys all the same.
            Err(_) if host.link_facts(&path).is_ok() => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => {}
        }
    }
    Ok(keys)
}

/// Whether a line is a key.
#[must_use]
pub fn is_key(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with('#') {
        return false;
    }
    starts_with_key(line) || starts_with_key(after_options(line))
}

fn starts_with_key(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return false };
    TYPES.iter().any(|start| kind.starts_with(start)) && base64.starts_with(START)
}

/// What follows the first blank that is not between quotes; `\"` is no quote.
fn after_options(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b' ' | b'\t' if !quoted => return line.get(at..).unwrap_or_default(),
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    ""
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::files::write_atomic;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ pi@board";

    #[test]
    fn a_key_may_have_options() {
        for line in [
            KEY,
            "  \tssh-rsa AAAAB3NzaC1yc2E",
            "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNr",
            "no-pty,command=\"/bin/echo \\\"a b\\\" c\" ecdsa-sha2-nistp256 AAAAE2Vj",
            "cert-authority ssh-rsa AAAAB3",
        ] {
            assert!(is_key(line), "{line}");
        }
        for line in ["", "#ssh-rsa AAAA", "ssh-rsa", "ssh-rsa BBBB", "command=\"a ssh-rsa AAAA", "hello there AAAA"] {
            assert!(!is_key(line), "{line}");
        }
    }

    #[test]
    fn both_files_are_counted_and_nothing_but_files_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        assert_eq!(count(&host, "/home/pi").unwrap_err().kind(), io::ErrorKind::NotFound);
        let ssh = root.path().join("home/pi/.ssh");
        create_dir_all(&ssh).unwrap();
        assert_eq!(count(&host, "/home/pi").unwrap(), Keys::default());
        write_atomic(&ssh.join("authorized_keys"), format!("{KEY}\n\n# {KEY}\n{KEY}\n").as_bytes(), 0o600).unwrap();
        write_atomic(&ssh.join("authorized_keys2"), KEY.as_bytes(), 0o600).unwrap();
        assert_eq!(count(&host, "/home/pi").unwrap(), Keys { count: 3, cut: false });
        let long = format!("{KEY}\n").repeat(BYTES / KEY.len());
        write_atomic(&ssh.join("authorized_keys"), long.as_bytes(), 0o600).unwrap();
        std::fs::remove_file(ssh.join("authorized_keys2")).unwrap();
        symlink(".", ssh.join("authorized_keys2")).unwrap();
        let keys = count(&host, "/home/pi").unwrap();
        assert!(keys.cut && keys.count > 4000, "{keys:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}") {
            let _ = is_key(&text);
        }

        #[test]
        fn options_do_not_hide_a_key(options in "[a-z-]{1,10}=\"[ -!#-\\[\\]-~]{0,30}\"") {
            let line = format!("{options} {KEY}");
            prop_assert!(is_key(&line));
        }
    }
}
