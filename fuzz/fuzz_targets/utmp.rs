//! Login records: what is read is bounded, and nothing but whole records is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::collect::logins::records::{Refusals, Sessions};
use twinward::sys::utmp::Layout;

fuzz_target!(|bytes: &[u8]| {
    let layout = Layout::detect(bytes);
    let (mut sessions, mut refusals) = (Sessions::default(), Refusals::default());
    for chunk in bytes.chunks(layout.size()) {
        let Some(record) = layout.read(chunk) else { continue };
        assert_eq!(chunk.len(), layout.size());
        // A byte that is no UTF-8 becomes three.
        assert!(record.user.len() <= 3 * 32 && record.host.len() <= 3 * 256);
        if let Some(sighting) = refusals.take(&record, |name| name == "pi") {
            assert!(sighting.said.user.is_none_or(|user| !user.is_empty()));
        }
        sessions.take(record);
    }
});
