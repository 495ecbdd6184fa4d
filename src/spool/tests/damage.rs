//! Files that are not what was written.

use super::*;

fn spoil(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::File::create(path).and_then(|mut f| std::io::Write::write_all(&mut f, &[7; 4096])).unwrap();
}

#[test]
fn a_damaged_cold_file_is_put_aside_and_its_events_are_counted() {
    let mut board = Board::new();
    let path = board.cold.path().join("spool.db");
    for round in 1..=2 {
        let (mut spool, _) = board.open();
        spool.apply(&[add(Queue::High, 1), add(Queue::High, 2)], board.now).unwrap();
        spool.commit(board.now).unwrap();
        spool.apply(&[add(Queue::High, 3)], board.now).unwrap();
        drop(spool);
        spoil(&path);
        let (mut spool, recovery) = board.open();
        assert_eq!(recovery.start, Start::Crash);
        assert!(recovery.notes.iter().any(|n| n.contains("put aside")), "{:?}", recovery.notes);
        assert!(board.cold.path().join(format!("spool.db.corrupt-{round}")).exists());
        assert_eq!(spool.balance().high.dropped[&DropReason::Corrupt], 2 * round);
        assert_eq!(drain(&mut spool, &board, Queue::High), [3]);
        assert!(spool.balance().holds());
        spool.close(board.now).unwrap();
    }
    assert!(!board.cold.path().join("spool.db.corrupt-1").exists());
}

#[test]
fn a_damaged_hot_file_costs_what_came_after_the_commit() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    spool.apply(&[add(Queue::High, 1)], board.now).unwrap();
    let committed = board.now;
    spool.commit(board.now).unwrap();
    let later = board.pass(SECOND);
    spool.apply(&[add(Queue::High, 2)], later).unwrap();
    drop(spool);
    spoil(&board.hot.path().join("hot.db"));
    let (mut spool, recovery) = board.open();
    assert_eq!(recovery.start, Start::Crash);
    assert_eq!(recovery.gap.unwrap().start, committed.wall);
    assert_eq!(drain(&mut spool, &board, Queue::High), [1]);
    assert!(spool.balance().holds());
}

#[test]
fn a_flipped_bit_in_an_event_drops_that_event_only() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    let changes: Vec<_> = (1..=3).map(|n| add(Queue::High, n)).collect();
    spool.apply(&changes, board.now).unwrap();
    let sent = spool.assemble(Queue::High, Room::of(4096, Riders::None), &board.root, board.now).unwrap().unwrap();
    spool.apply(&changes, board.now).unwrap();
    for seq in [2, 5] {
        let broken = Record { seq, hits: 1, sum: 0, body: b"{\"n\":2}".to_vec() };
        spool.hot.put(Queue::High, &broken).unwrap();
    }
    let again = spool.message(sent.id, &board.root).unwrap().unwrap();
    assert_eq!(numbers(&again.body), [1, 3]);
    spool.acknowledge(sent.id, again.body.len(), board.now).unwrap();
    assert_eq!(drain(&mut spool, &board, Queue::High), [1, 3]);
    assert_eq!(spool.balance().high.dropped[&DropReason::Corrupt], 2);
    assert_eq!(spool.balance().high.delivered, 4);
    assert!(spool.balance().holds());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever becomes of the files, opening gives a working spool with true books.
    #[test]
    fn damage_is_put_aside(file in 0_usize..4, cut in any::<bool>(), spots in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)) {
        let mut board = Board::new();
        let (mut spool, _) = board.open();
        for n in 0..30 {
            spool.apply(&[add(Queue::Low, n), Change::Event(event(Queue::High, n, 700))], board.now).unwrap();
            if n == 20 {
                spool.commit(board.now).unwrap();
                spool.assemble(Queue::High, Room::of(4096, Riders::All), &board.root, board.now).unwrap().unwrap();
            }
        }
        // As the files are now, with their logs.
        let (cold, hot) = (copy(board.cold.path()), copy(board.hot.path()));
        drop(spool);
        (board.cold, board.hot) = (cold, hot);
        let path = [
            board.hot.path().join("hot.db"),
            board.hot.path().join("hot.db-wal"),
            board.cold.path().join("spool.db"),
            board.cold.path().join("spool.db-wal"),
        ][file].clone();
        let mut bytes = fs::read(&path).unwrap();
        for (at, bit) in spots {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << (bit % 8);
            if cut {
                bytes.truncate(at.max(1));
            }
        }
        fs::remove_file(&path).unwrap();
        fs::File::create(&path).and_then(|mut f| std::io::Write::write_all(&mut f, &bytes)).unwrap();
        let (mut spool, _) = board.open();
        prop_assert!(spool.balance().holds());
        for id in spool.in_flight() {
            if let Some(m) = spool.message(id, &board.root).unwrap() {
                spool.acknowledge(id, m.body.len(), board.now).unwrap();
            }
        }
        spool.apply(&[add(Queue::Low, 99)], board.now).unwrap();
        for queue in Queue::ALL {
            drain(&mut spool, &board, queue);
        }
        let balance = spool.balance();
        prop_assert!(balance.holds());
        prop_assert_eq!((balance.high.pending, balance.low.pending), (0, 0));
        spool.close(board.now).unwrap();
        for directory in [board.cold.path(), board.hot.path()] {
            let aside = fs::read_dir(directory).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("corrupt")).count();
            prop_assert!(aside <= 1);
        }
    }
}
