//! Percent-encoding as the hub reads it: strictly. A lone `%` is an error, `+` is a plus.

/// Encodes all but letters and digits, as a careful client does.
#[cfg(test)]
pub(super) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Decodes; `None` for a `%` without two hexadecimal digits, or for bytes that are not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_escapes_are_taken() {
        assert_eq!(decode("a%2fB%2F+").as_deref(), Some("a/B/+"));
        for bad in ["%", "%2", "%zz", "%+1", "a%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(!encoded.contains(['/', '+', '=', '&', '#', ' ']));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
