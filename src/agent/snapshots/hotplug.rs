//! Keeps a thread that listens to the kernel's notices about devices, while ConnectedHardware is on. If it made an
//! earlier run crash it is held back for a while, and the snapshots go on without it.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::collect::hardware::{Recorder, Watch, WatchStop};
use crate::model::time::Mono;
use crate::sys::clock::Clock;
use crate::sys::crash;
use crate::sys::host::Host;

use super::super::crash_book::CrashBook;
use super::super::crashes::{HOTPLUG, Part};

/// The thread, if one is wanted, and what it writes.
pub(super) struct HotPlug {
    recorder: Arc<Recorder>,
    host: Host,
    clock: Arc<dyn Clock>,
    crashes: Arc<CrashBook>,
    running: Option<(WatchStop, JoinHandle<()>)>,
    /// It is wanted, and held back until then.
    held: Option<Mono>,
}

impl HotPlug {
    /// Nobody listens yet.
    pub(super) fn new(host: Host, clock: Arc<dyn Clock>, crashes: Arc<CrashBook>) -> Self {
        Self { recorder: Arc::default(), host, clock, crashes, running: None, held: None }
    }

    /// What came and went.
    pub(super) fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// Listens, or ends it. One that has ended by itself is started again.
    pub(super) fn want(&mut self, wanted: bool) {
        let ended = self.running.as_ref().is_some_and(|(_, thread)| thread.is_finished());
        if !wanted {
            self.stop();
        } else if self.running.is_none() || ended {
            self.running = None;
            if let Some(held) = self.crashes.held(&Part::HotPlug, self.clock.now().mono) {
                self.held = Some(held.until);
                self.recorder.nobody_listens(held.why);
                return;
            }
            let missed = self.held.take().is_some() || ended;
            // The kernel tells of the machine that it runs on, not of another one's files.
            let started = if self.host.is_live() { self.start(missed) } else { Ok(()) };
            if let Err(error) = started {
                self.recorder.nobody_listens(error.to_string());
            }
        }
    }

    /// When [`HotPlug::want`] is to be asked again, if it is held back.
    pub(super) fn again(&self) -> Option<Mono> {
        self.held
    }

    /// `missed`: there were times in which nobody listened.
    fn start(&mut self, missed: bool) -> std::io::Result<()> {
        let writer = self.recorder.begin();
        if missed {
            writer.lost();
        }
        let mut watch = Watch::open()?;
        let stop = watch.stop();
        let (host, clock) = (self.host.clone(), Arc::clone(&self.clock));
        let crashes = Arc::clone(&self.crashes);
        let thread = std::thread::Builder::new().name(HOTPLUG.into()).spawn(move || {
            crash::if_asked();
            if let Err(error) = watch.follow(&host, clock.as_ref(), &writer) {
                tracing::warn!(%error, "the kernel's notices about devices cannot be read");
                crashes.down(&Part::HotPlug);
            }
        })?;
        self.crashes.up(&Part::HotPlug, self.clock.now().mono);
        self.running = Some((stop, thread));
        Ok(())
    }

    fn stop(&mut self) {
        self.held = None;
        if let Some((stop, _)) = self.running.take() {
            stop.stop();
            self.crashes.down(&Part::HotPlug);
            self.recorder.forget();
        }
    }
}

impl Drop for HotPlug {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::clock::ManualClock;
    use crate::sys::crash_file::{self, Crash};

    fn at(host: Host) -> HotPlug {
        HotPlug::new(host, clock(), Arc::default())
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()))
    }

    #[test]
    fn one_that_crashed_is_held_back_and_then_listens_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, clock) = (crash_file::path(dir.path()), clock());
        for _ in 0..3 {
            crash_file::append(&file, &Crash::new(HOTPLUG, clock.now().wall.utc, "m", "p")).unwrap();
        }
        let crashes = Arc::new(CrashBook::open(file, clock.now()));
        let mut hotplug = HotPlug::new(Host::system(), Arc::clone(&clock) as _, crashes);
        hotplug.want(true);
        let pause = hotplug.again().unwrap().since(clock.now().mono).as_secs();
        assert!(pause == 8 && hotplug.running.is_none());
        hotplug.want(false);
        assert_eq!(hotplug.again(), None);
        hotplug.want(true);
        clock.advance(Duration::from_secs(8));
        hotplug.want(true);
        assert!(hotplug.running.is_some() && hotplug.again().is_none());
    }

    #[test]
    fn one_thread_listens_while_it_is_wanted() {
        let mut hotplug = at(Host::system());
        hotplug.want(true);
        let first = hotplug.running.as_ref().unwrap().1.thread().id();
        hotplug.want(true);
        assert_eq!(hotplug.running.as_ref().unwrap().1.thread().id(), first);
        let (stop, thread) = hotplug.running.take().unwrap();
        stop.stop();
        thread.join().unwrap();
        hotplug.want(true);
        assert!(hotplug.running.is_some(), "on again");
        hotplug.want(false);
        assert!(hotplug.running.is_none());
    }

    #[test]
    fn one_that_ended_by_itself_is_started_again() {
        let mut hotplug = at(Host::system());
        hotplug.want(true);
        let (stop, thread) = hotplug.running.take().unwrap();
        stop.stop();
        thread.join().unwrap();
        let ended = std::thread::spawn(|| ());
        while !ended.is_finished() {
            std::thread::yield_now();
        }
        hotplug.running = Some((stop, ended));
        hotplug.want(true);
        assert!(hotplug.running.as_ref().is_some_and(|(_, thread)| thread.thread().name() == Some("hotplug")));
    }

    #[test]
    fn files_of_another_machine_have_no_notices() {
        let mut hotplug = at(Host::rooted("/nowhere"));
        hotplug.want(true);
        assert!(hotplug.running.is_none());
    }
}
