//! What the process does to itself before it holds a secret.

use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use rustix::thread::set_no_new_privs;

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

/// Nothing that this thread starts, threads and programs, ever has rights that it has not: no set-user-id bit and no
/// capability of a file counts, and a program that root starts gets no more than the capabilities that are left. To be
/// called before there are other threads.
///
/// # Errors
/// Those of `prctl(PR_SET_NO_NEW_PRIVS)`; the agent works without it.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}
