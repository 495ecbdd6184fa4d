//! Reading `/proc`, `/sys` and `/etc` below a root that tests replace. Every read has an upper bound.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The kernel's word for the processor, for example `aarch64` (`uname(2)`). Kernels from 6.1 on have it in
/// `/proc/sys/kernel/arch` too.
#[must_use]
pub fn machine() -> Option<String> {
    rustix::system::uname().machine().to_str().ok().map(str::to_owned)
}

/// The machine's files.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The real machine.
    #[must_use]
    pub fn system() -> Self {
        Self::rooted("/")
    }

    /// A machine whose files stand below `root`.
    pub fn rooted(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where `path` (absolute, as on the machine) really stands.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads at most `limit` bytes; what lies beyond is left.
    ///
    /// # Errors
    /// Those of opening and reading.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`Host::read`], as text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// As [`Host::read`].
    pub fn read_text(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<String> {
        Ok(match String::from_utf8(self.read(path, limit)?) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// The target of a symbolic link, as it stands there.
    ///
    /// # Errors
    /// Those of `readlink`.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        std::fs::read_link(self.path(path))
    }

    /// The names in a directory, at most `limit`, in no order.
    ///
    /// # Errors
    /// Those of opening; entries that cannot be read are left out.
    pub fn list(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<OsString>> {
        Ok(std::fs::read_dir(self.path(path))?.flatten().take(limit).map(|entry| entry.file_name()).collect())
    }
}

/// The kernel's id of the calling thread.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}
