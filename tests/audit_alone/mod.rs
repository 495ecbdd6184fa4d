//! The audit system is one for the whole machine: tests that use it take turns, and each leaves it as it was.

use std::sync::{Mutex, MutexGuard, PoisonError};

use twinward::sys::audit::{Change, Control, Status};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The audit system in the hands of one test.
pub struct Alone {
    /// How it was.
    pub before: Status,
    /// How many rules it had.
    pub rules: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    /// Waits for its turn.
    pub fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut control = Control::open().unwrap();
        let before = control.status().unwrap();
        assert_eq!(before.pid, 0, "another program reads the audit records: these tests need it for themselves");
        Self { before, rules: control.rules().unwrap().len(), _turn: turn }
    }

    /// Fails if something was left behind.
    pub fn assert_restored(&self) {
        let mut control = Control::open().unwrap();
        let now = control.status().unwrap();
        assert_eq!((now.enabled, now.pid), (self.before.enabled, 0));
        assert_eq!(now.backlog_limit, self.before.backlog_limit);
        assert_eq!(now.backlog_wait_time, self.before.backlog_wait_time);
        assert_eq!(control.rules().unwrap().len(), self.rules);
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // After a failed test, too, and after auditd, which leaves it on.
        let mut control = Control::open().unwrap();
        control.set(Change::Enabled(self.before.enabled)).unwrap();
        control.set(Change::BacklogLimit(self.before.backlog_limit)).unwrap();
        control.set(Change::BacklogWaitTime(self.before.backlog_wait_time)).unwrap();
    }
}
