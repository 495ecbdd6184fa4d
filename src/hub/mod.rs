//! Floor 3: Azure IoT Hub. Everything but `dial` and `link` is pure protocol: it takes text and `now`, and gives
//! text and actions. Only `link` names the MQTT crate.

pub mod connstr;
pub mod sas;
pub mod tls;
