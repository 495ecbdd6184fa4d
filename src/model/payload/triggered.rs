//! Items of what happens: schemas `messageEventSecurity{ProcessCreate, ProcessTerminate, ConnectionCreate, Login}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ExtraDetails;
use super::address::Address;
use super::port::Port;

/// Schema `messageEventSecurityProcessCreate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessCreate {
    /// Absolute path of the program; empty if the process ended before it could be read.
    pub executable: String,
    /// Process id; 0 in an aggregated event.
    pub process_id: u32,
    /// Process id of the parent; 0 in an aggregated event or if unknown.
    pub parent_process_id: u32,
    /// Real user id, decimal; empty if unknown.
    pub user_id: String,
    /// Name of that user, if the local user database has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// The arguments joined with blanks; empty if the process ended before it could be read.
    pub command_line: String,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecurityProcessTerminate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessTerminate {
    /// Absolute path of the program; empty if unknown.
    pub executable: String,
    /// Process id; 0 in an aggregated event.
    pub process_id: u32,
    /// Exit code 0 to 255; for an end by a signal 128 plus its number, as shells show it.
    pub exit_status: i32,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The other side.
    In,
    /// This side.
    Out,
}

/// Schema `messageEventSecurityConnectionCreate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionCreate {
    /// The other side.
    pub remote_address: Address,
    /// Its port; 0 in an aggregated inbound event.
    pub remote_port: Port,
    /// This side, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local_address: Option<Address>,
    /// Its port, if known; absent in an aggregated outbound event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local_port: Option<Port>,
    /// Who opened it.
    pub direction: Direction,
    /// `tcp` or `udp`, as the old agents named them.
    pub protocol: String,
    /// Process id; 0 in an aggregated event or if unknown.
    pub process_id: u32,
    /// Real user id, decimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<String>,
    /// Absolute path of the program; empty if unknown.
    pub executable: String,
    /// The arguments joined with blanks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_line: Option<String>,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Whether a sign-in was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LoginResult {
    /// Yes.
    Success,
    /// No.
    Fail,
}

/// Schema `messageEventSecurityLogin`. The schema wants `UserId` or `UserName`: the name is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Login {
    /// Process id.
    pub process_id: u32,
    /// User id, decimal, if the user exists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<String>,
    /// The name that was given; empty if unknown.
    pub user_name: String,
    /// What was done, for example `PAM:authentication` or `login`.
    pub operation: String,
    /// Absolute path of the program that let in or refused.
    pub executable: String,
    /// Where from; absent for a local sign-in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote_address: Option<Address>,
    /// Port of the other side.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote_port: Option<Port>,
    /// Port of this side.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local_port: Option<Port>,
    /// How it ended.
    pub result: LoginResult,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}
