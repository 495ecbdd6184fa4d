//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit codes of a process that a signal ended: 128 and the number of the signal.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// How long to wait before looking again, if the system refuses the handler.
const NEVER: Duration = Duration::from_secs(3600);

/// Resolves with the name of the first SIGTERM or SIGINT. From then on a second one ends the process at once with code
/// 143 or 130, even if everything else hangs.
///
/// Call it inside a runtime with I/O. If the system refuses a handler, it never resolves and the signals keep their
/// usual effect, which is to end the process.
pub async fn stop_signal() -> &'static str {
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(%error, "cannot catch signals; they end the process without a flush");
            loop {
                tokio::time::sleep(NEVER).await;
            }
        }
    };
    let (name, _) = signals.next().await;
    // On a thread of its own, because a second signal is sent when the runtime hangs. The streams move with it, so a
    // signal that arrives in between is not missed.
    let watcher = std::thread::Builder::new().name("signals".into()).spawn(move || end_at_next(signals));
    if let Err(error) = watcher {
        tracing::warn!(%error, "a second signal will not end the process; SIGKILL does");
    }
    name
}

fn end_at_next(mut signals: Signals) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    let (_, code) = runtime.block_on(signals.next());
    std::process::exit(code);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", TERMINATED),
            _ = self.interrupt.recv() => ("SIGINT", INTERRUPTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Stdio};

    use rustix::process::{Pid, Signal as Number, kill_process};

    use super::*;

    const CHILD: &str = "TWINWARD_TEST_SIGNALS_CHILD";

    /// Not a test by itself: the process that [`a_second_signal_ends_a_process_that_hangs`] sends signals to.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stop = stop_signal();
            tokio::pin!(stop);
            // The first poll catches the signals; only then may the parent send one.
            tokio::select! {
                biased;
                _ = &mut stop => unreachable!("no signal was sent yet"),
                () = std::future::ready(()) => eprintln!("listening"),
            }
            eprintln!("first {}", stop.await);
            loop {
                std::thread::park();
            }
        });
    }

    fn expect(lines: &mut impl Iterator<Item = std::io::Result<String>>, wanted: &str) {
        assert!(lines.any(|line| line.unwrap() == wanted), "the child ended without saying: {wanted}");
    }

    fn end_with(first: Number, name: &str, second: Number) -> Option<i32> {
        #[expect(clippy::disallowed_methods, reason = "signals are tested on a process of their own")]
        let mut child: Child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::signals::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        expect(&mut lines, "listening");
        kill_process(pid, first).unwrap();
        expect(&mut lines, &format!("first {name}"));
        kill_process(pid, second).unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn a_second_signal_ends_a_process_that_hangs() {
        assert_eq!(end_with(Number::TERM, "SIGTERM", Number::INT), Some(130));
        assert_eq!(end_with(Number::INT, "SIGINT", Number::TERM), Some(143));
    }
}
