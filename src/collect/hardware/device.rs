//! What is told of one device, before it becomes an item of the event.

use crate::model::payload::{ConnectedHardware, ExtraDetails};
use crate::sys::host::Host;
use crate::sys::hwdata::{self, Id, List, Names};
use crate::sys::sysfs;

/// One device, read from `/sys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// `HardwareCategory`.
    pub category: &'static str,
    /// `HardwareSubCategory`.
    pub kind: String,
    /// What it is called; if nothing is known, its list of names may tell.
    pub name: Option<String>,
    /// What it is called if nobody knows better.
    pub plain_name: String,
    /// No hardware is behind it.
    pub is_virtual: bool,
    /// Which vendor and product it is, and the list that names them.
    pub id: Option<(List, Id)>,
    /// `Path` and whatever else is known, under the keys of the event.
    pub details: ExtraDetails,
}

impl Device {
    /// A device of a kind, with its path.
    pub(super) fn new(category: &'static str, kind: impl Into<String>, device: &sysfs::Device<'_>) -> Self {
        let details = [("Path", device.path().to_owned()), ("Virtual", device.is_virtual().to_string())];
        let details = details.into_iter().filter(|(_, value)| value != "false");
        Self {
            category,
            kind: kind.into(),
            plain_name: device.name().to_owned(),
            is_virtual: device.is_virtual(),
            details: details.map(|(key, value)| (key.to_owned(), value)).collect(),
            ..Self::default()
        }
    }

    /// Adds a detail if it is known.
    pub(super) fn tell(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.details.insert(key.to_owned(), value);
        }
    }

    /// Adds its vendor and product.
    pub(super) fn identify(&mut self, list: List, vendor: Option<u32>, product: Option<u32>) {
        let number = |id: Option<u32>| id.and_then(|id| u16::try_from(id).ok());
        let (Some(vendor), Some(product)) = (number(vendor), number(product)) else { return };
        self.id = Some((list, (vendor, product)));
        self.tell("VendorId", Some(format!("{vendor:04x}")));
        self.tell("ProductId", Some(format!("{product:04x}")));
    }

    /// The item of the event. The names of the system's list stand for what the device says of itself, which then has
    /// keys of its own if it is something else.
    pub(super) fn into_item(mut self, names: &AllNames) -> ConnectedHardware {
        if let Some((list, id)) = self.id {
            let (vendor, product) = names.of(list, id);
            for (key, said, listed) in [("Vendor", "ReportedVendor", vendor), ("Product", "ReportedProduct", product)] {
                let Some(listed) = listed else { continue };
                let before = self.details.insert(key.to_owned(), listed.to_owned());
                self.tell(said, before.filter(|before| before != listed));
            }
        }
        let detail = |key: &str| self.details.get(key).cloned();
        let name = self.name.clone().or_else(|| match (detail("Vendor"), detail("Product")) {
            (Some(vendor), Some(product)) if self.id.is_some() => Some(format!("{vendor} {product}")),
            (_, product) => product,
        });
        ConnectedHardware {
            hardware_category: self.category.to_owned(),
            hardware_sub_category: self.kind,
            hardware_name: name.unwrap_or(self.plain_name),
            extra_details: self.details,
        }
    }
}

/// The names of all devices of a snapshot.
#[derive(Debug, Default)]
pub(super) struct AllNames {
    usb: Names,
    pci: Names,
}

impl AllNames {
    /// Reads each list once, if something of it is wanted.
    pub(super) fn of_all<'a>(host: &Host, devices: impl Iterator<Item = &'a Device>) -> Self {
        let ids: Vec<(List, Id)> = devices.filter_map(|device| device.id).collect();
        let names = |list| {
            let wanted: Vec<Id> = ids.iter().filter(|(of, _)| *of == list).map(|(_, id)| *id).collect();
            hwdata::look_up(host, list, &wanted)
        };
        Self { usb: names(List::Usb), pci: names(List::Pci) }
    }

    fn of(&self, list: List, id: Id) -> (Option<&str>, Option<&str>) {
        let names = match list {
            List::Usb => &self.usb,
            List::Pci => &self.pci,
        };
        (names.vendor(id), names.product(id))
    }
}
