//! Names of vendors and products from the lists that a system may have (`usb.ids`, `pci.ids`).
//!
//! ```text
//! # a comment
//! 0781  SanDisk Corp.
//! <TAB>5567  Cruzer Blade
//! <TAB><TAB>…  something below a product
//! C 03  a class; other lists in the same file begin with letters too
//! ```
//!
//! Such a list has up to 1.5 MB. It is read once for all that is wanted, a line at a time.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use super::host::Host;
use super::sysfs::clean;

/// Longest list that is read.
const LIST: usize = 8 << 20;
/// Longest line that is looked at.
const LINE: u64 = 1024;

/// Where distributions have the lists.
const USB: &[&str] = &["/usr/share/hwdata/usb.ids", "/usr/share/misc/usb.ids", "/var/lib/usbutils/usb.ids"];
const PCI: &[&str] = &["/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids"];

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// `usb.ids`.
    Usb,
    /// `pci.ids`.
    Pci,
}

/// A vendor, and a product of it.
pub type Id = (u16, u16);

/// The names that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    vendors: BTreeMap<u16, String>,
    products: BTreeMap<Id, String>,
}

impl Names {
    /// The name of a vendor.
    #[must_use]
    pub fn vendor(&self, id: Id) -> Option<&str> {
        self.vendors.get(&id.0).map(String::as_str)
    }

    /// The name of a product.
    #[must_use]
    pub fn product(&self, id: Id) -> Option<&str> {
        self.products.get(&id).map(String::as_str)
    }
}

/// Looks these up in the system's list. Nothing is found if there is none.
#[must_use]
pub fn look_up(host: &Host, list: List, wanted: &[Id]) -> Names {
    if wanted.is_empty() {
        return Names::default();
    }
    let places = match list {
        List::Usb => USB,
        List::Pci => PCI,
    };
    let Some(file) = places.iter().find_map(|path| host.reader(path, LIST).ok()) else { return Names::default() };
    // What was read until a fault is right.
    let mut names = Names::default();
    let _ = scan(BufReader::new(file), wanted, &mut names);
    names
}

/// Reads a list as far as it must for `wanted`.
fn scan(mut list: impl BufRead, wanted: &[Id], names: &mut Names) -> io::Result<()> {
    let mut left: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for (vendor, product) in wanted {
        left.entry(*vendor).or_default().push(*product);
    }
    let mut current: Option<(u16, Vec<u16>)> = None;
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        if list.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let was_rest = std::mem::replace(&mut is_rest, line.last() != Some(&b'\n'));
        if was_rest {
            continue;
        }
        if let Some(product) = line.strip_prefix(b"\t") {
            if let Some((vendor, products)) = &current
                && let Some((id, name)) = entry(product)
                && products.contains(&id)
            {
                names.products.entry((*vendor, id)).or_insert(name);
            }
        } else if line.first().is_some_and(|byte| *byte != b'#' && !byte.is_ascii_whitespace()) {
            if left.is_empty() {
                return Ok(());
            }
            current = entry(&line).and_then(|(id, name)| {
                let products = left.remove(&id)?;
                names.vendors.insert(id, name);
                Some((id, products))
            });
        }
    }
}

/// Four hexadecimal digits, two blanks, a name.
fn entry(line: &[u8]) -> Option<(u16, String)> {
    let (digits, rest) = line.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let id = u16::from_str_radix(digits, 16).ok()?;
    Some((id, clean(&String::from_utf8_lossy(rest.strip_prefix(b"  ")?))?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# a list\n\n0001  First\n\t0002  Its product\n\t\t0003 0004  A variant\n\
        0781  SanDisk Corp.\n\t5566  Other\n\t5567  Cruzer Blade\n\n1d6b  Linux Foundation\n\t0002  2.0 root hub\n\n\
        C 00  Interface\n\t0002  not a product\nfeed face  bad\n";

    fn found(text: &str, wanted: &[Id]) -> Names {
        let mut names = Names::default();
        scan(text.as_bytes(), wanted, &mut names).unwrap();
        names
    }

    #[test]
    fn names_are_found() {
        let id = (0x0781, 0x5567);
        let names = found(TEXT, &[id, (0x0781, 0x9999), (0x1d6b, 2), (0xfeed, 1)]);
        assert_eq!((names.vendor(id), names.product(id)), (Some("SanDisk Corp."), Some("Cruzer Blade")));
        assert_eq!(names.product((0x0781, 0x9999)), None);
        assert_eq!(names.product((0x1d6b, 2)), Some("2.0 root hub"));
        assert_eq!(names.vendor((0xfeed, 1)), None);
        assert_eq!(names.products.len(), 2, "what is not wanted is not kept");
    }

    #[test]
    fn a_line_without_end_is_no_trouble() {
        let text = format!("0001  {}\n\t0002  {}\n0003  Third", "x".repeat(5000), "y".repeat(5000));
        let names = found(&text, &[(1, 2), (3, 4)]);
        assert_eq!(names.vendor((1, 2)).map(str::len), Some(256));
        assert_eq!(names.vendor((3, 4)), Some("Third"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), ids: Vec<(u16, u16)>) {
            let mut names = Names::default();
            scan(bytes.as_slice(), &ids, &mut names).unwrap();
            prop_assert!(names.vendors.len() <= ids.len() && names.products.len() <= ids.len());
        }

        #[test]
        fn what_is_listed_is_found(vendor: u16, product: u16, name in "[A-Za-z][A-Za-z .]{0,30}[a-z]") {
            let text = format!("{vendor:04x}  {name}\n\t{product:04x}  the {name}\n");
            let names = found(&text, &[(vendor, product)]);
            prop_assert_eq!(names.vendor((vendor, product)), Some(name.as_str()));
            let whole = format!("the {name}");
            prop_assert_eq!(names.product((vendor, product)), Some(whole.as_str()));
        }
    }
}
