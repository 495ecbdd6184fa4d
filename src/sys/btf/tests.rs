use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// Writes type information.
struct Writer {
    strings: Vec<u8>,
    types: Vec<u8>,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], types: Vec::new() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len().try_into().unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn numbers(&mut self, numbers: &[u32]) -> &mut Self {
        self.types.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
        self
    }

    /// Members: name, type, offset.
    fn structure(&mut self, name: &str, flags: u32, members: &[(&str, u32, u32)]) {
        let name = self.name(name);
        let count = u32::try_from(members.len()).unwrap();
        self.numbers(&[name, flags | STRUCT << 24 | count, 64]);
        for (name, number, at) in members {
            let name = self.name(name);
            self.numbers(&[name, *number, *at]);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut all = 0x0001_eb9f_u32.to_le_bytes().to_vec();
        for number in [24, 0, length(&self.types), length(&self.types), length(&self.strings)] {
            all.extend_from_slice(&number.to_le_bytes());
        }
        all.extend_from_slice(&self.types);
        all.extend_from_slice(&self.strings);
        all
    }
}

fn look(bytes: &[u8], wanted: &[(&str, &str)]) -> Result<Vec<Option<u32>>, BtfError> {
    let wanted: Vec<_> = wanted.iter().map(|(structure, name)| Member { structure, name }).collect();
    offsets(Cursor::new(bytes), &wanted)
}

fn sample() -> Writer {
    let mut writer = Writer::new();
    // 1: an integer; 2: an array; 3: an enumeration of two.
    writer.numbers(&[0, 1 << 24, 4, 32]).numbers(&[0, 3 << 24, 0, 1, 1, 5]).numbers(&[0, 6 << 24 | 2, 4, 0, 0, 0, 1]);
    // 4: the inside of 5, and 6 stands inside of 4.
    writer.structure("", 0, &[("deep", 1, 8), ("", 6, 64)]);
    writer.structure("task", 0, &[("pid", 1, 32), ("", 4, 128), ("odd", 1, 3)]);
    writer.structure("", 0, &[("deeper", 1, 16)]);
    writer.structure("cred", 1 << 31, &[("uid", 1, 64), ("flag", 1, (1 << 24) + 96)]);
    // The same name again, as a driver may have it.
    writer.structure("task", 0, &[("pid", 1, 800), ("late", 1, 0)]);
    writer
}

#[test]
fn members_are_found_also_inside_structures_without_a_name() {
    let bytes = sample().bytes();
    let wanted = [
        ("task", "pid"),
        ("task", "deep"),
        ("task", "deeper"),
        ("cred", "uid"),
        ("cred", "flag"),
        ("cred", "pid"),
        ("task", "odd"),
        ("task", "late"),
        ("absent", "pid"),
    ];
    let found = look(&bytes, &wanted).unwrap();
    assert_eq!(found, [Some(4), Some(17), Some(26), Some(8), None, None, None, None, None]);
}

#[test]
fn what_is_no_type_information_is_refused() {
    assert!(matches!(look(b"", &[]), Err(BtfError::Io(_))));
    assert!(matches!(look(&[0; 100], &[]), Err(BtfError::Foreign)));
    let bytes = sample().bytes();
    for end in 0..bytes.len() {
        assert!(look(&bytes[..end], &[("task", "deep")]).is_err(), "{end}");
    }
    let mut unknown = sample();
    unknown.numbers(&[0, 31 << 24, 0]);
    assert!(matches!(look(&unknown.bytes(), &[]), Err(BtfError::UnknownKind(31))));
}

/// A structure that contains itself without a name ends the search all the same.
#[test]
fn a_circle_ends() {
    let mut writer = Writer::new();
    writer.structure("a", 0, &[("", 1, 8), ("", 1, 8)]);
    assert_eq!(look(&writer.bytes(), &[("a", "b")]).unwrap(), [None]);
}

/// This kernel's own, if it has any.
#[test]
fn this_kernel_is_read() {
    let Ok(file) = std::fs::File::open("/sys/kernel/btf/vmlinux") else { return };
    let wanted = [("task_struct", "tgid"), ("task_struct", "pid"), ("sock_common", "skc_daddr"), ("cred", "uid")];
    let wanted: Vec<_> = wanted.iter().map(|(structure, name)| Member { structure, name }).collect();
    let found = offsets(file, &wanted).unwrap();
    // The thread group's number stands behind the thread's own, and the peer's address is the first of a socket.
    assert_eq!(found[0], found[1].map(|pid| pid + 4));
    assert_eq!(found[2], Some(0));
    assert!(found[3].is_some());
}

proptest! {
    #[test]
    fn any_bytes_end(mut bytes in prop::collection::vec(any::<u8>(), 0..400), plausible: bool) {
        if plausible && bytes.len() > 24 {
            let rest = u32::try_from(bytes.len()).unwrap() - 24;
            let header = [0x0001_eb9f, 24, 0, rest / 2, rest / 2, rest - rest / 2];
            for (place, number) in bytes.chunks_exact_mut(4).zip(header) {
                place.copy_from_slice(&number.to_ne_bytes());
            }
        }
        let _ = look(&bytes, &[("task", "deep")]);
    }

    /// Damage in one place of good information ends in an answer or an error.
    #[test]
    fn any_damage_ends(at in 0_usize..300, byte: u8) {
        let mut bytes = sample().bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = look(&bytes, &[("task", "deeper"), ("cred", "uid")]);
    }
}
