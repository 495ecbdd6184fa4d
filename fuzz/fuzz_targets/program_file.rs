//! What fanotify is told with: beginnings of programs, and the table of mounts; the first byte says which. Whatever the
//! bytes are, nothing panics, and what is read is not longer than they are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::sys::mounts::{MOUNT_LIMIT, parse};
use twinward::sys::program_file::Kind;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        if let Kind::Script { interpreter } = Kind::of(bytes) {
            assert!(bytes.starts_with(b"#!") && !interpreter.is_empty());
            // A byte that is no text is shown as three.
            assert!(interpreter.len() <= 3 * bytes.len() && !interpreter.contains([' ', '\t', '\n', '\0']));
        }
    } else {
        let mounts = parse(bytes);
        assert!(mounts.len() <= MOUNT_LIMIT.min(bytes.len()));
        for mount in mounts {
            assert!(mount.point.as_os_str().len() <= bytes.len());
            let _ = mount.programs();
        }
    }
});
