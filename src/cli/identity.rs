//! From the configured identity to the connection string, with errors that say what to do.

use std::io;
use std::path::PathBuf;

use rustix::process::geteuid;
use thiserror::Error;

use crate::hub::connstr::ConnectionString;
use crate::settings::Identity;
use crate::sys::files::SecretError;
use crate::sys::host::Host;

use super::exit::CommandError;
use super::users;

/// Why it is not known who we are; never the secret.
#[derive(Debug, Error)]
pub(super) enum NoIdentity {
    /// The file is not there.
    #[error(
        "{} does not exist; put the module's connection string there (hub, device, module azureiotsecurity): {put}",
        file.display()
    )]
    Absent {
        /// Where it should be.
        file: PathBuf,
        /// The command that puts it there.
        put: String,
    },
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
pub(super) fn read(identity: &Identity) -> Result<ConnectionString, NoIdentity> {
    let place = match identity {
        Identity::ConnectionString(_) => "identity.connection_string".to_owned(),
        Identity::ConnectionStringFile(path) | Identity::Credential(path) => path.display().to_string(),
    };
    let secret = identity.secret().map_err(|error| unread(error, geteuid().as_raw()))?;
    ConnectionString::parse(&secret).map_err(|error| NoIdentity::Wrong(format!("{place}: {error}")))
}

/// Why this user could not read the file.
fn unread(error: SecretError, user: u32) -> NoIdentity {
    match error {
        SecretError::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
            let put = users::put_command(&Host::system(), user, &path);
            NoIdentity::Absent { file: path, put }
        }
        SecretError::Unreadable { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            let file = path.display();
            NoIdentity::Wrong(format!("{file} cannot be read by uid {user}; run as root: chown {user} {file}"))
        }
        other => NoIdentity::Wrong(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_roots_is_told_with_the_command_that_gives_it() {
        let unreadable = |kind: io::ErrorKind| SecretError::Unreadable { path: "/x".into(), source: kind.into() };
        let denied = unread(unreadable(io::ErrorKind::PermissionDenied), 997).to_string();
        assert_eq!(denied, "/x cannot be read by uid 997; run as root: chown 997 /x");
        let absent = unread(unreadable(io::ErrorKind::NotFound), 0).to_string();
        assert!(absent.starts_with("/x does not exist; put ") && absent.ends_with("): install -m 600 /dev/stdin /x"));
    }
}
