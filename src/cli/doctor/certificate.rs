//! Reading the certificates that a server showed. They come before any check of them, so they are foreign text.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::finding::{Check, Finding};

/// As many characters of a name are shown.
const NAME: usize = 200;
/// As many names of a certificate are shown.
const NAMES: usize = 8;
/// A certificate that ends within this many seconds is worth a word: two weeks.
const SOON: i64 = 14 * 86_400;

/// What a person wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// DNS names and addresses that it is for.
    pub(super) names: Vec<String>,
}

impl Certificate {
    /// Reads one; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let at = |time: i64| Timestamp::from_second(time).ok();
        let names = read.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(name).take(NAMES).collect());
        Some(Self {
            subject: short(&read.subject().to_string()),
            issuer: short(&read.issuer().to_string()),
            not_before: at(read.validity().not_before.timestamp())?,
            not_after: at(read.validity().not_after.timestamp())?,
            names: names.unwrap_or_default(),
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(short(name)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// A line for each certificate of a chain, the server's first. Whether the chain is good is another check's verdict;
/// here only dates are judged.
pub(super) fn findings(chain: &[Option<Certificate>], now: Timestamp) -> Vec<Finding> {
    let line = |(i, certificate): (usize, &Option<Certificate>)| match certificate {
        Some(certificate) => one(i + 1, certificate, now),
        None => Finding::warning(Check::Certificate, format!("{}: not readable", i + 1), "renew it on the server"),
    };
    chain.iter().enumerate().map(line).collect()
}

fn one(number: usize, c: &Certificate, now: Timestamp) -> Finding {
    let mut detail =
        format!("{number}: {}, issued by {}, valid {} to {}", c.subject, c.issuer, c.not_before, c.not_after);
    if !c.names.is_empty() {
        detail.push_str(&format!(", for {}", c.names.join(" ")));
    }
    if now < c.not_before {
        let advice = "compare with the clock of this machine";
        Finding::warning(Check::Certificate, format!("{detail}: not valid yet"), advice)
    } else if now > c.not_after {
        Finding::warning(Check::Certificate, format!("{detail}: expired"), "renew it on the server")
    } else if c.not_after.as_second() - now.as_second() < SOON {
        Finding::warning(Check::Certificate, format!("{detail}: ends soon"), "renew it on the server")
    } else {
        Finding::ok(Check::Certificate, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn certificate() -> Certificate {
        Certificate {
            subject: "CN=hub".into(),
            issuer: "CN=ca".into(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2026-12-31T00:00:00Z".parse().unwrap(),
            names: vec!["*.azure-devices.net".into(), "127.0.0.1".into()],
        }
    }

    fn at(now: &str) -> Finding {
        findings(&[Some(certificate())], now.parse().unwrap()).remove(0)
    }

    #[test]
    fn a_line_for_each_certificate() {
        insta::assert_snapshot!(at("2026-06-01T00:00:00Z").text(), @"ok       certificate        1: CN=hub, issued by CN=ca, valid 2026-01-01T00:00:00Z to 2026-12-31T00:00:00Z, for *.azure-devices.net 127.0.0.1");
    }

    #[test]
    fn dates_are_judged() {
        for (now, end) in [
            ("2025-06-01T00:00:00Z", ": not valid yet"),
            ("2027-01-01T00:00:00Z", ": expired"),
            ("2026-12-20T00:00:00Z", ": ends soon"),
        ] {
            let finding = at(now);
            assert!(finding.result == Verdict::Warning && finding.detail.ends_with(end), "{finding:?}");
        }
        assert_eq!(findings(&[None], Timestamp::UNIX_EPOCH)[0].detail, "1: not readable");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Certificate::read(&bytes);
        }
    }
}
