//! From the configured identity to the connection string, with errors that say what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::hub::connstr::ConnectionString;
use crate::settings::{Identity, Settings};
use crate::sys::files::SecretError;

use super::exit::CommandError;

/// Why it is not known who we are; never the secret.
#[derive(Debug, Error)]
pub(super) enum NoIdentity {
    /// The file is not there.
    #[error(
        "{} does not exist; put the module's connection string there (hub, device, module azureiotsecurity): \
         install -m 600 /dev/stdin {}", .0.display(), .0.display()
    )]
    Absent(PathBuf),
    /// It is there, and wrong.
    #[error("{0}")]
    Wrong(String),
}

impl From<NoIdentity> for CommandError {
    fn from(error: NoIdentity) -> Self {
        Self::configuration(error.to_string())
    }
}

/// Reads who we are at the hub.
///
/// # Errors
/// With the file and the command that mends it.
pub(super) fn read(settings: &Settings) -> Result<ConnectionString, NoIdentity> {
    let place = match &settings.identity {
        Identity::ConnectionString(_) => "identity.connection_string".to_owned(),
        Identity::ConnectionStringFile(path) | Identity::Credential(path) => path.display().to_string(),
    };
    let secret = settings.identity.secret().map_err(|error| match error {
        SecretError::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
            NoIdentity::Absent(path)
        }
        other => NoIdentity::Wrong(other.to_string()),
    })?;
    ConnectionString::parse(&secret).map_err(|error| NoIdentity::Wrong(format!("{place}: {error}")))
}
