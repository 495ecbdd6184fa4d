//! The kernel's notices about devices, up to the record of what came and went. Whatever the bytes are, nothing panics,
//! and only paths of devices are taken.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use twinward::collect::hardware::Recorder;
use twinward::model::time::{Mono, Now, Timestamp};
use twinward::sys::host::Host;
use twinward::sys::uevent::decode;

fuzz_target!(|data: &[u8]| {
    let recorder: Arc<Recorder> = Arc::default();
    let writer = recorder.begin();
    let host = Host::rooted("/nonexistent");
    let wall = Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH);
    // A row of notices, 0xff between two of them: no text has that byte.
    for (second, notice) in (0_u64..).zip(data.split_inclusive(|byte| *byte == 0xff)) {
        let Some(told) = decode(notice) else { continue };
        assert!(told.path.starts_with("/devices/") && !told.path.contains("/../"));
        let now = Now { wall, mono: Mono::from_boot(std::time::Duration::from_secs(second)) };
        writer.notice(&host, &told, now);
    }
});
