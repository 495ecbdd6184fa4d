//! What the process does to itself before it holds a secret.

use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

/// No core file of this process is ever written, and no other process of the same user can read its memory.
///
/// # Errors
/// Those of `prctl(PR_SET_DUMPABLE)`; the agent works without it.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whatever this process makes from now on, files, directories and sockets, is for its own user only.
pub fn keep_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}
