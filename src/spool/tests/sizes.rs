//! How size is measured, and what is larger than the cache.

use super::*;
use crate::spool::record::cost;

#[test]
fn sizes_are_bytes_of_the_text_in_utf_8() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    for (letter, bytes) in [("x", 1), ("\u{e9}", 2), ("\u{20ac}", 3), ("\u{1f512}", 4)] {
        let body = format!("{{\"n\":1,\"x\":\"{}\"}}", letter.repeat(500));
        let around = 14;
        assert_eq!(body.len(), around + 500 * bytes);
        let held = spool.books.held;
        let event = StoredEvent { queue: Queue::Low, hits: 1, body };
        spool.apply(&[Change::Event(event)], board.now).unwrap();
        let size = (around + 500 * bytes) as u64;
        assert_eq!(spool.backlog(Queue::Low), Backlog { records: 1, bytes: size });
        assert_eq!(spool.books.held - held, cost(size));
        // A message needs room for its root and these bytes, and for no more.
        let whole = board.root.body_len(1, around + 500 * bytes);
        let room = Room::of(whole, Riders::None);
        let message = spool.assemble(Queue::Low, room, &board.root, board.now).unwrap().unwrap();
        assert_eq!(message.body.len(), whole);
        spool.acknowledge(message.id, whole, board.now).unwrap();
    }
}

#[test]
fn what_is_larger_than_the_cache_takes_nothing_else_with_it() {
    let mut board = Board::new();
    board.limit = 8 * 1024;
    let (mut spool, _) = board.open();
    let kept = [Queue::Low, Queue::High].map(|queue| (0..2).map(move |n| Change::Event(event(queue, n, 900))));
    spool.apply(&kept.into_iter().flatten().collect::<Vec<_>>(), board.now).unwrap();
    let flying = spool.assemble(Queue::High, Room::of(1200, Riders::None), &board.root, board.now).unwrap().unwrap();
    let before = (spool.backlog(Queue::High), spool.backlog(Queue::Low));
    let close = |event| Change::Close { key: "k".into(), event };
    let large = |queue, size| Change::Event(event(queue, 9, size));
    // A list in parts is too large as a whole; the parts are no hits.
    let part = Change::Event(StoredEvent { hits: 0, ..event(Queue::High, 9, 3000) });
    for (batch, dropped) in [
        (vec![large(Queue::High, 9000)], [(Queue::High, 1)]),
        (vec![large(Queue::Low, 9000)], [(Queue::Low, 1)]),
        // It would fit if all low events went, but not beside the high ones, which go last.
        (vec![large(Queue::Low, 6500)], [(Queue::Low, 1)]),
        (vec![large(Queue::High, 3000), part.clone(), part], [(Queue::High, 1)]),
        (vec![close(StoredEvent { hits: 4, ..event(Queue::Low, 9, 9000) })], [(Queue::Low, 4)]),
    ] {
        let applied = spool.apply(&batch, board.now).unwrap();
        assert_eq!(applied.dropped, dropped.into());
        assert_eq!((spool.backlog(Queue::High), spool.backlog(Queue::Low)), before);
        assert_eq!(spool.in_flight(), [flying.id]);
        assert!(spool.balance().holds());
    }
    assert_eq!(spool.balance().low.dropped, [(DropReason::CacheFull, 6)].into());
    // What has its place once older ones went still goes in.
    let applied = spool.apply(&[large(Queue::High, 4500)], board.now).unwrap();
    assert_eq!((applied.dropped, spool.backlog(Queue::High).records), ([(Queue::Low, 1)].into(), 2));
}
