//! Floor 3: Azure IoT Hub. Everything but [`dial`], `connection` and [`link`] is pure protocol: it takes text and `now`,
//! and gives text and actions. Only `connection` names the MQTT crate.

pub mod backoff;
mod calls;
mod connection;
pub mod connstr;
pub mod dial;
pub mod error;
pub mod link;
pub mod options;
mod pace;
mod report_sync;
pub mod reported;
pub mod sas;
pub mod session;
pub mod tls;
pub mod topics;
pub mod traffic;
pub mod twin;
mod twin_answer;
mod twin_sync;
mod window;

pub use connstr::ConnectionString;
pub use link::run;
pub use options::LinkOptions;
pub use traffic::{FromHub, LinkState, ToHub, WINDOW};
