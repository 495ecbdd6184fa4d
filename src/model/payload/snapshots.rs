//! Items of the snapshots: schemas `messageEventSecurity{LocalUsers, ListeningPorts, FirewallConfiguration,
//! SystemInformation, ConnectedHardware, OSBaseline}`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ExtraDetails;
use super::triggered::Direction;

/// Schema `messageEventSecurityLocalUsers`: one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LocalUser {
    /// User id, decimal.
    pub user_id: String,
    /// Name of the account.
    pub user_name: String,
    /// Ids of its groups, the primary one first, joined with `;`.
    pub group_ids: String,
    /// Names of the same groups in the same order; an id that has no name stands for itself.
    pub group_names: String,
    /// See [`ExtraDetails`], each where it is known or is so: `Home`, `Shell`, `Password` (`set`, `locked`, `empty`,
    /// `none`, `unknown`), `LastChange`, `PasswordExpires` and `AccountExpires` (dates), `MustChange`, `Root` (an account
    /// with user id 0 that is not called root), `SharesUidWith`, `Privileged` (groups that lead to root's rights),
    /// `SshKeys`, `Source`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecurityListeningPorts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListeningPort {
    /// `tcp`, `tcp6`, `udp`, `udp6`, `raw`, `raw6`, as the old agents named them.
    pub protocol: String,
    /// Address without scope; `0.0.0.0` or `::` for all.
    pub local_address: String,
    /// Decimal port; of a raw socket, which has none, the number of its IP protocol, as the old agents sent it.
    pub local_port: String,
    /// Peer of a connected UDP socket, else the unspecified address.
    pub remote_address: String,
    /// Port of that peer, `*` if there is none.
    pub remote_port: String,
    /// See [`ExtraDetails`]: `UserId`, `Scope` (`loopback`, `link`, `multicast`, `any`, `address`), and where it is known
    /// or is so: `Pid`, `Executable`, `Interface`, `DualStack` (whether `::` takes IPv4 too), and for a socket of another
    /// network namespace `NetworkNamespace` (its inode), `NamespacePid` (a process in it) and `ContainerId`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FirewallAction {
    /// Lets it through.
    Allow,
    /// Drops or rejects it.
    Deny,
    /// Anything else; `ExtraDetails` say what.
    Other,
}

/// Schema `messageEventSecurityFirewallConfiguration`: one rule, or the policy of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FirewallRule {
    /// Whether the rule is in force.
    pub enabled: bool,
    /// What it does.
    pub action: FirewallAction,
    /// Position in its chain, from 0; the policy comes last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub priority: Option<u32>,
    /// Which way it looks; absent if both or neither.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub direction: Option<Direction>,
    /// Its chain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain_name: Option<String>,
    /// The program it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub application: Option<String>,
    /// Source: address, network, range `a-b`, or a tag; `!` in front negates.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_address: Option<String>,
    /// Source ports: `53`, `53-60`, `22,53` or `*`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_port: Option<String>,
    /// Destination, in the form of the source.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub destination_address: Option<String>,
    /// Destination ports, in the form of the source ports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub destination_port: Option<String>,
    /// `tcp`, `udp`, `icmp` or another name or number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// See [`ExtraDetails`]: `Backend` (`nftables`, `iptables-nft`, `iptables-legacy`), `Family`, `Table`, `Hook`,
    /// `HookPriority`, `ChainType`, `Interface`, `Rule` (the whole rule), `Target` (what is done if neither let through
    /// nor refused), `MapElement`, `Sets`, `State`, `Comment`, `InInterface`, `OutInterface`, `Owner`, and `Reached` =
    /// `no` if nothing leads to the chain.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecuritySystemInformation`; absent fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SystemInformation {
    /// Name of the operating system.
    #[serde(rename = "OSName", skip_serializing_if = "Option::is_none", default)]
    pub os_name: Option<String>,
    /// Its version.
    #[serde(rename = "OSVersion", skip_serializing_if = "Option::is_none", default)]
    pub os_version: Option<String>,
    /// Who makes it.
    #[serde(rename = "OSVendor", skip_serializing_if = "Option::is_none", default)]
    pub os_vendor: Option<String>,
    /// Machine name of the kernel, for example `aarch64`.
    #[serde(rename = "OsArchitecture", skip_serializing_if = "Option::is_none", default)]
    pub os_architecture: Option<String>,
    /// Host name.
    #[serde(rename = "HostName", skip_serializing_if = "Option::is_none", default)]
    pub host_name: Option<String>,
    /// Firmware version.
    #[serde(rename = "BIOSVersion", skip_serializing_if = "Option::is_none", default)]
    pub bios_version: Option<String>,
    /// Device of the root file system.
    #[serde(rename = "BootDevice", skip_serializing_if = "Option::is_none", default)]
    pub boot_device: Option<String>,
    /// Physical memory in KiB.
    #[serde(rename = "TotalPhysicalMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub total_physical_memory_kib: Option<u64>,
    /// Physical memory that programs can still get, in KiB.
    #[serde(rename = "FreePhysicalMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub free_physical_memory_kib: Option<u64>,
    /// Physical memory and swap, in KiB.
    #[serde(rename = "TotalVirtualMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub total_virtual_memory_kib: Option<u64>,
    /// Free physical memory and free swap, in KiB.
    #[serde(rename = "FreeVirtualMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub free_virtual_memory_kib: Option<u64>,
    /// See [`ExtraDetails`].
    #[serde(rename = "ExtraDetails", skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecurityConnectedHardware`: one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectedHardware {
    /// For example `USB`, `Network`, `Input`.
    pub hardware_category: String,
    /// For example `Keyboard`, `Adapter`; empty if unknown.
    pub hardware_sub_category: String,
    /// What it is called.
    pub hardware_name: String,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BaselineOutcome {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// The check could not be made.
    Err,
}

/// How grave a failed check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BaselineSeverity {
    /// To be mended at once.
    Critical,
    /// To be mended.
    Important,
    /// Doubtful.
    Warning,
    /// Good to know.
    Informational,
}

/// Schema `messageEventSecurityOSBaseline`: one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BaselineResult {
    /// What is checked.
    pub description: String,
    /// Identifier of the check.
    pub cce_id: String,
    /// How it ended.
    pub result: BaselineOutcome,
    /// Why it failed or could not be made; empty if it passed.
    pub error: String,
    /// How grave a failure is.
    pub severity: BaselineSeverity,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}
