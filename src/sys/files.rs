//! Files that must not be half written, and files that nobody else may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::secret::Secret;

/// A secret is at most this long; nothing that is one needs more.
const SECRET_LIMIT: u64 = 64 * 1024;

/// Why a secret was not read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It is not there, or may not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} has mode {mode:04o}: others could read the secret; run: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to uid {owner}: it must belong to root or to uid {user}; run: chown {user} {path}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whose it may be, other than root's.
        user: u32,
    },
    /// A secret of this size is a mistake.
    #[error("{path} is larger than 64 KiB: not a secret")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret from a file that only its owner can read (mode 0600 or stricter), owned by root or by `user`, for
/// whom it is read.
///
/// # Errors
/// Names the file and the command that mends it.
pub fn read_secret(path: &Path, user: u32) -> Result<Secret, SecretError> {
    read_closed(path, 0o077, user)
}

/// As [`read_secret`], for a file in systemd's credentials directory: systemd owns it as root and lets the service in by
/// an ACL, whose mask shows as the group's read bit (`systemd.exec(5)`).
///
/// # Errors
/// As [`read_secret`].
pub fn read_credential(path: &Path, user: u32) -> Result<Secret, SecretError> {
    read_closed(path, 0o037, user)
}

fn read_closed(path: &Path, refused: u32, user: u32) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if mode & refused != 0 {
        return Err(SecretError::TooOpen { path: path.to_owned(), mode });
    }
    if meta.uid() != user && meta.uid() != 0 {
        return Err(SecretError::Foreign { path: path.to_owned(), owner: meta.uid(), user });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(SECRET_LIMIT)).unwrap_or(0) + 1);
    file.take(SECRET_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let secret = Secret::new(bytes);
    if secret.expose().len() as u64 > SECRET_LIMIT {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    Ok(secret)
}

/// Replaces a file so that readers, and a power cut, see the old content or the new, never a part.
///
/// # Errors
/// Those of writing, syncing and renaming; the old content is then still there.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no parent directory"))?;
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = directory.join(temporary);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Adds to the end of a file, making it with `mode` if needed. A kill in the middle may leave a part.
///
/// # Errors
/// Those of opening and writing.
pub fn append(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)?.write_all(content)
}

/// Makes a directory that only its owner can enter, and its parents; an existing one is left as it is.
///
/// # Errors
/// Those of `mkdir`.
pub fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// An exclusive lock on a file, released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock, making the file if needed.
    ///
    /// # Errors
    /// `WouldBlock` if somebody holds it; else those of opening.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_secret_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let us = rustix::process::geteuid().as_raw();
        write_atomic(&path, b"abc", 0o644).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_secret(&path, us).unwrap_err().to_string();
        assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&path, us).unwrap().expose(), b"abc");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(read_secret(&path, us).is_err());
        assert_eq!(read_credential(&path, us).unwrap().expose(), b"abc");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(read_credential(&path, us).is_err());
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::take(&path).unwrap();
        assert_eq!(Lock::take(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_replaced_file_is_whole_and_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
