//! What all connections of one lab share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::faults::Faults;
use super::identity::{Outbound, Record, Registry};
use super::observed::{Happening, Observed, Watchers};
use super::signin::Rules;
use super::twin::{Notice, Twin};
use super::twin_rules::TwinError;
use crate::sys::clock::Clock;

/// The lab's insides.
pub(super) struct Shared {
    registry: Mutex<Registry>,
    pub faults: watch::Sender<Faults>,
    pub watchers: Watchers,
    pub rules: Rules,
    pub certificates: Certificates,
    pub clock: Arc<dyn Clock>,
    /// From the end of a token to the cut.
    pub cut_after_expiry: Duration,
    /// From TCP to CONNECT.
    pub sign_in_limit: Duration,
    pub ending: CancellationToken,
    pub tasks: TaskTracker,
    serials: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        rules: Rules,
        certificates: Certificates,
        clock: Arc<dyn Clock>,
        cut_after_expiry: Duration,
        sign_in_limit: Duration,
    ) -> Self {
        let ending = CancellationToken::new();
        Self {
            registry: Mutex::default(),
            faults: watch::Sender::default(),
            watchers: Watchers::new(ending.clone()),
            rules,
            certificates,
            clock,
            cut_after_expiry,
            sign_in_limit,
            ending,
            tasks: TaskTracker::new(),
            serials: AtomicU64::new(0),
        }
    }

    /// Works on the registry; never held across an await.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// A number that no connection before had.
    pub(super) fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// The time by the lab's clock.
    pub(super) fn now(&self) -> jiff::Timestamp {
        self.clock.now().wall.utc
    }

    /// Tells those who watch.
    pub(super) async fn tell(&self, client: &str, what: Happening) {
        self.watchers.tell(Observed { at: self.now(), client: client.to_owned(), what }).await;
    }

    /// Changes desired of `client` and notifies it, if it listens.
    ///
    /// # Errors
    /// There is no such module, or a rule is broken.
    pub(super) fn change_desired(
        &self,
        client: &str,
        change: impl FnOnce(&mut Twin) -> Result<Notice, TwinError>,
    ) -> Result<u64, TwinError> {
        let (missed, twice) = {
            let faults = self.faults.borrow();
            (faults.miss_desired_notices, faults.duplicate_desired_notices)
        };
        self.with(|registry| {
            let record = registry.get_mut(client).ok_or_else(|| TwinError::NoModule(client.to_owned()))?;
            let notice = change(&mut record.twin)?;
            let version = notice.version;
            if !missed && record.listens(|filter| filter == super::topic::DESIRED_NOTICES) {
                if twice {
                    record.send(Outbound::Desired(notice.clone()));
                }
                record.send(Outbound::Desired(notice));
            }
            Ok(version)
        })
    }

    /// Reads something of `client`.
    pub(super) fn read<T>(&self, client: &str, f: impl FnOnce(&Record) -> T) -> Option<T> {
        self.with(|registry| registry.get(client).map(f))
    }
}
