//! What a check found, the report of all of them, and how it is printed. Each finding is printed as soon as it is
//! there, because the network ones take their time.
//!
//! With `--json`: one object a line, `{"check":…,"result":…,"detail":…,"advice":…}`; `result` is `ok`, `warning`,
//! `failed` or `skipped`.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::{exit, output};

/// The checks, in the order in which they are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    Configuration,
    SecretFile,
    StateDirectory,
    RuntimeDirectory,
    Identity,
    Clock,
    ClockSync,
    Agent,
    TrustStore,
    NameResolution,
    Tcp,
    Tls,
    Certificate,
    SignIn,
    Twin,
    ProcessSource,
    ProcessEnds,
    Connections,
    Logins,
    Snapshots,
    Collectors,
    Capabilities,
    Service,
}

impl Check {
    /// The name, as in JSON.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::SecretFile => "secret-file",
            Self::StateDirectory => "state-directory",
            Self::RuntimeDirectory => "runtime-directory",
            Self::Identity => "identity",
            Self::Clock => "clock",
            Self::ClockSync => "clock-sync",
            Self::Agent => "agent",
            Self::TrustStore => "trust-store",
            Self::NameResolution => "name-resolution",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::SignIn => "sign-in",
            Self::Twin => "twin",
            Self::ProcessSource => "process-source",
            Self::ProcessEnds => "process-ends",
            Self::Connections => "connections",
            Self::Logins => "logins",
            Self::Snapshots => "snapshots",
            Self::Collectors => "collectors",
            Self::Capabilities => "capabilities",
            Self::Service => "service",
        }
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but less well than it could.
    Warning,
    /// It does not work.
    Failed,
    /// Not tried, because it needs something that did not come out well.
    Skipped,
}

/// What one check found. `advice` is empty if there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) result: Verdict,
    pub(super) detail: String,
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn ok(check: Check, detail: impl Into<String>) -> Self {
        Self { check, result: Verdict::Ok, detail: detail.into(), advice: String::new() }
    }

    pub(super) fn warning(check: Check, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, result: Verdict::Warning, detail: detail.into(), advice: advice.into() }
    }

    pub(super) fn failed(check: Check, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, result: Verdict::Failed, detail: detail.into(), advice: advice.into() }
    }

    /// For a person: one line, and a second one with what to do. Foreign text is made printable.
    pub(super) fn text(&self) -> String {
        let result = match self.result {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        };
        let mut text = format!("{result:<9}{:<19}{}\n", self.check.as_str(), output::printable(&self.detail));
        if !self.advice.is_empty() {
            text.push_str(&format!("{:<28}what to do: {}\n", "", output::printable(&self.advice)));
        }
        text
    }
}

/// Takes a finding; may print it.
type Sink = Box<dyn FnMut(&Finding) -> io::Result<()>>;

/// All findings.
pub(super) struct Report {
    findings: Vec<Finding>,
    sink: Sink,
}

impl Report {
    /// A report that prints each finding on standard output.
    pub(super) fn printing(json: bool) -> Self {
        let sink: Sink = if json {
            Box::new(output::json_line)
        } else {
            Box::new(|finding| {
                let mut out = io::stdout().lock();
                out.write_all(finding.text().as_bytes())?;
                out.flush()
            })
        };
        Self { findings: Vec::new(), sink }
    }

    /// Takes a finding.
    ///
    /// # Errors
    /// Those of printing.
    pub(super) fn add(&mut self, finding: Finding) -> io::Result<()> {
        (self.sink)(&finding)?;
        self.findings.push(finding);
        Ok(())
    }

    /// Takes several findings.
    ///
    /// # Errors
    /// As [`Report::add`].
    pub(super) fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        findings.into_iter().try_for_each(|finding| self.add(finding))
    }

    /// Whether `check` can be tried: all of `needs` came out well. If not, it is marked as skipped.
    ///
    /// # Errors
    /// As [`Report::add`].
    pub(super) fn may(&mut self, check: Check, needs: &[Check]) -> io::Result<bool> {
        let Some(missing) = needs.iter().find(|need| !self.good(**need)) else { return Ok(true) };
        let detail = format!("(needs {})", missing.as_str());
        self.add(Finding { check, result: Verdict::Skipped, detail, advice: String::new() })?;
        Ok(false)
    }

    /// Whether a check was made, and nothing of it failed.
    fn good(&self, check: Check) -> bool {
        let mut made = self.findings.iter().filter(|f| f.check == check).peekable();
        made.peek().is_some() && made.all(|f| matches!(f.result, Verdict::Ok | Verdict::Warning))
    }

    /// 0 if nothing failed, 78 if the configuration is bad, else 1.
    pub(super) fn exit_code(&self) -> u8 {
        let failed =
            |wanted: fn(Check) -> bool| self.findings.iter().any(|f| f.result == Verdict::Failed && wanted(f.check));
        if failed(|check| check == Check::Configuration) {
            exit::CONFIGURATION
        } else if failed(|_| true) {
            exit::FAILED
        } else {
            exit::OK
        }
    }

    /// The last line for a person.
    pub(super) fn summary(&self) -> String {
        let count = |wanted| self.findings.iter().filter(|f| f.result == wanted).count();
        format!(
            "{} ok, {} warning(s), {} failed, {} skipped\n",
            count(Verdict::Ok),
            count(Verdict::Warning),
            count(Verdict::Failed),
            count(Verdict::Skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Report {
        Report { findings: Vec::new(), sink: Box::new(|_| Ok(())) }
    }

    #[test]
    fn lines_for_people() {
        let findings = [
            Finding::ok(Check::Clock, "2026-11-22T09:30:00.000Z"),
            Finding::failed(Check::NameResolution, "h.net: no such name", "check the DNS server"),
            Finding::warning(Check::Identity, "evil\u{1b}[2J\nname", ""),
        ];
        let text: String = findings.iter().map(Finding::text).collect();
        insta::assert_snapshot!(text, @r"
        ok       clock              2026-11-22T09:30:00.000Z
        failed   name-resolution    h.net: no such name
                                    what to do: check the DNS server
        warning  identity           evil\u{1b}[2J\nname
        ");
    }

    #[test]
    fn lines_for_programs() {
        let line = serde_json::to_string(&Finding::failed(Check::SignIn, "no", "do")).unwrap();
        assert_eq!(line, r#"{"check":"sign-in","result":"failed","detail":"no","advice":"do"}"#);
        for check in [Check::Configuration, Check::SecretFile, Check::TrustStore, Check::NameResolution, Check::SignIn]
        {
            assert_eq!(serde_json::to_value(check).unwrap(), check.as_str());
        }
    }

    #[test]
    fn what_needs_a_failed_check_is_skipped_and_so_is_what_needs_that() {
        let mut report = quiet();
        report.add(Finding::ok(Check::Identity, "")).unwrap();
        report.add(Finding::failed(Check::NameResolution, "", "")).unwrap();
        assert!(!report.may(Check::Tcp, &[Check::Identity, Check::NameResolution]).unwrap());
        assert!(!report.may(Check::Tls, &[Check::Tcp]).unwrap());
        assert!(report.may(Check::Twin, &[Check::Identity]).unwrap());
        let details: Vec<_> = report.findings.iter().map(|f| (f.check.as_str(), f.detail.as_str())).collect();
        assert_eq!(details[2..], [("tcp", "(needs name-resolution)"), ("tls", "(needs tcp)")]);
        assert_eq!(report.summary(), "1 ok, 0 warning(s), 1 failed, 2 skipped\n");
    }

    #[test]
    fn a_check_that_was_not_made_is_not_good_and_a_warning_is() {
        let mut report = quiet();
        assert!(!report.may(Check::Tls, &[Check::Tcp]).unwrap());
        report.add(Finding::ok(Check::Tcp, "one address")).unwrap();
        report.add(Finding::warning(Check::Tcp, "another address", "")).unwrap();
        assert!(report.may(Check::Tls, &[Check::Tcp]).unwrap());
    }

    #[test]
    fn the_exit_code_tells_a_bad_configuration_from_other_faults() {
        let mut report = quiet();
        assert_eq!(report.exit_code(), exit::OK);
        report.add(Finding::warning(Check::Agent, "", "")).unwrap();
        assert_eq!(report.exit_code(), exit::OK);
        report.add(Finding::failed(Check::Tls, "", "")).unwrap();
        assert_eq!(report.exit_code(), exit::FAILED);
        report.add(Finding::failed(Check::Configuration, "", "")).unwrap();
        assert_eq!(report.exit_code(), exit::CONFIGURATION);
    }
}
