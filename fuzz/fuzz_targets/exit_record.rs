//! The kernel's exit records, in each layout. Whatever the bytes are, nothing panics, and what is read stands in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::sys::exit_record::{FIRST_VERSION, Layout, decode, version};

fuzz_target!(|data: &[u8]| {
    for layout in Layout::KNOWN {
        let Some(ended) = decode(data, layout) else { continue };
        assert!(version(data).is_some_and(|version| version >= FIRST_VERSION));
        assert!(data.windows(4).any(|bytes| bytes == ended.pid.to_ne_bytes()));
        assert_eq!(layout.fits(data, ended.pid), ended.thread == ended.pid);
    }
});
