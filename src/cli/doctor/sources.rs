//! Where each streamed event would come from, what is not seen there, and what would help. The sources are opened as the
//! agent opens them, and closed again; beside a running agent they listen, and take nothing from it.

use crate::collect::SourceError;
use crate::collect::lane::{self, SourceContext};
use crate::model::event::EventName;
use crate::model::health::{CollectorHealth, HealthState};
use crate::settings::ProcessSource;
use crate::sys::capabilities::{Capability, Privileges};

use super::finding::{Check, Finding};

/// Opens the sources of all lanes.
pub(super) fn sources(context: &SourceContext) -> Vec<Finding> {
    let privileges = Privileges::read(&context.host).ok();
    let judge = Judge {
        wanted: context.wanted,
        uid: rustix::process::geteuid().as_raw(),
        lacks: &|capability| privileges.as_ref().is_some_and(|privileges| !privileges.has(capability)),
    };
    let planned = lane::plan(context, lane::STREAMS);
    planned.iter().map(|(event, outcome)| judge.finding(*event, outcome.as_ref().map_err(AsRef::as_ref))).collect()
}

const fn check(event: EventName) -> Check {
    match event {
        EventName::ProcessTerminate => Check::ProcessEnds,
        EventName::ConnectionCreate => Check::Connections,
        EventName::Login => Check::Logins,
        _ => Check::ProcessSource,
    }
}

/// What a source of the kernel needs.
const KERNEL: &str = "for the kernel's sources: CAP_BPF and CAP_PERFMON, CAP_AUDIT_CONTROL and CAP_AUDIT_READ, or \
                      CAP_NET_ADMIN (the packaged unit gives them), or CAP_SYS_ADMIN for fanotify (it does not: \
                      docs/decisions/0016), outside of containers";
const ENDS: &str = "CAP_BPF and CAP_PERFMON for eBPF, or CAP_NET_ADMIN for the process connector (CONFIG_PROC_EVENTS) \
                    or exit records (CONFIG_TASKSTATS, Linux 5.19), outside of containers; or \"eventPriorityProcessTerminate\": \"off\" in the twin";
const CONNECTIONS: &str = "a kernel with CONFIG_INET_DIAG, or audit; or \"eventPriorityConnectionCreate\": \"off\" in \
                           the twin";
const LOGINS: &str = "run systemd-journald or a syslog daemon that writes /var/log/auth.log, and let the agent read it \
                      (CAP_DAC_READ_SEARCH, or the groups adm and systemd-journal); or \"eventPriorityLogin\": \"off\" \
                      in the twin";
const AUTO: &str = "set collect.process_source = \"auto\"";

struct Judge<'a> {
    wanted: ProcessSource,
    uid: u32,
    lacks: &'a dyn Fn(Capability) -> bool,
}

impl Judge<'_> {
    fn finding(&self, event: EventName, outcome: Result<&CollectorHealth, &SourceError>) -> Finding {
        let (check, uid) = (check(event), self.uid);
        match outcome {
            Ok(health) => {
                let detail = format!("as uid {uid}: {} ({})", health.source, health.detail);
                match self.remedy(event, health.state) {
                    Some(advice) => Finding::warning(check, detail, advice),
                    None => Finding::ok(check, detail),
                }
            }
            Err(error) => {
                let detail = format!("as uid {uid}: {error}");
                if event == EventName::ProcessCreate {
                    return Finding::failed(check, detail, format!("{AUTO}, and see that /proc is mounted"));
                }
                let advice = match (event, error) {
                    (_, SourceError::Unseen { .. }) if self.wanted != ProcessSource::Auto => AUTO,
                    (EventName::ProcessTerminate, _) => ENDS,
                    (EventName::ConnectionCreate, _) => CONNECTIONS,
                    _ => LOGINS,
                };
                Finding::warning(check, detail, advice)
            }
        }
    }

    /// What would let the source see more, if anything would.
    fn remedy(&self, event: EventName, state: HealthState) -> Option<String> {
        if state == HealthState::Ok || (event == EventName::ProcessCreate && self.wanted != ProcessSource::Auto) {
            return None;
        }
        match event {
            // What it does not see then is in the nature of the source.
            EventName::ConnectionCreate => (self.lacks)(Capability::SysPtrace).then(|| {
                "CAP_SYS_PTRACE shows the processes of other users' sockets (the packaged unit gives it)".to_owned()
            }),
            EventName::Login => Some(LOGINS.to_owned()),
            EventName::ProcessTerminate => Some(ENDS.to_owned()),
            _ => Some(KERNEL.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn health(event: EventName, state: HealthState) -> CollectorHealth {
        let detail = "no right; cannot see short ones".to_owned();
        CollectorHealth { event, state, source: "poll".into(), detail }
    }

    fn of(wanted: ProcessSource, event: EventName, outcome: Result<HealthState, SourceError>, lacks: bool) -> Finding {
        let outcome = outcome.map(|state| health(event, state));
        Judge { wanted, uid: 7, lacks: &|_| lacks }.finding(event, outcome.as_ref())
    }

    #[test]
    fn a_lesser_source_of_starts_is_a_warning_unless_it_was_chosen() {
        let starts = |wanted, outcome| of(wanted, EventName::ProcessCreate, outcome, false);
        let finding = starts(ProcessSource::Auto, Ok(HealthState::Degraded));
        assert_eq!((finding.check, finding.result), (Check::ProcessSource, Verdict::Warning));
        assert_eq!(finding.detail, "as uid 7: poll (no right; cannot see short ones)");
        for chosen in [ProcessSource::Poll, ProcessSource::Fanotify] {
            assert_eq!(starts(chosen, Ok(HealthState::Degraded)).result, Verdict::Ok);
        }
        assert_eq!(starts(ProcessSource::Auto, Ok(HealthState::Ok)).result, Verdict::Ok);
        let error = SourceError::Unavailable { wanted: "connector", reason: "not permitted".into() };
        assert_eq!(starts(ProcessSource::Connector, Err(error)).result, Verdict::Failed);
    }

    #[test]
    fn what_is_not_seen_otherwise_is_a_warning_if_something_helps() {
        let none = |reason: &str| Err(SourceError::NoSource { events: "x".into(), reason: reason.into() });
        let unseen = || Err(SourceError::Unseen { events: "x".into(), because: " with y".into() });
        let auto = |event, outcome, lacks| of(ProcessSource::Auto, event, outcome, lacks);
        let findings = [
            auto(EventName::ProcessTerminate, Ok(HealthState::Ok), true),
            auto(EventName::ProcessTerminate, none("not permitted"), true),
            of(ProcessSource::Poll, EventName::ProcessTerminate, unseen(), true),
            auto(EventName::ConnectionCreate, Ok(HealthState::Degraded), false),
            auto(EventName::ConnectionCreate, Ok(HealthState::Degraded), true),
            auto(EventName::ConnectionCreate, none("no kernel"), true),
            auto(EventName::Login, Ok(HealthState::Degraded), false),
            auto(EventName::Login, none("there is no log"), false),
        ];
        let text: String = findings.iter().map(Finding::text).collect();
        insta::assert_snapshot!(text, @r#"
        ok       process-ends       as uid 7: poll (no right; cannot see short ones)
        warning  process-ends       as uid 7: nothing on this machine sees x: not permitted
                                    what to do: CAP_BPF and CAP_PERFMON for eBPF, or CAP_NET_ADMIN for the process connector (CONFIG_PROC_EVENTS) or exit records (CONFIG_TASKSTATS, Linux 5.19), outside of containers; or "eventPriorityProcessTerminate": "off" in the twin
        warning  process-ends       as uid 7: no source sees x with y
                                    what to do: set collect.process_source = "auto"
        ok       connections        as uid 7: poll (no right; cannot see short ones)
        warning  connections        as uid 7: poll (no right; cannot see short ones)
                                    what to do: CAP_SYS_PTRACE shows the processes of other users' sockets (the packaged unit gives it)
        warning  connections        as uid 7: nothing on this machine sees x: no kernel
                                    what to do: a kernel with CONFIG_INET_DIAG, or audit; or "eventPriorityConnectionCreate": "off" in the twin
        warning  logins             as uid 7: poll (no right; cannot see short ones)
                                    what to do: run systemd-journald or a syslog daemon that writes /var/log/auth.log, and let the agent read it (CAP_DAC_READ_SEARCH, or the groups adm and systemd-journal); or "eventPriorityLogin": "off" in the twin
        warning  logins             as uid 7: nothing on this machine sees x: there is no log
                                    what to do: run systemd-journald or a syslog daemon that writes /var/log/auth.log, and let the agent read it (CAP_DAC_READ_SEARCH, or the groups adm and systemd-journal); or "eventPriorityLogin": "off" in the twin
        "#);
    }
}
