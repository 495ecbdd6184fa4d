use std::fs::OpenOptions;
use std::io::Write;

use proptest::prelude::*;

use super::*;

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn now(second: u64) -> Mono {
    Mono::from_boot(Duration::from_secs(second))
}

/// All that can be read now.
fn rest(follower: &mut Follower, now: Mono) -> (String, usize) {
    let (mut all, mut cuts, mut some) = (Vec::new(), 0, Vec::new());
    loop {
        match follower.read(now, &mut some).unwrap() {
            Got::Nothing => return (String::from_utf8(all).unwrap(), cuts),
            Got::Some(_) => all.append(&mut some),
            Got::Cut => cuts += 1,
        }
    }
}

struct Log(tempfile::TempDir);

impl Log {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("auth.log")
    }

    fn next_path(&self) -> PathBuf {
        self.0.path().join("auth.log.1")
    }

    fn follow(&self, place: Option<&Place>) -> (Follower, Begun) {
        let mut follower = Follower::new(self.path(), Unit::Line);
        let begun = follower.begin(place.map_or(From::End, From::Place), 1000, now(0)).unwrap();
        (follower, begun)
    }
}

#[test]
fn it_begins_at_the_end_and_gives_whole_lines() {
    let log = Log::new();
    append(&log.path(), "old\n");
    let (mut follower, begun) = log.follow(None);
    assert_eq!(begun, Begun::AtEnd);
    assert_eq!(rest(&mut follower, now(1)).0, "");
    append(&log.path(), "a\nb\npart");
    assert_eq!(rest(&mut follower, now(1)).0, "a\nb\n");
    append(&log.path(), "ial\n");
    assert_eq!(rest(&mut follower, now(1)).0, "partial\n");
}

#[test]
fn a_file_that_appears_later_is_read_from_its_start() {
    let log = Log::new();
    let (mut follower, begun) = log.follow(None);
    assert_eq!((begun, follower.is_there()), (Begun::Absent, false));
    append(&log.path(), "first\n");
    assert_eq!(rest(&mut follower, now(1)).0, "first\n");
}

#[test]
fn rotation_loses_nothing_also_what_the_writer_writes_late() {
    let log = Log::new();
    append(&log.path(), "old\n");
    let (mut follower, _) = log.follow(None);
    append(&log.path(), "a\n");
    fs::rename(log.path(), log.next_path()).unwrap();
    append(&log.next_path(), "b\n");
    assert_eq!(rest(&mut follower, now(1)).0, "a\nb\n");
    append(&log.path(), "d\n");
    append(&log.next_path(), "c\n");
    assert_eq!(rest(&mut follower, now(2)).0, "c\nd\n");
    append(&log.next_path(), "too late\n");
    assert_eq!(rest(&mut follower, now(60)).0, "");
}

#[test]
fn a_cut_file_is_read_from_its_start_and_said() {
    let log = Log::new();
    append(&log.path(), "a long old line\n");
    let (mut follower, _) = log.follow(None);
    fs::copy(log.path(), log.next_path()).unwrap();
    OpenOptions::new().write(true).truncate(true).open(log.path()).unwrap();
    append(&log.path(), "new\n");
    assert_eq!(rest(&mut follower, now(1)), ("new\n".into(), 1));
}

#[test]
fn it_goes_on_where_it_was_left() {
    let log = Log::new();
    append(&log.path(), "old\n");
    let (mut follower, _) = log.follow(None);
    append(&log.path(), "seen\n");
    rest(&mut follower, now(1));
    let place = follower.place().unwrap();

    append(&log.path(), "missed\n");
    let (mut again, begun) = log.follow(Some(&place));
    assert_eq!((begun, rest(&mut again, now(1)).0.as_str()), (Begun::Resumed, "missed\n"));

    fs::rename(log.path(), log.next_path()).unwrap();
    append(&log.path(), "newer\n");
    let (mut again, begun) = log.follow(Some(&place));
    assert_eq!((begun, rest(&mut again, now(1)).0.as_str()), (Begun::Resumed, "missed\nnewer\n"));

    // The inode of a removed file is used again.
    fs::remove_file(log.path()).unwrap();
    append(&log.path(), "newer\n");
    let reused = Place { inode: fs::metadata(log.path()).unwrap().ino(), ..place };
    assert!(matches!(log.follow(Some(&reused)).1, Begun::Missing(_)));
    fs::remove_file(log.next_path()).unwrap();
    let (mut again, begun) = log.follow(Some(&place));
    assert!(matches!(begun, Begun::Missing(_)), "{begun:?}");
    assert_eq!(rest(&mut again, now(1)).0, "newer\n");
}

#[test]
fn too_much_since_then_is_said_and_the_newest_is_read() {
    let log = Log::new();
    append(&log.path(), "old\n");
    let place = log.follow(None).0.place().unwrap();
    append(&log.path(), &"0123456789\n".repeat(1000));
    let (mut again, begun) = log.follow(Some(&place));
    assert!(matches!(begun, Begun::Missing(_)), "{begun:?}");
    // 1000 bytes are 90 whole lines and a part of one.
    assert_eq!(rest(&mut again, now(1)).0, "0123456789\n".repeat(90));
}

#[test]
fn a_line_without_end_is_passed_over() {
    let log = Log::new();
    let (mut follower, _) = log.follow(None);
    append(&log.path(), &"x".repeat(CHUNK * 3));
    assert_eq!(rest(&mut follower, now(1)).0, "");
    append(&log.path(), "x\nnext\n");
    assert_eq!(rest(&mut follower, now(1)).0, "next\n");
}

#[test]
fn records_are_given_whole() {
    let log = Log::new();
    append(&log.path(), "aaabbbc");
    let mut follower = Follower::new(log.path(), Unit::Record(|_| 3));
    follower.begin(From::End, 1000, now(0)).unwrap();
    append(&log.path(), "ccd");
    assert_eq!(rest(&mut follower, now(1)).0, "ccc");
    let place = follower.place().unwrap();
    append(&log.path(), &"dd".repeat(10));
    assert_eq!(follower.before(2).unwrap(), b"bbbccc");
    follower.begin(From::Place(&place), 6, now(1)).unwrap();
    assert_eq!(rest(&mut follower, now(1)).0, "dddddd");
    assert_eq!(follower.begin(From::Start, 1000, now(1)).unwrap(), Begun::Resumed);
    assert_eq!(rest(&mut follower, now(1)).0, "aaabbbcccddddddddddddddddddddd");
}

proptest! {
    /// Over any writes, rotations and restarts each whole line is given once and in order.
    #[test]
    fn each_line_is_given_once(steps in prop::collection::vec((0_u8..4, 1_usize..40), 1..40)) {
        let log = Log::new();
        append(&log.path(), "");
        let mut follower = Follower::new(log.path(), Unit::Line);
        follower.begin(From::End, u64::MAX, now(0)).unwrap();
        let (mut written, mut given, mut rotations) = (String::new(), String::new(), 0);
        for (step, length) in steps {
            match step {
                0 | 1 => {
                    let line = format!("{}\n", "y".repeat(length));
                    written.push_str(&line);
                    append(&log.path(), &line);
                }
                2 => {
                    given.push_str(&rest(&mut follower, now(1)).0);
                    rotations += 1;
                    fs::rename(log.path(), log.0.path().join(format!("auth.log.{rotations}"))).unwrap();
                    append(&log.path(), "");
                }
                _ => {
                    let place = follower.place().unwrap();
                    follower.begin(From::Place(&place), u64::MAX, now(1)).unwrap();
                }
            }
        }
        given.push_str(&rest(&mut follower, now(1)).0);
        prop_assert_eq!(given, written);
    }
}
