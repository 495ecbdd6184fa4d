//! Stands in for the programs in a build that has none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{BpfError, Layout, Options, Program};

/// There are none.
#[derive(Debug)]
pub enum Programs {}

impl Programs {
    /// Never works.
    ///
    /// # Errors
    /// [`BpfError::NotBuilt`].
    pub const fn load(_: &Layout, _: Options) -> Result<Self, BpfError> {
        Err(BpfError::NotBuilt)
    }

    /// Never called.
    #[must_use]
    pub const fn is_loaded(&self, _: Program) -> bool {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub const fn refusal(&self, _: Program) -> Option<&str> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn attach(&mut self, _: Program) -> Result<(), BpfError> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn detach(&mut self, _: Program) -> Result<(), BpfError> {
        match *self {}
    }

    /// Never called.
    pub fn take(&mut self, _: impl FnOnce(&[u8])) -> bool {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn set_awake(&mut self, _: bool) -> io::Result<()> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn lost(&self, _: Program) -> io::Result<u64> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn flooded(&self) -> io::Result<u64> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub const fn heard(&self) -> io::Result<()> {
        match *self {}
    }
}

impl AsFd for Programs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
