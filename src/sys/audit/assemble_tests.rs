//! Records as Linux 6.18 wrote them, and any others.

use proptest::prelude::*;

use super::*;

const NOW: Mono = Mono::from_boot(Duration::from_secs(100));

fn later(seconds: u64) -> Mono {
    NOW.after(Duration::from_secs(seconds))
}

fn syscall(serial: u64, call: &str) -> String {
    format!(
        "audit(1795571169.955:{serial}): arch=c000003e {call} a1=7ffe a2=10 a3=8 items=2 ppid=5782 pid=5783 \
         auid=1000 uid=33 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"ls\" \
         exe=\"/usr/bin/ls\" key=\"t\""
    )
}

fn exec(serial: u64) -> String {
    syscall(serial, "syscall=59 success=yes exit=0 a0=560b2c864660")
}

fn of(serial: u64, rest: &str) -> String {
    format!("audit(1795571169.955:{serial}): {rest}")
}

fn run(records: &[(u16, String)]) -> Vec<Happened> {
    let mut assembler = Assembler::default();
    let mut all: Vec<_> =
        records.iter().filter_map(|(kind, body)| assembler.take(*kind, body.as_bytes(), NOW)).collect();
    all.extend(std::iter::from_fn(|| assembler.expired(later(5))));
    assert_eq!(assembler.patience(later(5)), None);
    all
}

fn line(happened: &Happened) -> (&str, bool, Option<u64>) {
    match happened {
        Happened::Exec { line, length, .. } => (&line.text, line.cut, *length),
        Happened::Connection { line, .. } => (&line.text, line.cut, None),
    }
}

#[test]
fn an_exec_is_whole_with_its_last_argument() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.take(SYSCALL, exec(10).as_bytes(), NOW), None);
    let arguments = of(10, r#"argc=5 a0="/bin/ls" a1="-l" a2=612062 a3=C3B6C3A4 a4="/nonexist""#);
    let Some(Happened::Exec { caller, line, length }) = assembler.take(EXECVE, arguments.as_bytes(), NOW) else {
        panic!("not whole")
    };
    assert_eq!((line.text.as_str(), line.cut, length), ("/bin/ls -l a b öä /nonexist", false, Some(29)));
    assert_eq!((caller.pid, caller.parent, caller.uid), (5783, 5782, Some(33)));
    assert_eq!((caller.login_uid, caller.session), (Some(1000), None));
    assert_eq!((caller.executable.as_str(), caller.abi.name), ("/usr/bin/ls", "x86_64"));
    assert_eq!(caller.stamp, Stamp { milliseconds: 1_795_571_169_955, serial: 10 });
    // What follows is not waited for.
    assert_eq!(assembler.take(EOE, of(10, "").as_bytes(), NOW), None);
    assert_eq!(assembler.patience(NOW), None);
}

#[test]
fn a_long_argument_goes_over_several_records_and_the_next_event_is_whole() {
    let piece = "78".repeat(3000);
    let records = [
        (SYSCALL, exec(1)),
        (EXECVE, of(1, &format!("argc=3 a0=\"/bin/echo\" a1_len=18000 a1[0]={piece}"))),
        (SYSCALL, exec(2)),
        (EXECVE, of(1, &format!(" a1[1]={piece}"))),
        (EXECVE, of(2, r#"argc=1 a0="true""#)),
        (EXECVE, of(1, &format!(" a1[2]={piece} a2=\"end\""))),
    ];
    let all = run(&records);
    assert_eq!(line(&all[0]), ("true", false, Some(4)));
    let (text, cut, length) = line(&all[1]);
    assert_eq!((text.len(), cut, length), (4096, true, Some(9 + 1 + 9000 + 1 + 3)));
    assert!(text.starts_with("/bin/echo xxx"));
    assert_eq!(all.len(), 2);
}

#[test]
fn what_is_missing_is_marked() {
    // The second part of the arguments was lost.
    let torn = [(SYSCALL, exec(1)), (EXECVE, of(1, r#"argc=4 a0="a" a1="b""#)), (EXECVE, of(1, r#" a3="d""#))];
    assert_eq!(run(&torn).iter().map(line).collect::<Vec<_>>(), [("a b d", true, None)]);
    // The end came first.
    let early = [(SYSCALL, exec(1)), (EXECVE, of(1, r#"argc=2 a0="a""#)), (PROCTITLE, of(1, "proctitle=61"))];
    assert_eq!(run(&early).iter().map(line).collect::<Vec<_>>(), [("a", true, None)]);
    // Nothing came but the call.
    assert_eq!(run(&[(SYSCALL, exec(1))]).iter().map(line).collect::<Vec<_>>(), [("", true, None)]);
    // The call itself was lost.
    assert_eq!(run(&[(EXECVE, of(1, r#"argc=1 a0="a""#)), (EOE, of(1, ""))]), []);
}

#[test]
fn a_program_without_arguments_is_whole() {
    let all = run(&[(SYSCALL, exec(1)), (EXECVE, of(1, "argc=0"))]);
    assert_eq!(line(&all[0]), ("", false, Some(0)));
}

fn connection(call: &str, rest: &[(u16, &str)]) -> Option<(bool, Option<u32>, Option<String>, bool)> {
    let mut records = vec![(SYSCALL, syscall(1, call))];
    records.extend(rest.iter().map(|(kind, rest)| (*kind, of(1, rest))));
    match run(&records).pop()? {
        Happened::Connection { accepted, descriptor, peer, in_progress, line, .. } => {
            assert_eq!(line.text, if rest.len() > 1 { "python3 -" } else { "" });
            Some((accepted, descriptor, peer.map(|peer| peer.to_string()), in_progress))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
#[cfg(target_endian = "little")]
fn connections_are_told_by_their_call() {
    const TITLE: (u16, &str) = (PROCTITLE, "proctitle=707974686F6E33002D");
    let peer = |text: &str| Some(text.to_owned());
    let found = connection(
        "syscall=42 success=no exit=-115 a0=4",
        &[(SOCKADDR, "saddr=0200BC217F0000010000000000000000"), TITLE],
    );
    assert_eq!(found, Some((false, Some(4), peer("127.0.0.1:48161"), true)));
    let mapped = (SOCKADDR, "saddr=0A00D0A40000000000000000000000000000FFFF7F00000100000000");
    let found = connection("syscall=288 success=yes exit=9 a0=7", &[mapped, TITLE]);
    assert_eq!(found, Some((true, Some(9), peer("127.0.0.1:53412"), false)));
    // It did not ask for the address.
    assert_eq!(connection("syscall=43 success=yes exit=9 a0=7", &[(EOE, "")]), Some((true, Some(9), None, false)));
    // Refused, of another family, and one that is none.
    let refused = [(SOCKADDR, "saddr=0200BC217F0000010000000000000000"), TITLE];
    assert_eq!(connection("syscall=42 success=no exit=-111 a0=4", &refused), None);
    assert_eq!(connection("syscall=42 success=yes exit=0 a0=4", &[(SOCKADDR, "saddr=01002F72756E"), TITLE]), None);
    assert_eq!(connection("syscall=42 success=yes exit=0 a0=4", &[(EOE, "")]), None);
    assert_eq!(connection("syscall=41 success=yes exit=0 a0=2", &[(EOE, "")]), None);
}

#[test]
fn too_many_open_events_push_out_the_oldest_as_it_is() {
    let mut assembler = Assembler::default();
    let mut all = Vec::new();
    for serial in 0..200 {
        all.extend(assembler.take(SYSCALL, exec(serial).as_bytes(), NOW));
    }
    assert_eq!(all.len(), 200 - OPEN);
    assert!(all.iter().map(line).all(|seen| seen == ("", true, None)));
    assert!(assembler.expired(NOW).is_none() && assembler.patience(NOW).is_some());
}

proptest! {
    #[test]
    fn any_records_are_survived(
        records in prop::collection::vec(
            (prop::sample::select(vec![SYSCALL, EXECVE, SOCKADDR, PROCTITLE, EOE, 1302]), "[ -~]{0,120}", 0_u64..4),
            0..40,
        ),
    ) {
        let records: Vec<_> = records.into_iter().map(|(kind, rest, serial)| (kind, of(serial, &rest))).collect();
        for happened in run(&records) {
            prop_assert!(line(&happened).0.len() <= procfs::COMMAND_LINE_LIMIT);
        }
    }

    /// However the kernel splits the arguments, what comes out is what went in.
    #[test]
    fn arguments_come_out_as_they_went_in(
        arguments in prop::collection::vec("[a-zA-Z0-9/ ö-]{0,60}", 1..12),
        width in 4_usize..50,
    ) {
        let mut records = vec![(SYSCALL, exec(7))];
        let mut row = format!("argc={}", arguments.len());
        for (index, argument) in arguments.iter().enumerate() {
            let plain = argument.bytes().all(|b| b.is_ascii_graphic());
            let hex: String = argument.bytes().map(|b| format!("{b:02X}")).collect();
            if argument.len() > width {
                row.push_str(&format!(" a{index}_len={}", hex.len()));
                for (part, piece) in hex.as_bytes().chunks(2 * width).enumerate() {
                    let piece = std::str::from_utf8(piece).unwrap();
                    row.push_str(&format!(" a{index}[{part}]={piece}"));
                    records.push((EXECVE, of(7, &std::mem::take(&mut row))));
                }
            } else if plain {
                row.push_str(&format!(" a{index}=\"{argument}\""));
            } else {
                row.push_str(&format!(" a{index}={hex}"));
            }
        }
        if !row.is_empty() {
            records.push((EXECVE, of(7, &row)));
        }
        let all = run(&records);
        let joined = arguments.join(" ");
        // Empty arguments at the end are not told from none.
        let (text, cut, length) = line(&all[0]);
        prop_assert_eq!(text.trim_end(), joined.trim_end());
        prop_assert!(!cut);
        prop_assert_eq!(length, Some(joined.len() as u64));
        prop_assert_eq!(all.len(), 1);
    }
}
