use std::io;

use super::*;
use crate::collect::{Coverage, Drained};
use crate::model::event::{EventName, Observation};
use crate::model::payload::{Payload, ProcessCreate};
use crate::settings::ProcessSource;
use crate::sys::clock::ManualClock;
use crate::sys::host::Host;
use crate::sys::wake::WakeFlag;

const STARTS: EventSet = EventSet::of(&[EventName::ProcessCreate]);

fn parts(root: &std::path::Path) -> (CaptureParts, flume::Receiver<ToCore>, mpsc::Receiver<CaptureNews>) {
    let (core, from_core) = flume::bounded(16);
    let (news, from_news) = mpsc::channel(16);
    let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
    let plain = SourceContext::plain(Host::rooted(root), clock);
    let context = SourceContext { wanted: ProcessSource::Poll, ..plain };
    (CaptureParts { context, core, crashes: Arc::default(), news, wait: WAIT }, from_core, from_news)
}

fn start(parts: &CaptureParts, gap_from: Option<Timestamp>) -> Capture {
    Capture::start(Lane::Kernel, parts.clone(), Arc::default(), STARTS, gap_from).unwrap()
}

#[test]
fn a_source_that_cannot_be_opened_keeps_the_start_of_its_gap() {
    let root = tempfile::tempdir().unwrap();
    let (parts, from_core, mut news) = parts(root.path());
    let since = Timestamp::trusted("2026-11-22T09:00:00Z".parse().unwrap());
    // Without `/proc` there is nothing to open.
    start(&parts, Some(since)).thread.join().unwrap();
    let Some(CaptureNews {
        lane: Lane::Kernel,
        what: CaptureChange::Ended { failure: Some(_), worked: false, unwatched_since },
    }) = news.blocking_recv()
    else {
        panic!("it did not fail")
    };
    assert_eq!(unwatched_since, Some(since));

    crate::sys::files::private_directory(&root.path().join("proc")).unwrap();
    let mut capture = start(&parts, unwatched_since);
    let Ok(ToCore::Gap(gap)) = from_core.recv() else { panic!("no gap") };
    assert_eq!((gap.start, gap.source.as_str()), (since, "ProcessCreate"));
    let Some(CaptureNews { what: CaptureChange::Opened { waker, .. }, .. }) = news.blocking_recv() else {
        panic!("not open")
    };
    capture.opened(waker);
    capture.join();
}

/// Gives one observation and breaks.
struct Breaking(WakeFlag, SourceChoice);

impl Source for Breaking {
    fn choice(&self) -> &SourceChoice {
        &self.1
    }
    fn waker(&self) -> Waker {
        self.0.waker()
    }
    fn want(&mut self, _: EventSet) -> Result<(), SourceError> {
        Ok(())
    }
    fn drain(&mut self, _: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let at = Timestamp::trusted("2026-11-22T09:30:00Z".parse().unwrap());
        out.push(Observation { at, serial: 0, what: Payload::ProcessCreate(ProcessCreate::default()) });
        Err(SourceError::Broken { name: "test", source: io::Error::other("broken") })
    }
}

fn breaking() -> Breaking {
    let coverage = Coverage { event: EventName::ProcessCreate, cannot_see: String::new(), complete: true };
    let choice = SourceChoice { name: "test", reason: String::new(), covers: vec![coverage] };
    Breaking(WakeFlag::new().unwrap(), choice)
}

#[test]
fn what_is_switched_on_is_a_gap_from_the_order_until_it_is_watched() {
    let root = tempfile::tempdir().unwrap();
    let (parts, from_core, _news) = parts(root.path());
    let at = Timestamp::trusted("2026-11-22T09:29:00Z".parse().unwrap());
    let mut watched = EventSet::NONE;
    let login = EventSet::of(&[EventName::Login]);
    for events in [login, STARTS.with(login), STARTS.with(login), STARTS] {
        obey(&parts, &mut breaking(), Order { events, at }, &mut watched).unwrap();
    }
    // It does not see logins, so the gap in them is not its own.
    let told: Vec<_> = from_core.drain().collect();
    let [ToCore::Gap(gap)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((gap.source.as_str(), gap.start, gap.end), ("ProcessCreate", at, parts.context.clock.now().wall));
}

#[test]
fn how_a_source_sees_is_told_again_when_it_changed_and_not_before() {
    let root = tempfile::tempdir().unwrap();
    let (parts, _, mut news) = parts(root.path());
    let mut told = breaking().1;
    tell_choice(&parts, Lane::Logins, &told.clone(), &mut told);
    assert!(news.try_recv().is_err());
    let less = SourceChoice { reason: "less".into(), ..told.clone() };
    for _ in 0..2 {
        tell_choice(&parts, Lane::Logins, &less, &mut told);
    }
    let CaptureNews { lane: Lane::Logins, what: CaptureChange::Changed(choice) } = news.try_recv().unwrap() else {
        panic!("not told")
    };
    assert_eq!(choice, less);
    assert!(news.try_recv().is_err());
}

#[test]
fn what_a_source_saw_before_it_broke_is_handed_on() {
    let root = tempfile::tempdir().unwrap();
    let (parts, from_core, _news) = parts(root.path());
    let mut source = breaking();
    assert!(hand_on(&parts, &mut source, STARTS, Duration::ZERO).is_err());
    assert!(matches!(from_core.try_recv(), Ok(ToCore::Observed(batch)) if batch.len() == 1));
}
