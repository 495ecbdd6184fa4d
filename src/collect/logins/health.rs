//! Which logs are read, what that leaves out, and why others are not read.

use std::path::PathBuf;

use super::NAME;
use super::sighting::Origin;
use crate::collect::{Coverage, SourceChoice};
use crate::model::event::EventName;

/// What reading these logs means.
///
/// # Errors
/// There is none; says why.
pub(super) fn choice(read: &[(Origin, PathBuf)], why_not: &[String], is_told: bool) -> Result<SourceChoice, String> {
    let has = |wanted: &[Origin]| read.iter().any(|(origin, _)| wanted.contains(origin));
    let refused = if why_not.is_empty() {
        String::new()
    } else {
        let rights = "reading needs CAP_DAC_READ_SEARCH, or the groups adm, systemd-journal and utmp";
        format!("cannot read {} ({rights})", why_not.join("; "))
    };
    if read.is_empty() {
        let none = "there is no systemd journal, /var/log/auth.log, /var/log/secure, /var/log/wtmp or /var/log/btmp";
        return Err(if refused.is_empty() { none.to_owned() } else { refused });
    }
    let mut names: Vec<String> = read.iter().map(|(_, path)| path.display().to_string()).collect();
    names.dedup();
    let mut reason = format!("reads {}", names.join(", "));
    for more in [refused.as_str(), if is_told { "" } else { "inotify cannot be used: looks once a second" }] {
        if !more.is_empty() {
            reason.push_str("; ");
            reason.push_str(more);
        }
    }
    let words = has(&[Origin::Journal, Origin::AuthLog]);
    let cannot_see = match (words, has(&[Origin::Wtmp]), has(&[Origin::Btmp])) {
        (true, ..) => "",
        (false, true, true) => "su, sudo, and sign-ins without a terminal",
        (false, true, false) => "su, sudo, refused attempts, and sign-ins without a terminal",
        (false, false, _) => "anything but refused attempts",
    };
    let covers = vec![Coverage { event: EventName::Login, cannot_see: cannot_see.to_owned(), complete: words }];
    Ok(SourceChoice { name: NAME, reason, covers })
}

/// The choice of a source that read something once, and nothing now.
pub(super) fn blind(reason: String) -> SourceChoice {
    let cannot_see = "anything until one of them can be read".to_owned();
    SourceChoice { name: NAME, reason, covers: vec![Coverage { event: EventName::Login, cannot_see, complete: false }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_left_out_is_said() {
        let read = |origins: &[Origin]| {
            origins
                .iter()
                .map(|origin| (*origin, PathBuf::from(format!("/log/{}", origin.as_str()))))
                .collect::<Vec<_>>()
        };
        let health = |origins: &[Origin], why_not: &[String]| {
            let choice = choice(&read(origins), why_not, true)?;
            Ok::<_, String>((choice.covers[0].complete, choice.health(EventName::Login).unwrap().detail))
        };
        let words = health(&[Origin::Journal, Origin::Wtmp], &[]).unwrap();
        assert_eq!(words, (true, "reads /log/journal, /log/wtmp".into()));
        let records = health(&[Origin::Wtmp, Origin::Btmp], &["/var/log/auth.log: no".into()]).unwrap();
        assert!(!records.0 && records.1.contains("cannot see su, sudo"), "{records:?}");
        assert!(
            records.1.contains("cannot read /var/log/auth.log: no (reading needs CAP_DAC_READ_SEARCH"),
            "{records:?}"
        );
        assert!(health(&[], &[]).unwrap_err().starts_with("there is no systemd journal"));
        assert!(health(&[], &["the journal: no".into()]).unwrap_err().starts_with("cannot read the journal: no"));
    }
}
