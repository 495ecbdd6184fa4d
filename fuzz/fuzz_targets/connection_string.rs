//! Connection strings: nothing of a key is ever shown, in no error and no debug text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::hub::ConnectionString;
use twinward::model::secret::Secret;

fuzz_target!(|data: &[u8]| {
    let shown = match ConnectionString::parse(&Secret::new(data.to_vec())) {
        Ok(parsed) => {
            assert!(!parsed.host_name.is_empty() && !parsed.device_id.is_empty() && !parsed.module_id.is_empty());
            assert!(!parsed.dial_name().is_empty());
            format!("{parsed:?}")
        }
        Err(error) => format!("{error} {error:?}"),
    };
    let Ok(text) = std::str::from_utf8(data) else { return };
    for part in text.split(';') {
        let Some((name, value)) = part.split_once('=') else { continue };
        let is_key = name.trim().eq_ignore_ascii_case("SharedAccessKey");
        // The words of our own texts are shorter, and a real key has 44 characters and no blank.
        if is_key && value.len() >= 40 && !value.contains(char::is_whitespace) {
            assert!(!shown.contains(value), "{shown}");
        }
    }
});
