//! Journal files: reading ends, whatever they hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::collect::logins::entries::{self, QUERY};
use twinward::sys::journal::Journal;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut journal) = Journal::open(bytes, QUERY) else { return };
    let sequence = bytes.first().copied().unwrap_or(0);
    let _ = journal.skip_to(u64::from(sequence));
    let mut patience = 256;
    while journal.has_more() && patience > 0 {
        let before = patience;
        match journal.next(&mut patience) {
            Ok(Some(entry)) => {
                let _ = entries::read(&entry);
            }
            Ok(None) => {}
            Err(_) if patience == before => break,
            Err(_) => {}
        }
        assert!(patience < before, "it gets on");
    }
});
