//! Which devices came and went, between one snapshot and the next. Pure state behind a lock; [`super::Watch`] feeds it.
//!
//! What went is kept until a snapshot that tells it is in the core's hands ([`Recorder::told`]): a collector that fails
//! or hangs loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LIMIT;
use super::device::Device;
use super::read;
use crate::model::time::{Now, Timestamp};
use crate::sys::host::Host;
use crate::sys::sysfs;
use crate::sys::uevent::{Action, Properties, Uevent};

/// Most devices that went and are not told yet.
const GONE: usize = 256;
/// Most of these that the system had made up: a host of containers has a pair of interfaces for each, and they must not
/// leave hardware out.
const VIRTUAL_GONE: usize = 64;

/// A device that is there, as far as we know.
#[derive(Debug)]
struct Known {
    device: Device,
    /// When it came, if we saw it.
    connected: Option<Now>,
    /// The number of the change that brought it.
    number: u64,
}

/// A device that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub device: Device,
    /// When it came, if we saw it.
    pub connected: Option<Now>,
    pub at: Now,
    number: u64,
}

/// How much cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Devices that went, beyond [`GONE`] and [`VIRTUAL_GONE`].
    left_out: u64,
    /// How often notices were lost.
    lost: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Which writer may write.
    writer: u64,
    /// Why nobody listens, if that is so.
    trouble: Option<String>,
    /// The number of the last change.
    number: u64,
    /// By path.
    known: BTreeMap<String, Known>,
    /// The oldest first.
    gone: VecDeque<Gone>,
    losses: Losses,
    /// Up to which change, and which losses, the last look has told.
    offered: (u64, Losses),
}

/// What came and went.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<State>);

/// What a snapshot can tell of what came and went.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The last change that it knows.
    pub mark: u64,
    /// When the devices came that we saw coming, by path.
    pub connected: BTreeMap<String, Now>,
    pub gone: Vec<Gone>,
    losses: Losses,
    trouble: Option<String>,
}

impl Look {
    /// What is not known, each a part of a sentence.
    pub(super) fn missing(&self) -> Vec<String> {
        let Losses { left_out, lost } = self.losses;
        let mut missing = Vec::new();
        if let Some(why) = &self.trouble {
            missing.push(format!("devices that come and go between two snapshots are not seen: {why}"));
        }
        if lost > 0 {
            missing.push(format!("notices about devices were lost {lost} time(s) since the last snapshot"));
        }
        if left_out > 0 {
            missing.push(format!("{left_out} more devices that went are left out"));
        }
        missing
    }
}

impl Recorder {
    /// From now on a new writer is heard, and no other one. What is not told yet is kept.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Writer {
        let mut state = self.state();
        state.writer += 1;
        state.trouble = None;
        Writer { recorder: Arc::clone(self), number: state.writer }
    }

    /// Forgets everything, and hears nobody until somebody begins.
    pub fn forget(&self) {
        let mut state = self.state();
        *state = State { writer: state.writer + 1, number: state.number, ..State::default() };
    }

    /// Nobody listens, and why.
    pub fn nobody_listens(&self, why: String) {
        self.state().trouble = Some(why);
    }

    /// The snapshot of the last look has been taken over: what it told is not told again.
    pub fn told(&self) {
        let mut state = self.state();
        let (mark, losses) = std::mem::take(&mut state.offered);
        state.gone.retain(|gone| gone.number > mark);
        state.losses.left_out = state.losses.left_out.saturating_sub(losses.left_out);
        state.losses.lost = state.losses.lost.saturating_sub(losses.lost);
    }

    pub(super) fn look(&self) -> Look {
        let mut state = self.state();
        state.offered = (state.number, state.losses);
        Look {
            mark: state.number,
            connected: state.known.iter().filter_map(|(path, known)| Some((path.clone(), known.connected?))).collect(),
            gone: state.gone.iter().cloned().collect(),
            losses: state.losses,
            trouble: state.trouble.clone(),
        }
    }

    /// Remembers what is there, so that it has a name when it goes: `devices` were listed after the look with `mark`.
    pub(super) fn listed(&self, mark: u64, devices: &[Device]) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.known);
        let mut known = BTreeMap::new();
        for device in devices {
            let Some(path) = device.details.get("Path") else { continue };
            let kept = before.remove(path);
            // It may have gone while the list was made.
            if kept.is_none()
                && state.gone.iter().any(|g| g.number > mark && g.device.details.get("Path") == Some(path))
            {
                continue;
            }
            let (connected, number) = kept.map_or((None, 0), |kept| (kept.connected, kept.number));
            known.insert(path.clone(), Known { device: device.clone(), connected, number });
        }
        // What came while the list was made is not in it. What is in neither went when notices were lost.
        known.extend(before.into_iter().filter(|(_, known)| known.number > mark));
        state.known = known;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may write into a [`Recorder`].
#[derive(Debug)]
pub struct Writer {
    recorder: Arc<Recorder>,
    number: u64,
}

impl Writer {
    fn change(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.recorder.state();
        if state.writer == self.number {
            state.number += 1;
            what(&mut state);
        }
    }

    /// Notices were lost.
    pub fn lost(&self) {
        self.change(|state| state.losses.lost += 1);
    }

    /// Takes a notice of the kernel; reads the device at once, for it may be gone soon.
    pub fn notice(&self, host: &Host, told: &Uevent<'_>, now: Now) {
        if told.is_asked_for() {
            return;
        }
        let Some(subsystem) = told.properties.get("SUBSYSTEM") else { return };
        let device = sysfs::Device::at(host, told.path);
        if subsystem == "usb" && told.properties.get("DEVTYPE") == Some("usb_interface") {
            // Interfaces come after their device, and drivers after these.
            if told.action != Action::Remove
                && let Some(parent) = device.parent()
            {
                self.read_again(&parent);
            }
            return;
        }
        match told.action {
            Action::Add => {
                if let Some(device) = read(&device, subsystem, told.properties) {
                    self.came(told.path, device, now);
                }
            }
            Action::Remove => self.went(told.path, read(&device, subsystem, told.properties), now),
            Action::Move => {
                let (Some(old), Some(new)) = (told.old_path(), read(&device, subsystem, told.properties)) else {
                    return;
                };
                self.moved(old, told.path, new);
            }
            Action::Other => {}
        }
    }

    fn came(&self, path: &str, device: Device, now: Now) {
        self.change(|state| {
            let known = Known { device, connected: Some(now), number: state.number };
            if state.known.len() < LIMIT || state.known.contains_key(path) {
                state.known.insert(path.to_owned(), known);
            }
        });
    }

    fn moved(&self, old: &str, new: &str, device: Device) {
        self.change(|state| {
            if let Some(known) = state.known.remove(old) {
                // A list that is being made may have it under either name.
                state.known.insert(new.to_owned(), Known { device, connected: known.connected, number: state.number });
            }
        });
    }

    /// `seen` is what can be known of a device that nobody knew.
    fn went(&self, path: &str, seen: Option<Device>, now: Now) {
        self.change(|state| {
            let (device, connected) = match (state.known.remove(path), seen) {
                (Some(known), _) => (known.device, known.connected),
                (None, Some(seen)) => (seen, None),
                (None, None) => return,
            };
            let made_up = || state.gone.iter().filter(|gone| gone.device.is_virtual).count();
            if state.gone.len() >= GONE || device.is_virtual && made_up() >= VIRTUAL_GONE {
                state.losses.left_out += 1;
                return;
            }
            state.gone.push_back(Gone { device, connected, at: now, number: state.number });
        });
    }

    /// Reads a device again that has just come, if it is still there.
    fn read_again(&self, device: &sysfs::Device<'_>) {
        let is_new = |state: &State| state.known.get(device.path()).is_some_and(|known| known.connected.is_some());
        if !is_new(&self.recorder.state()) {
            return;
        }
        let uevent = device.uevent();
        if let Some(again) = read(device, "usb", Properties::lines(&uevent)) {
            self.change(|state| {
                if let Some(known) = state.known.get_mut(device.path()) {
                    known.device = again;
                }
            });
        }
    }
}

/// When something was, as RFC 3339 in UTC. If the clock was set since, as boards without one of their own do after each
/// start, the time since then says it.
pub(super) fn time(then: Now, now: Now) -> String {
    let passed = now.mono.since(then.mono);
    let by_boot = now.wall.utc.checked_sub(passed).unwrap_or(then.wall.utc);
    let is_same = by_boot.duration_since(then.wall.utc).unsigned_abs() < Duration::from_secs(2);
    let utc = if is_same { then.wall.utc } else { by_boot };
    Timestamp { utc, trusted: true }.utc_text()
}
