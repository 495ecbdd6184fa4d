//! From the configured identity to the connection string, with errors that say what to do.

use crate::hub::connstr::ConnectionString;
use crate::settings::{Identity, Settings};
use crate::sys::files::SecretError;

use super::exit::CommandError;

/// Reads who we are at the hub.
///
/// # Errors
/// Exit code 78, with the file and the command that mends it; never the secret.
pub(super) fn read(settings: &Settings) -> Result<ConnectionString, CommandError> {
    let place = match &settings.identity {
        Identity::ConnectionString(_) => "identity.connection_string".to_owned(),
        Identity::ConnectionStringFile(path) | Identity::Credential(path) => path.display().to_string(),
    };
    let secret = settings.identity.secret().map_err(|error| {
        let next = match &error {
            SecretError::Unreadable { path, source } if source.kind() == std::io::ErrorKind::NotFound => format!(
                "; put the module's connection string there (hub, device, module azureiotsecurity): install -m 600 /dev/stdin {}",
                path.display()
            ),
            _ => String::new(),
        };
        CommandError::configuration(format!("{error}{next}"))
    })?;
    ConnectionString::parse(&secret).map_err(|error| CommandError::configuration(format!("{place}: {error}")))
}
