//! SAS tokens and connection strings, as the hub reads and gives them.
//!
//! `SharedAccessSignature sr={R}&sig={S}&se={E}`, fields in any order. `R` is the percent-encoded resource
//! `H/devices/d/modules/m`; `S` the percent-encoded base64 of HMAC-SHA256 with the decoded key over `R`, as sent, a line
//! feed and `E`; `E` the expiry in seconds since 1970. `skn` names a hub-level policy, so a module must not send it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::percent;
use crate::model::secret::Secret;

/// Why a token does not open the door. Nothing of the token is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum TokenError {
    #[error("the password is not a SAS token")]
    Form,
    #[error("the token has a field more than once, or one that is unknown")]
    Field,
    #[error("the token names a policy (skn), which a module's own key has not")]
    Policy,
    #[error("a field of the token is not percent-encoded as it must be")]
    Encoding,
    #[error("the token's expiry is not a number of seconds")]
    Expiry,
    #[error("the token is for another resource")]
    Resource,
    #[error("the token has expired")]
    Expired,
    #[error("the token was not signed with a key of this module")]
    Signature,
}

/// A token, taken apart but not yet believed.
pub(super) struct Token {
    /// What was signed: `sr` as sent, a line feed, `se` as sent.
    signed: String,
    resource: String,
    signature: Vec<u8>,
    /// Seconds since 1970.
    pub expires: i64,
}

impl Token {
    /// Takes a token apart.
    ///
    /// # Errors
    /// Its form is not that of the module description.
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        let fields = text.strip_prefix("SharedAccessSignature ").ok_or(TokenError::Form)?;
        let (mut sr, mut sig, mut se) = (None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(TokenError::Form)?;
            let slot = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => return Err(TokenError::Policy),
                _ => return Err(TokenError::Field),
            };
            if slot.replace(value).is_some() {
                return Err(TokenError::Field);
            }
        }
        let (Some(sr), Some(sig), Some(se)) = (sr, sig, se) else { return Err(TokenError::Form) };
        if [sr, sig].iter().any(|value| value.contains(['/', '+', '=', ' '])) {
            return Err(TokenError::Encoding);
        }
        let resource = percent::decode(sr).ok_or(TokenError::Encoding)?;
        let signature = percent::decode(sig).ok_or(TokenError::Encoding)?;
        let signature = STANDARD.decode(signature).map_err(|_| TokenError::Encoding)?;
        if se.is_empty() || !se.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TokenError::Expiry);
        }
        let expires = se.parse().map_err(|_| TokenError::Expiry)?;
        Ok(Self { signed: format!("{sr}\n{se}"), resource, signature, expires })
    }

    /// Believes the token if it is for `resource` (compared without case), was signed with one of `keys`, and has not
    /// expired more than `allowance` seconds before `now`.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub(super) fn check(&self, resource: &str, keys: &[Secret], now: i64, allowance: i64) -> Result<(), TokenError> {
        if !self.resource.eq_ignore_ascii_case(resource) {
            return Err(TokenError::Resource);
        }
        if !keys.iter().any(|key| self.signed_with(key)) {
            return Err(TokenError::Signature);
        }
        if self.expires.saturating_add(allowance) <= now { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn signed_with(&self, key: &Secret) -> bool {
        Hmac::<Sha256>::new_from_slice(key.expose())
            .map(|mac| mac.chain_update(self.signed.as_bytes()))
            .is_ok_and(|mac| mac.verify_slice(&self.signature).is_ok())
    }
}

/// `HostName=…;DeviceId=…;ModuleId=…;SharedAccessKey=…`.
pub(super) fn connection_string(host: &str, device: &str, module: &str, key: &Secret) -> String {
    format!("HostName={host};DeviceId={device};ModuleId={module};SharedAccessKey={}", STANDARD.encode(key.expose()))
}

/// A key of 32 bytes, as the hub makes them.
pub(super) fn random_key() -> Secret {
    // Two random UUIDs are 244 bits from the kernel; the hash spreads them evenly.
    let mut hash = <Sha256 as sha2::Digest>::new();
    for _ in 0..2 {
        sha2::Digest::update(&mut hash, uuid::Uuid::new_v4().as_bytes());
    }
    Secret::new(sha2::Digest::finalize(hash).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: &str = "lab.azure-devices.net/devices/d/modules/m";

    /// Made with Python's hmac, base64 and urllib, key = 32 bytes of 0x01, se = 2000000000.
    const SIGNED: &str = concat!(
        "SharedAccessSignature sr=lab.azure-devices.net%2Fdevices%2Fd%2Fmodules%2Fm",
        "&sig=PCrSiUTSBC2ns2CUfJ78PH6UP4fCFoZORWT3b3c7UF0%3D&se=2000000000"
    );

    fn keys() -> [Secret; 2] {
        [Secret::new(vec![2; 32]), Secret::new(vec![1; 32])]
    }

    fn judge(text: &str, now: i64) -> Result<(), TokenError> {
        Token::parse(text)?.check(RESOURCE, &keys(), now, 300)
    }

    #[test]
    fn either_key_opens_until_five_minutes_after_the_end() {
        let token = SIGNED;
        assert_eq!(judge(token, 1_900_000_000), Ok(()));
        assert_eq!(judge(token, 2_000_000_299), Ok(()));
        assert_eq!(judge(token, 2_000_000_300), Err(TokenError::Expired));
        let token = Token::parse(token).unwrap();
        assert_eq!(token.check(RESOURCE, &keys()[..1], 0, 300), Err(TokenError::Signature));
        assert_eq!(token.check(&RESOURCE.to_uppercase(), &keys(), 0, 300), Ok(()));
        assert_eq!(token.check("lab.azure-devices.net/devices/d/modules/m2", &keys(), 0, 0), Err(TokenError::Resource));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = SIGNED;
        assert_eq!(judge(&token.replace("2000000000", "2000000001"), 0), Err(TokenError::Signature));
        // The signature is over the text as sent: the same resource in other escapes is another text.
        assert_eq!(judge(&token.replace("%2F", "%2f"), 0), Err(TokenError::Signature));
        assert_eq!(judge(&token.replace("%2F", "/"), 0), Err(TokenError::Encoding));
        assert_eq!(judge(&format!("{token}&skn=device"), 0), Err(TokenError::Policy));
        assert_eq!(judge(&format!("{token}&se=1"), 0), Err(TokenError::Field));
        assert_eq!(judge(&format!("{token}&x=1"), 0), Err(TokenError::Field));
        assert_eq!(judge(&token.replace("se=", "se=-"), 0), Err(TokenError::Expiry));
        assert_eq!(judge("", 0), Err(TokenError::Form));
    }
}
