//! Shared access signatures:
//! `SharedAccessSignature sr={R}&sig={S}&se={E}` with `R` = the percent-encoded resource, `E` = expiry in seconds since
//! 1970, `S` = percent-encoded base64 of HMAC-SHA256(key, `R` + line feed + `E`). What is signed is the *encoded*
//! resource. `skn` belongs to keys of the whole hub only and is never sent.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::model::secret::Secret;

/// Everything but RFC 3986's unreserved characters is escaped; never a `+` for a blank.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Block of SHA-256 in bytes.
const BLOCK: usize = 64;

/// `text` with everything but letters, digits and `- . _ ~` escaped as `%XX`; for tokens, user names and property bags.
#[must_use]
pub fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// A token for the resource whose path segments are given (`[host, "devices", d, "modules", m]`), signed with the
/// decoded key, good until `expiry` (seconds since 1970, UTC). It is a password, so it comes as a secret.
#[must_use]
pub fn token(resource: &[&str], key: &Secret, expiry: i64) -> Secret {
    let resource = encode(&resource.join("/")).to_string();
    let signature = BASE64_STANDARD.encode(hmac_sha256(key, format!("{resource}\n{expiry}").as_bytes()));
    Secret::new(format!("SharedAccessSignature sr={resource}&sig={}&se={expiry}", encode(&signature)).into_bytes())
}

/// HMAC with SHA-256 over a key of any length: RFC 2104 hashes longer keys and fills shorter ones with zeros.
fn hmac_sha256(key: &Secret, text: &[u8]) -> [u8; 32] {
    let mut block = Zeroizing::new([0_u8; BLOCK]);
    let long = key.expose().len() > BLOCK;
    let digest = Zeroizing::new(if long { <[u8; 32]>::from(Sha256::digest(key.expose())) } else { [0; 32] });
    let short = if long { &digest[..] } else { key.expose() };
    block.iter_mut().zip(short).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secret: &Secret) -> &str {
        secret.expose_text().unwrap()
    }

    // The expected tokens were computed with Python's hmac, hashlib and urllib.
    #[test]
    fn tokens_equal_those_of_another_implementation() {
        let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let resource = ["contoso.azure-devices.net", "devices", "pump-7", "modules", "azureiotsecurity"];
        assert_eq!(
            text(&token(&resource, &key, 1_800_000_000)),
            "SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices%2Fpump-7%2Fmodules%2Fazureiotsecurity\
             &sig=h4rczKrqcoCsNIk2fTVdN2E%2BhebfCccldOrVNo1UXhE%3D&se=1800000000"
        );
        let key = Secret::new(vec![0xff, 0xef]);
        let resource = ["h.azure-devices.net", "devices", "a%b#c(1)'*!", "modules", "m@x:y"];
        assert_eq!(
            text(&token(&resource, &key, 1)),
            "SharedAccessSignature sr=h.azure-devices.net%2Fdevices%2Fa%25b%23c%281%29%27%2A%21%2Fmodules%2Fm%40x%3Ay\
             &sig=jpVhNH3wxra3aCFeZ3gOMMa1888By3%2BBRINF%2Fr0yQlI%3D&se=1"
        );
        let key = Secret::new((0..100).collect());
        assert_eq!(
            text(&token(&["h.azure-devices.net", "devices", "d"], &key, 4_102_444_800)),
            "SharedAccessSignature sr=h.azure-devices.net%2Fdevices%2Fd\
             &sig=wmu3K5vfc7Gv98PWL6fWCyLsmtjrHYu2GQDC%2FoLOLmg%3D&se=4102444800"
        );
    }

    #[test]
    fn a_blank_is_never_a_plus() {
        assert_eq!(encode("a b+c/ö~").to_string(), "a%20b%2Bc%2F%C3%B6~");
    }
}
