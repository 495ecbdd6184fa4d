//! What the kernel lets us do: the capabilities.

use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::host::Host;

use super::finding::{Check, Finding};

/// What the agent loses without each capability.
const COSTS: [(Capability, &str); 7] = [
    (Capability::Bpf, "no programs of ours in the kernel: ends of processes and some command lines are missed"),
    (Capability::Perfmon, "as without CAP_BPF"),
    (Capability::AuditControl, "where eBPF is not possible, command lines of programs that end at once are lost"),
    (Capability::AuditRead, "audit is not seen beside auditd"),
    (
        Capability::NetAdmin,
        "before Linux 6.6 process starts are then polled once a second, and short-lived programs missed",
    ),
    (Capability::SysPtrace, "the executable of other users' programs and the owners of their sockets stay unknown"),
    (Capability::DacReadSearch, "files and directories of other users stay unread, their open sockets among them"),
];

/// The capabilities of this process, and what each missing one costs.
pub(super) fn capabilities(host: &Host) -> Vec<Finding> {
    match Privileges::read(host) {
        Ok(privileges) => judge(
            |capability| privileges.has(capability),
            [("PID", privileges.initial_pid_namespace), ("user", privileges.initial_user_namespace)],
            rustix::process::geteuid().as_raw(),
        ),
        Err(error) => {
            let detail = format!("cannot be read: {error}");
            vec![Finding::warning(Check::Capabilities, detail, "mount /proc")]
        }
    }
}

fn judge(has: impl Fn(Capability) -> bool, namespaces: [(&str, Option<bool>); 2], uid: u32) -> Vec<Finding> {
    let (held, lacking): (Vec<_>, Vec<_>) = COSTS.into_iter().partition(|(capability, _)| has(*capability));
    let mut findings = Vec::new();
    if !held.is_empty() {
        let names: Vec<_> = held.iter().map(|(capability, _)| capability.as_str()).collect();
        findings.push(Finding::ok(Check::Capabilities, format!("uid {uid} has {}", names.join(", "))));
    }
    for (capability, cost) in lacking {
        let name = capability.as_str();
        findings.push(Finding::warning(
            Check::Capabilities,
            format!("uid {uid} lacks {name}: {cost}"),
            format!("only if the agent lacks it too: AmbientCapabilities={name} in its unit (the packaged one has it)"),
        ));
    }
    for (kind, initial) in namespaces {
        if initial == Some(false) {
            findings.push(Finding::warning(
                Check::Capabilities,
                format!("this is not the machine's own {kind} namespace: what runs outside of it is not seen"),
                "run the agent on the machine itself, not in a container",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn each_missing_capability_has_its_price() {
        let findings = judge(|c| c == Capability::NetAdmin, [("PID", Some(true)), ("user", Some(false))], 7);
        let text: String = findings.iter().map(Finding::text).collect();
        insta::assert_snapshot!(text, @r"
        ok       capabilities       uid 7 has CAP_NET_ADMIN
        warning  capabilities       uid 7 lacks CAP_BPF: no programs of ours in the kernel: ends of processes and some command lines are missed
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_BPF in its unit (the packaged one has it)
        warning  capabilities       uid 7 lacks CAP_PERFMON: as without CAP_BPF
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_PERFMON in its unit (the packaged one has it)
        warning  capabilities       uid 7 lacks CAP_AUDIT_CONTROL: where eBPF is not possible, command lines of programs that end at once are lost
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_AUDIT_CONTROL in its unit (the packaged one has it)
        warning  capabilities       uid 7 lacks CAP_AUDIT_READ: audit is not seen beside auditd
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_AUDIT_READ in its unit (the packaged one has it)
        warning  capabilities       uid 7 lacks CAP_SYS_PTRACE: the executable of other users' programs and the owners of their sockets stay unknown
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_SYS_PTRACE in its unit (the packaged one has it)
        warning  capabilities       uid 7 lacks CAP_DAC_READ_SEARCH: files and directories of other users stay unread, their open sockets among them
                                    what to do: only if the agent lacks it too: AmbientCapabilities=CAP_DAC_READ_SEARCH in its unit (the packaged one has it)
        warning  capabilities       this is not the machine's own user namespace: what runs outside of it is not seen
                                    what to do: run the agent on the machine itself, not in a container
        ");
        assert_eq!(judge(|_| true, [("PID", None), ("user", None)], 0).len(), 1);
    }

    #[test]
    fn a_machine_without_proc_is_a_warning() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(capabilities(&Host::rooted(empty.path()))[0].result, Verdict::Warning);
    }
}
