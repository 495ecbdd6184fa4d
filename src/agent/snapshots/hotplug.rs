//! Keeps a thread that listens to the kernel's notices about devices, while ConnectedHardware is on.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::collect::hardware::{Recorder, Watch, WatchStop};
use crate::sys::clock::Clock;
use crate::sys::host::Host;

/// The thread, if one is wanted, and what it writes.
pub(super) struct HotPlug {
    recorder: Arc<Recorder>,
    host: Host,
    clock: Arc<dyn Clock>,
    running: Option<(WatchStop, JoinHandle<()>)>,
}

impl HotPlug {
    /// Nobody listens yet.
    pub(super) fn new(host: Host, clock: Arc<dyn Clock>) -> Self {
        Self { recorder: Arc::default(), host, clock, running: None }
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
            // The kernel tells of the machine that it runs on, not of another one's files.
            let started = if self.host.is_live() { self.start(ended) } else { Ok(()) };
            if let Err(error) = started {
                self.recorder.nobody_listens(error.to_string());
            }
        }
    }

    fn start(&mut self, again: bool) -> std::io::Result<()> {
        let writer = self.recorder.begin();
        if again {
            writer.lost();
        }
        let mut watch = Watch::open()?;
        let stop = watch.stop();
        let (host, clock) = (self.host.clone(), Arc::clone(&self.clock));
        let thread = std::thread::Builder::new().name("hotplug".into()).spawn(move || {
            if let Err(error) = watch.follow(&host, clock.as_ref(), &writer) {
                tracing::warn!(%error, "the kernel's notices about devices cannot be read");
            }
        })?;
        self.running = Some((stop, thread));
        Ok(())
    }

    fn stop(&mut self) {
        if let Some((stop, _)) = self.running.take() {
            stop.stop();
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
    use super::*;
    use crate::sys::clock::ManualClock;

    fn at(host: Host) -> HotPlug {
        HotPlug::new(host, Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap())))
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
