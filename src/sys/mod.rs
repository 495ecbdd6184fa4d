//! Floor 1: the only code that touches the machine. Each item has a fake or takes a root directory that tests replace.

pub mod audit;
pub mod bpf;
pub mod btf;
pub mod capabilities;
pub mod clock;
pub mod connections;
pub mod exit_record;
pub mod fanotify;
pub mod file_id;
pub mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub mod follow;
pub mod generic_netlink;
pub mod hardening;
pub mod host;
pub mod inotify;
pub mod journal;
pub mod journal_files;
pub mod mounts;
pub mod netlink;
pub mod notify;
pub mod passwd;
pub mod proc_connector;
pub mod proc_event;
pub mod procfs;
pub mod procnet;
pub mod program_file;
pub mod programs;
pub mod sock_diag;
pub mod sockets;
pub mod taskstats;
pub mod utmp;
pub mod wake;
