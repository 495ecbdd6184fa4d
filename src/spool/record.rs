//! What is stored for one event, and what it costs.

use super::store::PAGE;
use crate::model::change::OpenAggregate;
use crate::model::loss::Queue;

/// Bytes that a row needs besides its body: number, hits, checksum, headers.
const ROW: u64 = 24;

/// The bytes of the file that a body of `len` bytes takes, as far as the cache limit is concerned: rows share a page
/// only if whole ones fit, and a large one has its pages alone.
pub(super) const fn cost(len: u64) -> u64 {
    let row = len.saturating_add(ROW);
    match PAGE.checked_div(row) {
        Some(0) | None => row.div_ceil(PAGE).saturating_mul(PAGE),
        Some(together) => PAGE / together,
    }
}

/// A finished event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) hits: u64,
    pub(super) sum: i64,
    pub(super) body: Vec<u8>,
}

impl Record {
    pub(super) fn new(seq: u64, hits: u64, body: String) -> Self {
        let body = body.into_bytes();
        Self { seq, hits, sum: record_sum(hits, &body), body }
    }

    /// The text, unless it is not what was written.
    pub(super) fn text(self) -> Option<String> {
        (self.sum == record_sum(self.hits, &self.body)).then_some(self.body).and_then(|b| String::from_utf8(b).ok())
    }
}

/// CRC-32 (IEEE 802.3) of all `parts` in a row: finds flipped bits, which SQLite itself does not look for.
pub(super) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in parts {
        sum.update(part);
    }
    sum.finalize()
}

fn record_sum(hits: u64, body: &[u8]) -> i64 {
    i64::from(crc32(&[&hits.to_le_bytes(), body]))
}

pub(super) fn aggregate_sum(a: &OpenAggregate) -> i64 {
    i64::from(crc32(&[a.key.as_bytes(), &[queue_number(a.queue)], &a.hits.to_le_bytes(), a.state.as_bytes()]))
}

pub(super) const fn queue_number(queue: Queue) -> u8 {
    match queue {
        Queue::High => 0,
        Queue::Low => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
        assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xCBF4_3926);
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let record = Record::new(1, 3, "{\"a\":1}".into());
        assert_eq!(record.clone().text().as_deref(), Some("{\"a\":1}"));
        for bit in 0..record.body.len() * 8 {
            let mut broken = record.clone();
            broken.body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(broken.text(), None);
        }
        assert_eq!(Record { hits: 2, ..record }.text(), None);
    }

    #[test]
    fn the_cost_is_at_least_the_row() {
        for len in 0..5000 {
            assert!(cost(len) >= len + ROW, "{len}");
            assert!(cost(len) <= 2 * (len + ROW) + PAGE, "{len}");
        }
        assert_eq!(cost(300), 341);
    }
}
