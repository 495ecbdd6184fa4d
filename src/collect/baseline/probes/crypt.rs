//! Whether a hash of `/etc/shadow` is that of a known password (`crypt(5)`): `$5$` and `$6$`, with `rounds=N$` perhaps,
//! then the salt, `$` and the digest in 64 letters, three bytes in four of them in an order of their own.

use sha_crypt::Params;
use zeroize::Zeroizing;

use super::super::machine::Machine;

/// More rounds would take too long on a small board.
const ROUNDS: u32 = 10_000;
/// What `crypt(3)` takes if nothing is said, and at least.
const PLAIN_ROUNDS: u32 = 5_000;
const LEAST_ROUNDS: u32 = 1_000;

/// Whether the hash is that of this password; `None` if that cannot be told: another kind of hash, too many rounds, or
/// enough was tried in this run.
pub(super) fn matches(machine: &Machine, hash: &str, password: &str) -> Option<bool> {
    let (kind, rest) = hash.strip_prefix('$')?.split_once('$')?;
    let (rounds, rest) = match rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$')) {
        Some((rounds, rest)) => (rounds.parse::<u32>().ok()?.max(LEAST_ROUNDS), rest),
        None => (PLAIN_ROUNDS, rest),
    };
    let (salt, digest) = rest.split_once('$')?;
    let params = Params::new(rounds).ok().filter(|_| rounds <= ROUNDS)?;
    if !matches!((kind, digest.len()), ("5", 43) | ("6", 86)) || !machine.may_try() {
        return None;
    }
    let made = if kind == "5" {
        let made = Zeroizing::new(sha_crypt::sha256_crypt(password.as_bytes(), salt.as_bytes(), params));
        letters(&*made, 10, 2)
    } else {
        let made = Zeroizing::new(sha_crypt::sha512_crypt(password.as_bytes(), salt.as_bytes(), params));
        letters(&*made, 21, 1)
    };
    Some(*made == *digest)
}

/// The digest as it is written. Its bytes go in threes, each `step` apart, the first of them in turn; `turn` says which
/// way the turn goes round.
fn letters(digest: &[u8], step: usize, turn: usize) -> Zeroizing<String> {
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut text = Zeroizing::new(String::with_capacity(88));
    for at in 0..step {
        let three = [at, at + step, at + 2 * step];
        let of = |n: usize| byte(three.get((n + at * turn) % 3).copied().unwrap_or_default());
        push(&mut text, of(0) << 16 | of(1) << 8 | of(2), 4);
    }
    match digest {
        [.., last] if digest.len() == 64 => push(&mut text, u32::from(*last), 2),
        _ => push(&mut text, byte(31) << 8 | byte(30), 3),
    }
    text
}

fn push(text: &mut String, mut bits: u32, letters: usize) {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..letters {
        let letter = usize::try_from(bits & 63).ok().and_then(|at| LETTERS.get(at));
        text.extend(letter.map(|byte| char::from(*byte)));
        bits >>= 6;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::host::Host;

    const SHA256: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    const SHA512: &str =
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    /// What follows `$5$rounds=1000$saltstring$` in the hash of a password.
    pub(in super::super) fn digest(password: &str) -> String {
        let made = sha_crypt::sha256_crypt(password.as_bytes(), b"saltstring", Params::new(1000).unwrap());
        letters(&made, 10, 2).to_string()
    }

    #[test]
    fn published_hashes_are_verified() {
        let host = Host::rooted("/nowhere");
        let machine = Machine::new(&host);
        for hash in [SHA256, SHA512] {
            assert_eq!(matches(&machine, hash, "Hello world!"), Some(true), "{hash}");
            assert_eq!(matches(&machine, hash, "hello world!"), Some(false), "{hash}");
        }
        let few = format!("$5$rounds=10$salt${}", "a".repeat(43));
        assert_eq!(matches(&machine, &few, "a"), Some(false), "as many as the least");
    }

    #[test]
    fn what_cannot_be_told_is_not_judged_and_the_tries_end() {
        let host = Host::rooted("/nowhere");
        let machine = Machine::new(&host);
        let many = SHA512.replace("$6$", "$6$rounds=10001$");
        for hash in ["", "*", "!", "x", "$1$a$b", "$y$j9T$a$b", "$6$a", "$6$a$b", &many, "$6$rounds=x$a$b"] {
            assert_eq!(matches(&machine, hash, "a"), None, "{hash}");
        }
        let short = "$5$rounds=1000$a$".to_owned() + &"b".repeat(43);
        assert_eq!((0..30).filter(|_| matches(&machine, &short, "a").is_some()).count(), 12);
    }

    proptest! {
        #[test]
        fn any_hash_is_survived(hash in "\\$[56y1]\\$[a-z=0-9$./]{0,60}") {
            let host = Host::rooted("/nowhere");
            let _ = matches(&Machine::new(&host), &hash, "a");
        }
    }
}
