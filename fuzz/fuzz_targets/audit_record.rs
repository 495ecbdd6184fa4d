//! Audit records, one a line: two bytes say which type, then its text. Whatever they say, what is put together of them is
//! bounded, and everything that was begun ends.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twinward::model::time::Mono;
use twinward::sys::audit::assemble::{Assembler, EOE, EXECVE, Happened, PROCTITLE, SOCKADDR, SYSCALL, TITLE};
use twinward::sys::audit::rule::Listed;

const KEPT: usize = 4097;

fn check(happened: &Happened) {
    match happened {
        Happened::Exec { arguments, length, .. } => {
            assert!(arguments.len() <= KEPT);
            assert!(length.is_none_or(|length| length >= arguments.len() as u64));
        }
        Happened::Connection(connection) => assert!(connection.title.len() <= TITLE),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::new(KEPT);
    let now = Mono::from_boot(Duration::from_secs(1));
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some((kind, body)) = line.split_first() else { continue };
        let kinds = [SYSCALL, EXECVE, SOCKADDR, PROCTITLE, EOE];
        let kind = kinds[usize::from(*kind) % kinds.len()];
        assembler.take(kind, body, now).iter().for_each(check);
    }
    let later = now.after(Duration::from_secs(60));
    while let Some(happened) = assembler.expired(later) {
        check(&happened);
    }
    assert_eq!(assembler.patience(later), None);
    let listed = Listed { bytes: data.to_vec() };
    let _ = (listed.filter(), listed.action(), listed.key(), listed.fields().count());
});
