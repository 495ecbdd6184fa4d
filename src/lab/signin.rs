//! The judgement of CONNECT. No text ever goes to the client: a code of CONNACK, or nothing.
//!
//! | code | when |
//! |---|---|
//! | 1 | another protocol level |
//! | 2 | client id missing or not of the hub's alphabet |
//! | 3 | the identity is disabled |
//! | 4 | user name missing or malformed |
//! | 5 | unknown hub or identity; token missing, wrong, expired, or by another key |
//! | none, closed | will to a foreign topic or with QoS 2 |

use super::identity::{ModuleId, Registry};
use super::packet::{Connect, Will};
use super::percent;
use super::sas::Token;
use super::topic::{self, Properties, Topic};

/// What the judgement goes by.
pub(super) struct Rules {
    pub host: String,
    /// Seconds by which clocks may differ.
    pub allowance: i64,
}

/// A sign-in that was accepted.
pub(super) struct SignedIn {
    pub id: ModuleId,
    /// Seconds since 1970.
    pub token_expires: i64,
    /// The will with the properties of its topic.
    pub will: Option<(Properties, Will)>,
}

/// A sign-in that was not; `code` is what CONNACK carries, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub code: Option<u8>,
    pub reason: String,
}

fn denied<T>(code: u8, reason: impl Into<String>) -> Result<T, Denied> {
    Err(Denied { code: Some(code), reason: reason.into() })
}

/// Judges `connect` at `now` (seconds since 1970).
///
/// # Errors
/// What to refuse it with.
pub(super) fn judge(connect: &Connect, registry: &Registry, rules: &Rules, now: i64) -> Result<SignedIn, Denied> {
    if connect.level != 4 {
        return denied(1, format!("protocol level {}; 4 (MQTT 3.1.1) is spoken", connect.level));
    }
    let id = connect.client_id.split_once('/').map(|(device, module)| ModuleId::new(device, module));
    if connect.client_id.is_empty() || id.as_ref().is_some_and(|id| !id.is_valid()) {
        return denied(2, "the client id is not `device/module` in the hub's alphabet");
    }
    let Some(user_name) = &connect.user_name else { return denied(4, "no user name") };
    let query = host_and_query(user_name, connect, rules)?;
    if let Err(reason) = check_query(query) {
        return denied(4, reason);
    }
    let Some((id, record)) = id.zip(registry.get(&connect.client_id)) else {
        return denied(5, "there is no such module");
    };
    let Some(password) = connect.password.as_ref().and_then(|p| p.expose_text()) else {
        return denied(5, "no password");
    };
    let resource = format!("{}/{}", rules.host, id.path());
    let token = Token::parse(password)
        .and_then(|token| token.check(&resource, &record.keys, now, rules.allowance).map(|()| token))
        .or_else(|error| denied(5, error.to_string()))?;
    if !record.enabled {
        return denied(3, "the identity is disabled");
    }
    let will = match &connect.will {
        None => None,
        Some(will) => match topic::parse(&will.topic, &id) {
            Ok(Topic::Telemetry(properties)) if will.qos < 2 => Some((properties, will.clone())),
            _ => return Err(Denied { code: None, reason: "a will with QoS 2 or to a foreign topic".to_owned() }),
        },
    };
    Ok(SignedIn { id, token_expires: token.expires, will })
}

/// Ids may hold `?`, so the user name is compared with the client id as a whole, never split.
fn host_and_query<'a>(user_name: &'a str, connect: &Connect, rules: &Rules) -> Result<&'a str, Denied> {
    let Some((host, rest)) = user_name.split_once('/') else {
        return denied(4, "the user name is not `hub/device/module/?api-version=…`");
    };
    let query = rest.strip_prefix(connect.client_id.as_str()).and_then(|rest| rest.strip_prefix('/'));
    match query {
        _ if !host.eq_ignore_ascii_case(&rules.host) => denied(5, "the user name is for another hub"),
        None if rest.contains('/') => denied(5, "the user name is for another module than the client id"),
        None => denied(4, "the user name is not `hub/device/module/?api-version=…`"),
        // The form without `?` is old, and still works.
        Some(query) => Ok(query.strip_prefix('?').unwrap_or(query)),
    }
}

fn check_query(query: &str) -> Result<(), &'static str> {
    let mut version = None;
    for field in query.split('&') {
        let (key, value) = field.split_once('=').ok_or("a query of the user name is not key=value")?;
        let (Some(key), Some(value)) = (percent::decode(key), percent::decode(value)) else {
            return Err("a query of the user name is not percent-encoded");
        };
        if key == "api-version" && version.replace(value).is_some() {
            return Err("the user name has two api-versions");
        }
    }
    let version = version.ok_or("the user name has no api-version")?;
    let date = version.strip_suffix("-preview").unwrap_or(&version);
    date.parse::<jiff::civil::Date>().map_or(Err("the api-version is not a date"), |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::Map;

    use super::*;
    use crate::lab::identity::Record;
    use crate::lab::twin::Twin;
    use crate::model::secret::Secret;

    const HOST: &str = "lab.azure-devices.net";
    const NOW: i64 = 1_800_000_000;
    const ACCEPTED: u8 = 0;
    const CLOSED: u8 = 255;

    fn registry(enabled: bool) -> Registry {
        let id = ModuleId::new("d?x", "m");
        let keys = [Secret::new(vec![1; 32]), Secret::new(vec![2; 32])];
        let mut record = Record::new(id.clone(), keys, Twin::new(&Map::new()).unwrap());
        record.enabled = enabled;
        Registry::from([(id.to_string(), record)])
    }

    fn token(key: u8, expires: i64) -> String {
        let resource = percent::encode("lab.azure-devices.net/devices/d?x/modules/m");
        let mac =
            Hmac::<sha2::Sha256>::new_from_slice(&[key; 32]).unwrap().chain_update(format!("{resource}\n{expires}"));
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        format!("SharedAccessSignature sig={}&se={expires}&sr={resource}", percent::encode(&signature))
    }

    fn good() -> Connect {
        Connect {
            level: 4,
            client_id: "d?x/m".into(),
            user_name: Some(format!("{HOST}/d?x/m/?api-version=2021-04-12&DeviceClientType=twinward%2F1")),
            password: Some(Secret::new(token(1, NOW + 60).into_bytes())),
            ..Connect::default()
        }
    }

    /// The refusal's code; `ACCEPTED` and `CLOSED` stand for none.
    fn code(change: impl FnOnce(&mut Connect)) -> u8 {
        let mut connect = good();
        change(&mut connect);
        let rules = Rules { host: HOST.into(), allowance: 300 };
        judge(&connect, &registry(true), &rules, NOW).map_or_else(|denied| denied.code.unwrap_or(CLOSED), |_| ACCEPTED)
    }

    fn user(name: &str) -> u8 {
        code(|c| c.user_name = Some(name.replace("LAB", HOST)))
    }

    fn password(text: &str) -> u8 {
        code(|c| c.password = Some(Secret::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn each_refusal_has_the_hubs_code() {
        assert_eq!(code(|_| ()), ACCEPTED);
        assert_eq!(code(|c| c.level = 5), 1);
        assert_eq!(code(|c| c.client_id = String::new()), 2);
        assert_eq!(code(|c| c.client_id = "d?x/m m".into()), 2);
        assert_eq!(code(|c| c.client_id = "d?x/other".into()), 5);
        assert_eq!(code(|c| c.user_name = None), 4);
        assert_eq!(code(|c| c.password = None), 5);
    }

    #[test]
    fn the_user_name_has_one_form() {
        assert_eq!(user("LAB/d?x/m/api-version=2021-04-12"), ACCEPTED);
        assert_eq!(user("Lab.Azure-Devices.NET/d?x/m/?api-version=2020-05-31-preview"), ACCEPTED);
        for bad in [
            "LAB",
            "LAB/d?x/m/",
            "LAB/d?x/m/?api-version=new",
            "LAB/d?x/m/?a=b",
            "LAB/d?x/m/?api-version=2021-04-12&x=%",
        ] {
            assert_eq!(user(bad), 4, "{bad}");
        }
        assert_eq!(user("other.azure-devices.net/d?x/m/?api-version=2021-04-12"), 5);
        assert_eq!(user("LAB/d?x/other/?api-version=2021-04-12"), 5);
    }

    #[test]
    fn a_token_must_be_signed_by_a_key_of_the_module_and_be_alive() {
        assert_eq!(password(&token(2, NOW - 299)), ACCEPTED);
        assert_eq!(password(&token(1, NOW - 300)), 5);
        assert_eq!(password(&token(3, NOW + 60)), 5);
        assert_eq!(password("open sesame"), 5);
    }

    #[test]
    fn a_disabled_identity_is_unavailable() {
        let rules = Rules { host: HOST.into(), allowance: 300 };
        assert_eq!(judge(&good(), &registry(false), &rules, NOW).err().unwrap().code, Some(3));
    }

    #[test]
    fn a_will_goes_to_the_modules_own_events() {
        let will = |topic: &str, qos| {
            let topic = topic.to_owned();
            code(|c| c.will = Some(Will { topic, body: Vec::new(), qos, retain: false }))
        };
        assert_eq!(will("devices/d?x/modules/m/messages/events/a=b", 1), ACCEPTED);
        assert_eq!(will("devices/d?x/modules/m/messages/events/", 2), CLOSED);
        assert_eq!(will("devices/other/messages/events/", 1), CLOSED);
    }
}
