//! What a try prints: one line for each happening, the raw bodies with `--json`.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::agent::CoreStatus;
use crate::cli::output::{json_line, printable, table};
use crate::lab::{Happening, Lab, Observed};
use crate::model::health::{CollectorHealth, HealthState};

use super::render;

/// Prints; in JSON mode each line on standard output is one JSON object.
pub(super) struct Screen {
    json: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// One line of the try's own.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return Ok(json_line(&json!({"event": "note", "text": text}))?);
        }
        Ok(line("--", text)?)
    }

    /// Where everything is, and what was changed so that it is quick.
    pub(super) fn introduction(&self, lab: &Lab, short: &[(&str, &str)]) -> anyhow::Result<()> {
        let changed: Vec<String> = short.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.say(&format!(
            "loopback IoT Hub {} at 127.0.0.1:{}, module {}",
            lab.host_name(),
            lab.port(),
            lab.module()
        ))?;
        self.say(&format!("the twin has short times, so that you see something soon: {}", changed.join(", ")))?;
        self.say("`sleep 2` is started every 5 s, so that a quiet machine has something to show")?;
        if !rustix::process::geteuid().is_root() {
            self.say("without root the programs and sockets of other users have no executable and no owner, and before Linux 6.6 processes are only found by looking once a second; root (or CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH) adds them")?;
        }
        self.say("type `set KEY VALUE`, `call METHOD`, `twin`, `status` or `quit`; Ctrl-C ends it")
    }

    /// What happened at the hub.
    pub(super) fn happening(&self, happening: &Observed) -> anyhow::Result<()> {
        if self.json {
            return Ok(json_line(happening)?);
        }
        match &happening.what {
            Happening::Connected { .. } => line("hub", &format!("{} connected", happening.client))?,
            Happening::Refused { reason, .. } => line("hub", &format!("refused: {reason}"))?,
            Happening::Disconnected(why) => line("hub", &format!("{} disconnected: {why}", happening.client))?,
            Happening::TwinRead { version, .. } => {
                line("hub", &format!("twin received by the agent, desired version {version}"))?;
            }
            Happening::Reported { patch, version } => {
                let names: Vec<String> = patch
                    .iter()
                    .map(|(object, members)| {
                        format!("{object} ({} members)", members.as_object().map_or(0, serde_json::Map::len))
                    })
                    .collect();
                line("hub", &format!("reported, version {version}: {}", names.join(", ")))?;
            }
            Happening::ReportRefused { reason, .. } => line("hub", &format!("report refused: {reason}"))?,
            Happening::Telemetry(telemetry) => {
                let body: Value = serde_json::from_slice(&telemetry.body).unwrap_or(Value::Null);
                let lines = render::message(&body);
                let again = if telemetry.dup { ", again" } else { "" };
                line("hub", &format!("message of {} events, {} bytes{again}", lines.len(), telemetry.body.len()))?;
                for text in lines {
                    line("  ", &text)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// One collector.
    pub(super) fn health(&self, health: &CollectorHealth) -> anyhow::Result<()> {
        if self.json {
            return Ok(json_line(&json!({"event": "collector", "collector": health}))?);
        }
        let state = match health.state {
            HealthState::Ok => "ok",
            HealthState::Degraded => "degraded",
            HealthState::Unavailable => "unavailable",
            HealthState::Off => "off",
        };
        let source = if health.source.is_empty() { String::new() } else { format!(" ({})", health.source) };
        Ok(line("--", format!("{} {state}{source} {}", health.event, health.detail).trim_end())?)
    }

    /// Both sides of the twin.
    pub(super) fn twin(&self, desired: &Value, reported: &Value) -> anyhow::Result<()> {
        if self.json {
            return Ok(json_line(&json!({"event": "twin", "desired": desired, "reported": reported}))?);
        }
        for (name, section) in [("desired", desired), ("reported", reported)] {
            for text in format!("{name} {section:#}").lines() {
                line("--", text)?;
            }
        }
        Ok(())
    }

    /// The balance: collected = delivered + dropped + pending.
    pub(super) fn balance(&self, status: &CoreStatus) -> anyhow::Result<()> {
        if self.json {
            return Ok(json_line(
                &json!({"event": "balance", "balance": status.balance, "holds": status.balance.holds()}),
            )?);
        }
        let rows: Vec<Vec<String>> = [("High", &status.balance.high), ("Low", &status.balance.low)]
            .iter()
            .map(|(queue, account)| {
                let mut row = vec![(*queue).to_owned()];
                row.extend(
                    [account.collected, account.delivered, account.dropped_total(), account.pending]
                        .map(|count| count.to_string()),
                );
                row.push(if account.holds() { "yes" } else { "NO" }.to_owned());
                row
            })
            .collect();
        Ok(table(&["QUEUE", "COLLECTED", "DELIVERED", "DROPPED", "PENDING", "ADDS UP"], &rows)?)
    }
}

fn line(mark: &str, text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{mark:<4}{}", printable(text))?;
    out.flush()
}
