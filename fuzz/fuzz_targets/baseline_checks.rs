//! Files that OSBaseline reads; the first byte says which: a file of checks, the accounts, or lists of the kernel and of
//! mounts. Whatever the bytes are, nothing panics, problems are bounded, and the checks that are read can be made.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use twinward::collect::baseline;
use twinward::sys::host::Host;
use twinward::sys::{account_files, kernel_modules, mounts, sshd_config, sysctl};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 3 {
        0 => {
            let parsed = baseline::parse("fuzz.toml", bytes, true, &mut BTreeSet::new());
            assert!(parsed.problems.len() <= 51);
            let ids: BTreeSet<_> = parsed.checks.iter().map(|check| &check.id).collect();
            assert_eq!(ids.len(), parsed.checks.len(), "each id once");
            let report = baseline::run_file(&Host::rooted("/nowhere"), "fuzz.toml", bytes, |_| true);
            assert_eq!(report.results.len(), parsed.checks.len());
        }
        1 => {
            let accounts = account_files::parse_accounts(&text);
            assert!(accounts.iter().all(|account| !account.name.is_empty()));
            let _ = account_files::parse_groups(&text);
            assert!(account_files::parse_shadow(bytes).len() <= bytes.len());
        }
        _ => {
            let _ = sysctl::set_in(&text, "net.ipv4.conf.all.rp_filter");
            let _ = kernel_modules::refuses(&text, "dccp");
            let _ = sshd_config::seconds(&text);
            let _ = mounts::mounted_at(bytes, Path::new("/tmp"));
            let _ = mounts::planned_at(bytes, Path::new("/tmp"));
        }
    }
});
