//! What the process does to itself before it holds a secret.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// No core file of this process is ever written, and no other process of the same user can read its memory.
///
/// # Errors
/// Those of `prctl(PR_SET_DUMPABLE)`; the agent works without it.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
