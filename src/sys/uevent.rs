//! What the kernel tells when a device comes or goes, and the socket that it tells it on.
//!
//! A datagram is a header and then properties, each ended by NUL:
//!
//! ```text
//! add@/devices/pci0000:00/0000:00:14.0/usb1/1-2 \0
//! ACTION=add \0 DEVPATH=/devices/… \0 SUBSYSTEM=usb \0 DEVTYPE=usb_device \0 PRODUCT=781/5567/100 \0 … SEQNUM=4711 \0
//! ```
//!
//! One that somebody asked for by writing into a file `uevent`, as udev does at boot for all devices, has `SYNTH_UUID`
//! (Linux 4.13): nothing has come or gone then. The kernel sends to group 1, which everybody may join; udev's own
//! messages, in another form, go to group 2. Devices that belong to a network namespace are told only there, all others
//! to namespaces of the initial user namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::netlink::KOBJECT_UEVENT;

use super::netlink::{Received, Socket};

const GROUP: u32 = 1;
/// Longest message: the kernel's own limit for the properties is 2 KiB, and a path fits beside them.
const LONGEST: usize = 8192;
/// Longest path of a device that is believed.
const PATH: usize = 1024;
/// Room for several hundred notices: a dock with all that hangs on it.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is there.
    Add,
    /// It is gone.
    Remove,
    /// It has another name.
    Move,
    /// Something else: a driver was bound, a medium changed, it is on line.
    Other,
}

/// Properties, as in a datagram or in a file `uevent` of `/sys`.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    bytes: &'a [u8],
    end: u8,
}

impl<'a> Properties<'a> {
    /// Those of a file `uevent`: one a line.
    #[must_use]
    pub const fn lines(bytes: &'a [u8]) -> Self {
        Self { bytes, end: b'\n' }
    }

    /// The value of a property: the first one of that name, for what a device says of itself comes last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let value = |entry: &'a [u8]| entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=");
        let value = self.bytes.split(|byte| *byte == self.end).find_map(value)?;
        std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
    }
}

/// One notice.
#[derive(Clone, Copy, Debug)]
pub struct Uevent<'a> {
    /// What happened.
    pub action: Action,
    /// Path of the device below `/sys`.
    pub path: &'a str,
    /// What the kernel says of it.
    pub properties: Properties<'a>,
}

impl<'a> Uevent<'a> {
    /// Where the device was before, if it was moved.
    #[must_use]
    pub fn old_path(&self) -> Option<&'a str> {
        self.properties.get("DEVPATH_OLD").filter(|path| is_device(path))
    }

    /// Whether somebody asked for it, so that nothing has happened.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.properties.get("SYNTH_UUID").is_some()
    }
}

/// Reads a datagram. `None` for what is not of the kernel's form.
#[must_use]
pub fn decode(datagram: &[u8]) -> Option<Uevent<'_>> {
    let end = datagram.iter().position(|byte| *byte == 0)?;
    let (action, path) = std::str::from_utf8(datagram.get(..end)?).ok()?.split_once('@')?;
    let properties = Properties { bytes: datagram.get(end.checked_add(1)?..)?, end: 0 };
    let action = match action {
        "add" => Action::Add,
        "remove" => Action::Remove,
        "move" => Action::Move,
        _ => Action::Other,
    };
    is_device(path).then_some(Uevent { action, path, properties })
}

fn is_device(path: &str) -> bool {
    path.len() <= PATH && path.starts_with("/devices/") && path.split('/').all(|part| part != "..")
}

/// What one read gave.
#[derive(Debug)]
pub enum Next<'a> {
    /// A notice.
    Told(Uevent<'a>),
    /// A datagram of another form.
    Strange,
    /// The kernel dropped notices.
    Lost,
    /// Nothing waits.
    Empty,
}

/// A subscription.
#[derive(Debug)]
pub struct UeventSocket {
    socket: Socket,
    buffer: Vec<u8>,
}

impl UeventSocket {
    /// Subscribes; needs no right.
    ///
    /// # Errors
    /// The kernel was built without notices, or a filter of system calls forbids them.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(KOBJECT_UEVENT, GROUP)?;
        socket.raise_buffer(RECEIVE_BUFFER);
        Ok(Self { socket, buffer: vec![0; LONGEST] })
    }

    /// The next one, without waiting. Only the kernel is heard.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn read(&mut self) -> io::Result<Next<'_>> {
        Ok(match self.socket.receive(&mut self.buffer)? {
            Received::Datagram(length) => {
                decode(self.buffer.get(..length).unwrap_or_default()).map_or(Next::Strange, Next::Told)
            }
            Received::Overflow => Next::Lost,
            Received::Empty => Next::Empty,
        })
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_notice_is_read() {
        let text = b"add@/devices/pci0/usb1/1-2\0ACTION=add\0DEVPATH=/devices/pci0/usb1/1-2\0SUBSYSTEM=usb\0\
            DEVTYPE=usb_device\0PRODUCT=781/5567/100\0EMPTY=\0SEQNUM=12\0";
        let told = decode(text).unwrap();
        assert_eq!((told.action, told.path), (Action::Add, "/devices/pci0/usb1/1-2"));
        assert_eq!(told.properties.get("PRODUCT"), Some("781/5567/100"));
        assert_eq!((told.properties.get("EMPTY"), told.properties.get("PROD")), (None, None));
        assert!(!told.is_asked_for());
        assert_eq!(told.old_path(), None);
    }

    #[test]
    fn what_was_asked_for_is_known() {
        let text = b"add@/devices/virtual/net/lo\0ACTION=add\0SUBSYSTEM=net\0SYNTH_UUID=0\0";
        assert!(decode(text).unwrap().is_asked_for());
    }

    /// A device chooses its own name; it cannot make other properties out of it.
    #[test]
    fn a_name_with_a_line_end_adds_no_property() {
        let text = b"add@/devices/x/input/input5\0SUBSYSTEM=input\0NAME=\"a\nSYNTH_UUID=0\"\0";
        let told = decode(text).unwrap();
        assert!(!told.is_asked_for());
        assert_eq!(told.properties.get("SUBSYSTEM"), Some("input"));
    }

    #[test]
    fn what_is_not_of_the_kernels_form_is_nothing() {
        for text in [
            b"libudev\0\xfe\xed\xca\xfe".as_slice(),
            b"add@/devices/x",
            b"add@/etc/passwd\0",
            b"add@/devices/../../etc\0",
            b"",
            b"\0",
        ] {
            assert!(decode(text).is_none(), "{text:?}");
        }
        assert!(decode(format!("add@/devices/{}\0", "x".repeat(PATH)).as_bytes()).is_none());
        let moved = decode(b"move@/devices/virtual/net/b\0DEVPATH_OLD=/devices/virtual/net/a\0").unwrap();
        assert_eq!((moved.action, moved.old_path()), (Action::Move, Some("/devices/virtual/net/a")));
    }

    /// Joining needs no right.
    #[test]
    fn this_machine_has_notices() {
        let mut socket = UeventSocket::open().unwrap();
        socket.read().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), after in any::<Vec<u8>>()) {
            let _ = decode(&bytes);
            let mut text = b"add@/devices/x\0".to_vec();
            text.extend(after);
            let told = decode(&text).unwrap();
            let _ = (told.is_asked_for(), told.old_path(), told.properties.get("SUBSYSTEM"));
            let _ = Properties::lines(&bytes).get("DEVTYPE");
        }
    }
}
