//! What the link is told once, at its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connstr::ConnectionString;
use crate::settings::MessageMode;
use crate::sys::clock::Clock;

/// Everything the link needs to know.
#[derive(Clone)]
pub struct LinkOptions {
    /// Who we are.
    pub identity: ConnectionString,
    /// From [`super::tls::client_config`].
    pub tls: Arc<rustls::ClientConfig>,
    /// Dial this instead of the hub or gateway; its certificate is still checked for their name.
    pub dial_host: Option<String>,
    /// The port, usually 8883.
    pub port: u16,
    /// How messages are marked.
    pub messages: MessageMode,
    /// Whether calls of direct methods are taken.
    pub direct_methods: bool,
    /// How long a token lives; 3600 s is usual.
    pub sas_life: Duration,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// Name and version of the program, for the hub's logs.
    pub product: String,
}

impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkOptions")
            .field("identity", &self.identity)
            .field("dial_host", &self.dial_host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
