//! Command lines and what `/proc` says of a process: the masking survives any arguments, leaves what has no secret as it
//! is, and never grows beyond a mask for each secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::collect::redact::{MASK, Redactor};
use twinward::sys::proc_event;
use twinward::sys::procfs::{Stat, parse_user};

fuzz_target!(|data: &[u8]| {
    let _ = proc_event::decode(data);
    let text = String::from_utf8_lossy(data);
    let _ = (Stat::parse(&text), parse_user(&text));
    let arguments: Vec<&str> = text.split('\0').collect();
    let plain = arguments.join(" ");
    let line = Redactor::new(["room-code"]).join(arguments.iter().copied(), data.len() % 2 == 0);
    assert!(line.text.len() <= plain.len() + line.masked * MASK.len());
    if line.masked == 0 {
        assert_eq!(line.text, plain);
    }
});
