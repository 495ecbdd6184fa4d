//! Which members of the kernel's structures the programs read. Each has a constant in `bpf/twinward.bpf.c` that holds
//! its offset; what this kernel does not have is left out of the records, or makes a program impossible.

use std::fs::File;

use super::{BpfError, Program};
use crate::sys::btf::{self, Member};
use crate::sys::host::Host;

/// The kernel's type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// What the program takes for "this kernel has no such member".
const ABSENT: u16 = u16::MAX;

/// One constant of the programs.
struct Constant {
    name: &'static str,
    /// The member, and the member inside of that one; structure and name.
    path: &'static [(&'static str, &'static str)],
    /// Who cannot do without.
    needed_by: &'static [Program],
}

const fn constant(
    name: &'static str,
    path: &'static [(&'static str, &'static str)],
    needed_by: &'static [Program],
) -> Constant {
    Constant { name, path, needed_by }
}

const NOBODY: &[Program] = &[];
const BOTH: &[Program] = &[Program::Exec, Program::Exit];
const EXEC: &[Program] = &[Program::Exec];
const EXIT: &[Program] = &[Program::Exit];
const TCP: &[Program] = &[Program::Call, Program::Tcp];
const BYTES: &[Program] = &[Program::Tcp];
const UDP: &[Program] = &[Program::Udp];
const CONNECTIONS: &[Program] = &[Program::Call, Program::Tcp, Program::Udp];

const CONSTANTS: &[Constant] = &[
    constant("task_flags", &[("task_struct", "flags")], EXIT),
    constant("task_mm", &[("task_struct", "mm")], EXEC),
    constant("task_tgid", &[("task_struct", "tgid")], BOTH),
    constant("task_real_parent", &[("task_struct", "real_parent")], BOTH),
    constant("task_group_leader", &[("task_struct", "group_leader")], EXIT),
    constant("task_cred", &[("task_struct", "cred")], BOTH),
    constant("task_signal", &[("task_struct", "signal")], EXIT),
    constant("task_exit_code", &[("task_struct", "exit_code")], EXIT),
    constant("task_start_boottime", &[("task_struct", "start_boottime")], NOBODY),
    constant("task_comm", &[("task_struct", "comm")], NOBODY),
    constant("task_loginuid", &[("task_struct", "loginuid")], NOBODY),
    constant("task_sessionid", &[("task_struct", "sessionid")], NOBODY),
    constant("task_thread_pid", &[("task_struct", "thread_pid")], NOBODY),
    constant("task_cgroups", &[("task_struct", "cgroups")], NOBODY),
    constant("mm_arg_start", &[("mm_struct", "arg_start")], EXEC),
    constant("mm_arg_end", &[("mm_struct", "arg_end")], EXEC),
    constant("binprm_interp", &[("linux_binprm", "interp")], EXEC),
    constant("cred_uid", &[("cred", "uid")], BOTH),
    constant("cred_euid", &[("cred", "euid")], NOBODY),
    constant("signal_live", &[("signal_struct", "live")], EXIT),
    constant("signal_flags", &[("signal_struct", "flags")], EXIT),
    constant("signal_group_exit_code", &[("signal_struct", "group_exit_code")], EXIT),
    constant("pid_level", &[("pid", "level")], NOBODY),
    constant("pid_numbers", &[("pid", "numbers")], NOBODY),
    constant("pid_namespace_inum", &[("pid_namespace", "ns"), ("ns_common", "inum")], NOBODY),
    constant("css_set_dfl_cgrp", &[("css_set", "dfl_cgrp")], NOBODY),
    constant("cgroup_kn", &[("cgroup", "kn")], NOBODY),
    constant("kernfs_node_name", &[("kernfs_node", "name")], NOBODY),
    constant("sock_family", &[("sock", "__sk_common"), ("sock_common", "skc_family")], TCP),
    constant("sock_local_port", &[("sock", "__sk_common"), ("sock_common", "skc_num")], TCP),
    constant("sock_remote_port", &[("sock", "__sk_common"), ("sock_common", "skc_dport")], CONNECTIONS),
    constant("sock_local", &[("sock", "__sk_common"), ("sock_common", "skc_rcv_saddr")], TCP),
    constant("sock_remote", &[("sock", "__sk_common"), ("sock_common", "skc_daddr")], TCP),
    constant("sock_local_v6", &[("sock", "__sk_common"), ("sock_common", "skc_v6_rcv_saddr")], NOBODY),
    constant("sock_remote_v6", &[("sock", "__sk_common"), ("sock_common", "skc_v6_daddr")], NOBODY),
    // The pointer in it stands at its beginning.
    constant("sock_net", &[("sock", "__sk_common"), ("sock_common", "skc_net")], NOBODY),
    constant("sock_protocol", &[("sock", "sk_protocol")], CONNECTIONS),
    constant("sock_uid", &[("sock", "sk_uid")], NOBODY),
    constant("sock_flags", &[("sock", "__sk_common"), ("sock_common", "skc_flags")], NOBODY),
    constant("sock_socket", &[("sock", "sk_socket")], UDP),
    constant("net_inum", &[("net", "ns"), ("ns_common", "inum")], NOBODY),
    constant("tcp_bytes_sent", &[("tcp_sock", "bytes_sent")], BYTES),
    constant("tcp_bytes_retrans", &[("tcp_sock", "bytes_retrans")], BYTES),
    constant("tcp_bytes_received", &[("tcp_sock", "bytes_received")], BYTES),
    constant("skb_sk", &[("sk_buff", "sk")], UDP),
    constant("skb_head", &[("sk_buff", "head")], UDP),
    constant("skb_protocol", &[("sk_buff", "protocol")], UDP),
    constant("skb_network_header", &[("sk_buff", "network_header")], UDP),
    constant("skb_transport_header", &[("sk_buff", "transport_header")], UDP),
    constant("task_files", &[("task_struct", "files")], UDP),
    constant("files_fdt", &[("files_struct", "fdt")], UDP),
    constant("fdtable_max_fds", &[("fdtable", "max_fds")], UDP),
    constant("fdtable_fd", &[("fdtable", "fd")], UDP),
    constant("socket_file", &[("socket", "file")], UDP),
    constant("file_inode", &[("file", "f_inode")], NOBODY),
    constant("inode_ino", &[("inode", "i_ino")], NOBODY),
];

/// Where this kernel has the members.
#[derive(Clone, Debug)]
pub struct Layout {
    /// By the name of the constant.
    offsets: Vec<(&'static str, u16)>,
}

impl Layout {
    /// Looks them up in the kernel's type information.
    ///
    /// # Errors
    /// The kernel has none, or it cannot be read.
    pub fn read(host: &Host) -> Result<Self, BpfError> {
        let members: Vec<Member<'_>> =
            CONSTANTS.iter().flat_map(|c| c.path).map(|(structure, name)| Member { structure, name }).collect();
        let file = File::open(host.path(BTF)).map_err(|error| BpfError::NoLayout(error.into()))?;
        let mut found = btf::offsets(file, &members).map_err(BpfError::NoLayout)?.into_iter();
        let offsets = CONSTANTS.iter().map(|constant| {
            let mut sum = Some(0_u32);
            for place in found.by_ref().take(constant.path.len()) {
                sum = sum.zip(place).and_then(|(sum, place)| sum.checked_add(place));
            }
            (constant.name, sum.and_then(|sum| u16::try_from(sum).ok()).unwrap_or(ABSENT))
        });
        Ok(Self { offsets: offsets.collect() })
    }

    /// The constants, as they are given to the programs.
    #[must_use]
    pub fn constants(&self) -> &[(&'static str, u16)] {
        &self.offsets
    }

    /// Why a program is impossible on this kernel: a member that it needs and that is not there.
    #[must_use]
    pub fn lacks(&self, program: Program) -> Option<&'static str> {
        let absent = |name| self.offsets.iter().any(|(n, offset)| *n == name && *offset == ABSENT);
        CONSTANTS.iter().find(|c| c.needed_by.contains(&program) && absent(c.name)).map(|c| c.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_constant_stands_in_the_source_of_the_programs() {
        let source = include_str!("../../../bpf/twinward.bpf.c");
        let theirs: Vec<_> = source.lines().filter_map(|l| l.strip_prefix("OFFSET(")?.strip_suffix(");")).collect();
        let ours: Vec<_> = CONSTANTS.iter().map(|constant| constant.name).collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_missing_member_is_named_only_if_it_is_needed() {
        let mut layout = Layout { offsets: CONSTANTS.iter().map(|constant| (constant.name, 8)).collect() };
        layout.offsets[10].1 = ABSENT;
        assert_eq!((layout.lacks(Program::Exec), layout.lacks(Program::Exit)), (None, None));
        layout.offsets[0].1 = ABSENT;
        assert_eq!((layout.lacks(Program::Exec), layout.lacks(Program::Exit)), (None, Some("task_flags")));
    }

    #[test]
    fn a_machine_without_type_information_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = Layout::read(&Host::rooted(root.path())).unwrap_err().to_string();
        assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }
}
