//! What the name service (`nsswitch.conf(5)`) lists: local files, and whatever directory the machine is joined to.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::programs::{self, Limits, Program, ProgramError};

/// A directory that is away must not hold up the snapshot; there are two questions.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), output: 1 << 20 };

/// What it said, in the form of the files.
#[derive(Default)]
pub(super) struct Told {
    /// As `/etc/passwd`; wiped when dropped, as old directories give the hashes.
    pub(super) accounts: Zeroizing<String>,
    /// As `/etc/group`.
    pub(super) groups: String,
}

/// Asks for all accounts, and if there is an answer, for all groups.
pub(super) fn ask(host: &Host, clock: &dyn Clock, missing: &mut Vec<String>) -> Told {
    let list = |words| {
        let output = programs::run(host, clock, Program::Getent, words, LIMITS)?;
        let text = String::from_utf8(output).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok::<_, ProgramError>(text)
    };
    let mut told = Told::default();
    let answer = list(&["passwd"]).and_then(|accounts| {
        told.accounts = Zeroizing::new(accounts);
        told.groups = list(&["group"])?;
        Ok(())
    });
    if let Err(error) = answer {
        missing.push(format!("the name service did not tell all it knows: {error}"));
    }
    told
}
