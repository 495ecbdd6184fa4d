//! Where the bytes of a journal file come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the bytes come from.
pub trait Bytes {
    /// Fills `into` from `offset` on; gives less at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl Bytes for File {
    fn at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = into.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(got as u64)) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }
}

impl Bytes for &[u8] {
    fn at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}
