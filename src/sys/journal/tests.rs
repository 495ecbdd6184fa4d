use proptest::prelude::*;

use super::*;

const COMPACT_FILE: &[u8] = include_bytes!("../../../tests/fixtures/journal/compact.journal");
const WIDE_FILE: &[u8] = include_bytes!("../../../tests/fixtures/journal/wide.journal");

const QUERY: Query = Query {
    fields: &["SYSLOG_IDENTIFIER", "MESSAGE", "SYSLOG_PID", "_UID"],
    wanted: |name| name == b"sshd" || name == b"sudo",
};

fn rest<B: Bytes>(journal: &mut Journal<B>) -> Vec<Entry> {
    let mut patience = 10_000;
    let mut entries = Vec::new();
    while let Some(entry) = journal.next(&mut patience).unwrap() {
        entries.push(entry);
    }
    assert!(patience > 0);
    entries
}

#[test]
fn both_formats_give_the_wanted_entries_in_order() {
    for (file, compact) in [(COMPACT_FILE, true), (WIDE_FILE, false)] {
        let mut journal = Journal::open(file, QUERY).unwrap();
        assert_eq!(journal.is_compact(), compact);
        let header = *journal.header();
        let entries = rest(&mut journal);
        assert!(!journal.has_more() && !journal.look().unwrap());
        let [accepted, failed, long, sudo, closed] = entries.as_slice() else { panic!("{entries:?}") };
        let text = |entry: &Entry, place| entry.text(place).unwrap_or_default();
        assert_eq!(text(accepted, 1), "Accepted password for pi from 192.0.2.7 port 50022 ssh2");
        assert_eq!((text(accepted, 0).as_str(), text(accepted, 2).as_str()), ("sshd", "812"));
        assert_eq!(text(accepted, 3), "0");
        assert_eq!(text(failed, 1), "Failed password for invalid user admin from 192.0.2.8 port 50023 ssh2");
        // What is compressed is not read, and the entry is there all the same.
        assert_eq!((text(long, 0).as_str(), &long.fields[1]), ("sshd", &None));
        assert_eq!(text(sudo, 1), "      pi : TTY=pts/0 ; PWD=/home/pi ; USER=root ; COMMAND=/bin/ls");
        assert_eq!(text(closed, 1), "pam_unix(sshd:session): session closed for user pi");
        assert!(entries.windows(2).all(|pair| pair[0].sequence < pair[1].sequence && pair[0].at <= pair[1].at));
        assert!(header.from <= accepted.at && closed.at <= header.until);
        assert!(header.first <= accepted.sequence && closed.sequence <= header.last);
    }
}

#[test]
fn it_goes_on_behind_any_number() {
    for file in [COMPACT_FILE, WIDE_FILE] {
        let all = rest(&mut Journal::open(file, QUERY).unwrap());
        let last = Journal::open(file, QUERY).unwrap().header().last;
        for sequence in 0..=last + 1 {
            let mut journal = Journal::open(file, QUERY).unwrap();
            journal.skip_to(sequence).unwrap();
            assert_eq!(journal.has_more(), sequence < last, "{sequence}");
            assert_eq!(journal.behind(), sequence.min(last));
            let wanted: Vec<_> = all.iter().filter(|entry| entry.sequence > sequence).cloned().collect();
            assert_eq!(rest(&mut journal), wanted, "{sequence}");
        }
        for entry in &all {
            let mut journal = Journal::open(file, QUERY).unwrap();
            journal.skip_until(entry.at).unwrap();
            let wanted: Vec<_> = all.iter().filter(|other| other.at > entry.at).cloned().collect();
            assert_eq!(rest(&mut journal), wanted);
        }
    }
}

/// A file of which the daemon has written only this many entries yet.
struct Growing(std::cell::RefCell<Vec<u8>>);

impl Growing {
    fn entries(&self, count: u64) {
        self.0.borrow_mut()[152..160].copy_from_slice(&count.to_le_bytes());
    }
}

impl Bytes for &Growing {
    fn at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow().as_slice().at(offset, into)
    }
}

#[test]
fn it_follows_a_file_that_grows() {
    for file in [COMPACT_FILE, WIDE_FILE] {
        let all = rest(&mut Journal::open(file, QUERY).unwrap());
        let count = Journal::open(file, QUERY).unwrap().header().entries;
        let growing = Growing(file.to_vec().into());
        growing.entries(0);
        let mut journal = Journal::open(&growing, QUERY).unwrap();
        journal.skip_to(u64::MAX).unwrap();
        let mut seen = Vec::new();
        for entries in 1..=count {
            growing.entries(entries);
            assert!(journal.look().unwrap());
            seen.extend(rest(&mut journal));
        }
        assert_eq!(seen, all);
    }
}

#[test]
fn patience_ends_a_turn_and_nothing_is_left_out() {
    let all = rest(&mut Journal::open(WIDE_FILE, QUERY).unwrap());
    let mut journal = Journal::open(WIDE_FILE, QUERY).unwrap();
    let mut seen = Vec::new();
    while journal.has_more() {
        seen.extend(journal.next(&mut 2).unwrap());
    }
    assert_eq!(seen, all);
}

#[test]
fn an_entry_that_cannot_be_read_is_passed() {
    let mut file = WIDE_FILE.to_vec();
    let all = rest(&mut Journal::open(WIDE_FILE, QUERY).unwrap());
    // The first wanted entry, found by its time, is no entry any more.
    let time = all[0].at.to_le_bytes();
    let at = file.windows(8).position(|window| window == time).unwrap() - 24;
    file[at] = 9;
    let mut journal = Journal::open(file.as_slice(), QUERY).unwrap();
    let (mut seen, mut errors) = (Vec::new(), 0);
    while journal.has_more() {
        match journal.next(&mut 1000) {
            Ok(entry) => seen.extend(entry),
            Err(_) => errors += 1,
        }
    }
    assert_eq!((seen.as_slice(), errors), (&all[1..], 1));
}

#[test]
fn other_files_are_refused() {
    assert!(matches!(Journal::open(&b""[..], QUERY), Err(JournalError::NoJournal)));
    assert!(matches!(Journal::open(&WIDE_FILE[1..], QUERY), Err(JournalError::NoJournal)));
    let mut newer = WIDE_FILE.to_vec();
    newer[12] |= 32;
    assert!(matches!(Journal::open(newer.as_slice(), QUERY), Err(JournalError::Unknown(44))));
}

proptest! {
    /// Whatever bytes are wrong: it ends, and gives no more entries than the header says.
    #[test]
    fn damage_is_an_error_and_never_a_panic(
        compact in any::<bool>(),
        wrong in prop::collection::vec((prop_oneof![0_usize..208, 0_usize..66_000], any::<u8>()), 1..20),
        behind in any::<u64>(),
    ) {
        let mut file = if compact { COMPACT_FILE } else { WIDE_FILE }.to_vec();
        let length = file.len();
        for (at, byte) in wrong {
            file[at % length] = byte;
        }
        if let Ok(mut journal) = Journal::open(file.as_slice(), QUERY) {
            let _ = journal.skip_to(behind);
            let mut patience = 500;
            for _ in 0..500 {
                let before = patience;
                match journal.next(&mut patience) {
                    Ok(None) => break,
                    Ok(Some(_)) => prop_assert!(patience < before),
                    // Either it goes on, or it stays where it is for good.
                    Err(_) => {}
                }
            }
        }
    }
}
