//! Which openings belong to one start of a program: pure.
//!
//! To start a script the kernel opens the script, its interpreter, and the loader of that. What each file is tells what
//! comes next. It is not certain that it comes: a notice is left out if the same process has caused the same one and it
//! still stands in the queue.

use crate::sys::file_id::FileId;
use crate::sys::program_file::Kind;

/// The kernel goes through five interpreters at most.
const MOST: usize = 8;

/// A file that was opened to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Which one.
    pub(super) id: FileId,
    /// Its path, as the kernel has it.
    pub(super) path: String,
    /// What the kernel makes of it.
    pub(super) kind: Kind,
}

/// The start of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exec {
    /// By this process.
    pub(super) pid: u32,
    /// In the order of their opening; never empty.
    files: Vec<Opened>,
    /// The last file is the loader of the one before.
    loaded: bool,
}

impl Exec {
    /// It begins with this file.
    pub(super) fn new(pid: u32, file: Opened) -> Self {
        Self { pid, files: vec![file], loaded: false }
    }

    /// Takes the file that this process opened next, if it is part of the same start; else gives it back.
    /// `find` looks up which file a path leads to.
    pub(super) fn take(&mut self, file: Opened, find: impl Fn(&str) -> Option<FileId>) -> Result<(), Opened> {
        let Some(last) = self.files.last().filter(|_| !self.loaded && self.files.len() < MOST) else {
            return Err(file);
        };
        let loader = last.kind == Kind::Dynamic && file.kind == Kind::Loader;
        let next = match &last.kind {
            Kind::Script { interpreter } => is_named(&file, interpreter, find),
            Kind::Dynamic => loader,
            // Shells run what the kernel refuses to.
            Kind::Other => true,
            Kind::Loader | Kind::Static => false,
        };
        if !next {
            return Err(file);
        }
        self.loaded = loader;
        self.files.push(file);
        Ok(())
    }

    /// Whether the kernel opens no further file for it.
    pub(super) fn is_whole(&self) -> bool {
        let last = self.files.last().map(|file| &file.kind);
        self.loaded || matches!(last, Some(Kind::Loader | Kind::Static))
    }

    /// Path of the program that the process runs then.
    pub(super) fn program(&self) -> &str {
        let programs = self.files.len() - usize::from(self.loaded);
        match programs.checked_sub(1).and_then(|last| self.files.get(last)) {
            Some(Opened { kind: Kind::Script { interpreter }, .. }) => interpreter,
            Some(file) => &file.path,
            None => "",
        }
    }

    /// Path of the script that was started, if it was one.
    pub(super) fn script(&self) -> Option<&str> {
        let first = self.files.first()?;
        let is_script = match first.kind {
            Kind::Script { .. } => true,
            Kind::Other => self.files.len() > 1,
            Kind::Dynamic | Kind::Loader | Kind::Static => false,
        };
        is_script.then_some(first.path.as_str())
    }

    /// Whether a file is one of those that were opened.
    pub(super) fn has(&self, id: FileId) -> bool {
        self.files.iter().any(|file| file.id == id)
    }
}

/// Whether a file is the one that a path of the process leads to, as far as it can be told from here: the process may
/// see other files under that path.
fn is_named(file: &Opened, path: &str, find: impl Fn(&str) -> Option<FileId>) -> bool {
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    find(path).is_none_or(|id| id == file.id || id.device != file.id.device) || name(path) == name(&file.path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(inode: u64) -> FileId {
        FileId { device: (8, 1), inode }
    }

    fn opened(inode: u64, path: &str, kind: Kind) -> Opened {
        Opened { id: id(inode), path: path.to_owned(), kind }
    }

    fn script(inode: u64, interpreter: &str) -> Opened {
        opened(inode, "/opt/run.sh", Kind::Script { interpreter: interpreter.to_owned() })
    }

    fn shell() -> Opened {
        opened(10, "/usr/bin/dash", Kind::Dynamic)
    }

    fn tool() -> Opened {
        opened(11, "/usr/bin/true", Kind::Dynamic)
    }

    fn loader() -> Opened {
        opened(20, "/usr/lib/ld-linux.so.2", Kind::Loader)
    }

    /// `/bin/sh` is another name of the shell.
    fn find(path: &str) -> Option<FileId> {
        (path == "/bin/sh").then(|| id(10))
    }

    /// The starts that a row of notices of one process is.
    fn starts(row: Vec<Opened>) -> Vec<(String, Option<String>)> {
        let mut all: Vec<Exec> = Vec::new();
        for file in row {
            let file = match all.last_mut() {
                Some(exec) => exec.take(file, find),
                None => Err(file),
            };
            all.extend(file.err().map(|file| Exec::new(7, file)));
        }
        all.iter().map(|exec| (exec.program().to_owned(), exec.script().map(str::to_owned))).collect()
    }

    fn plain(path: &str) -> (String, Option<String>) {
        (path.to_owned(), None)
    }

    fn scripted(path: &str) -> (String, Option<String>) {
        (path.to_owned(), Some("/opt/run.sh".to_owned()))
    }

    #[test]
    fn a_start_is_one_whatever_the_kernel_opens_for_it() {
        assert_eq!(starts(vec![tool(), loader()]), [plain("/usr/bin/true")]);
        assert_eq!(starts(vec![script(1, "/bin/sh"), shell(), loader()]), [scripted("/usr/bin/dash")]);
        let busybox = || opened(3, "/bin/busybox", Kind::Static);
        assert_eq!(starts(vec![busybox()]), [plain("/bin/busybox")]);
        assert_eq!(starts(vec![loader()]), [plain("/usr/lib/ld-linux.so.2")]);
        // A script without `#!`: the shell that was refused starts another one.
        let odd = opened(4, "/opt/run.sh", Kind::Other);
        assert_eq!(starts(vec![odd, shell(), loader()]), [scripted("/usr/bin/dash")]);
        // In a container the path leads elsewhere.
        let mut ash = opened(30, "/bin/ash", Kind::Static);
        ash.id.device = (0, 44);
        assert_eq!(starts(vec![script(1, "/bin/sh"), ash]), [scripted("/bin/ash")]);
        assert_eq!(starts(vec![script(1, "/opt/gone"), tool(), loader()]), [scripted("/usr/bin/true")]);
    }

    #[test]
    fn the_next_start_is_another_one_even_if_notices_are_left_out() {
        let two = [plain("/usr/bin/dash"), plain("/usr/bin/true")];
        assert_eq!(starts(vec![shell(), loader(), tool(), loader()]), two);
        assert_eq!(starts(vec![shell(), loader(), tool()]), two);
        // A shell starts a script of its own kind, which starts a tool: shell and loader are told once.
        let row = vec![shell(), loader(), script(1, "/bin/sh"), tool()];
        assert_eq!(starts(row), [plain("/usr/bin/dash"), scripted("/bin/sh"), plain("/usr/bin/true")]);
    }

    proptest! {
        #[test]
        fn no_file_is_forgotten(kinds in prop::collection::vec(0_u8..5, 1..40)) {
            let mut all: Vec<Exec> = Vec::new();
            for (inode, kind) in kinds.iter().enumerate() {
                let kind = match kind {
                    0 => Kind::Script { interpreter: "/bin/sh".to_owned() },
                    1 => Kind::Dynamic,
                    2 => Kind::Loader,
                    3 => Kind::Static,
                    _ => Kind::Other,
                };
                let file = opened(inode as u64, "/bin/x", kind);
                let left = match all.last_mut() {
                    Some(exec) => exec.take(file, find),
                    None => Err(file),
                };
                all.extend(left.err().map(|file| Exec::new(7, file)));
                prop_assert!(all.last().unwrap().has(id(inode as u64)));
            }
            prop_assert!(all.iter().all(|exec| exec.files.len() <= MOST && !exec.program().is_empty()));
            prop_assert_eq!(all.iter().map(|exec| exec.files.len()).sum::<usize>(), kinds.len());
        }
    }
}
