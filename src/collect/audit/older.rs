//! Connections of processes that are older than audit. The kernel records none of them, so they are looked for where the
//! machine's sockets are listed: those that last for a look are told.

use std::time::Duration;

use super::elders::Elders;
use crate::collect::connections;
use crate::collect::lane::SourceContext;
use crate::collect::source::Source;
use crate::model::event::Observation;
use crate::model::payload::Payload;
use crate::model::time::Mono;

/// Between two looks, and between two tries to open the listing.
const EVERY: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(60);

/// See the top of this file.
pub(super) struct Older {
    context: SourceContext,
    wanted: bool,
    sockets: Option<Box<dyn Source>>,
    next: Mono,
}

impl Older {
    /// Nothing is wanted yet.
    pub(super) fn new(context: &SourceContext) -> Self {
        Self { context: context.clone(), wanted: false, sockets: None, next: Mono::default() }
    }

    /// Looks from now on, or no more. What is there now is not new.
    pub(super) fn want(&mut self, wanted: bool, elders: &Elders, now: Mono) {
        self.wanted = wanted;
        if !wanted || elders.count() == 0 {
            self.sockets = None;
        } else if self.sockets.is_none() {
            self.open(now);
        }
    }

    fn open(&mut self, now: Mono) {
        self.next = now.after(EVERY);
        match connections::open(&self.context, connections::EVENTS, "") {
            Ok(sockets) => self.sockets = Some(sockets),
            Err(reason) => {
                tracing::warn!(reason, "connections of processes that are older than audit are not seen");
                self.next = now.after(AGAIN);
            }
        }
    }

    /// How long to wait for the next look; `None` if there is none to come.
    pub(super) fn patience(&self, now: Mono, elders: &Elders) -> Option<Duration> {
        (self.wanted && elders.count() > 0).then(|| self.next.since(now))
    }

    /// If it is time, looks; gives the new connections of processes that are among the elders.
    pub(super) fn look(&mut self, now: Mono, elders: &Elders) -> Vec<Observation> {
        if !self.wanted || now < self.next {
            return Vec::new();
        }
        if elders.count() == 0 {
            self.sockets = None;
            return Vec::new();
        }
        let Some(sockets) = &mut self.sockets else {
            self.open(now);
            return Vec::new();
        };
        self.next = now.after(EVERY);
        let mut seen = Vec::new();
        // What was lost is told by nobody: the coverage says that not all of these are seen.
        if sockets.drain(Duration::ZERO, &mut seen).is_err() {
            self.sockets = None;
        }
        let host = &self.context.host;
        seen.retain(|seen| matches!(&seen.what, Payload::ConnectionCreate(it) if elders.has(host, it.process_id)));
        seen
    }
}
