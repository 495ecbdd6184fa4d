//! Which file it is, whatever its name: the number of its file system, and its number there.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Stat, fstat, major, minor, stat};

/// A file's device and inode. On a file system with several volumes (Btrfs) the kernel's own records name another device
/// than `stat(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Number of the device, as `/proc/self/mountinfo` splits it.
    pub device: (u32, u32),
    /// Number within the device.
    pub inode: u64,
}

impl FileId {
    /// Of an open file.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from_stat(&fstat(file)?))
    }

    /// Of the file that a path leads to.
    ///
    /// # Errors
    /// Those of `stat`.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::from_stat(&stat(path)?))
    }

    fn from_stat(stat: &Stat) -> Self {
        Self { device: (major(stat.st_dev), minor(stat.st_dev)), inode: stat.st_ino }
    }

    /// From the kernel's own form of a device number: 12 bits of it are the major number, and the minor number is split
    /// around them.
    #[must_use]
    pub const fn from_kernel(device: u64, inode: u64) -> Self {
        let device = (device & 0xffff_ffff) as u32;
        Self { device: ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0x000f_ff00)), inode }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn an_open_file_and_its_path_are_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        let file = File::create(&one).unwrap();
        File::create(&other).unwrap();
        assert_eq!(FileId::of(&file).unwrap(), FileId::at(&one).unwrap());
        assert_ne!(FileId::of(&file).unwrap(), FileId::at(&other).unwrap());
        assert!(FileId::at(&directory.path().join("none")).is_err());
    }

    #[test]
    fn the_kernels_device_numbers_are_split() {
        // Major 254, minor 1; and major 8, minor 0x12345.
        assert_eq!(FileId::from_kernel(0xfe01, 7), FileId { device: (254, 1), inode: 7 });
        assert_eq!(FileId::from_kernel(0x1230_0845, 7).device, (8, 0x12345));
    }
}
