//! Records of the kernel's programs, and its type information: first byte says which. Whatever the bytes are, nothing
//! panics, and what is read lies inside of them.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use twinward::sys::bpf::record::{Record, decode};
use twinward::sys::btf::{Member, offsets};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        match decode(bytes) {
            Some(Record::Exec(exec)) => {
                let arguments = exec.arguments.map_or(0, <[u8]>::len);
                assert!(arguments + exec.program.len() <= bytes.len());
            }
            Some(Record::Socket(socket)) => {
                assert_eq!(socket.local.is_ipv4(), socket.remote.is_ipv4());
                assert!(bytes.len() >= 88 && socket.pid != Some(0));
            }
            Some(Record::Exit(_) | Record::Closed(_)) | None => {}
        }
    } else {
        let wanted =
            [Member { structure: "task_struct", name: "mm" }, Member { structure: "mm_struct", name: "arg_start" }];
        if let Ok(found) = offsets(Cursor::new(bytes), &wanted) {
            assert_eq!(found.len(), wanted.len());
        }
    }
});
