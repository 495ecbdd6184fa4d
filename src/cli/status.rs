//! `twinward status`: what the running agent says about itself.

mod answer;
mod view;

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;

use crate::control::{ControlError, Request};
use crate::settings::load;

use super::args::Global;
use super::exit::{self, CommandError};
use super::{output, reach};

pub(super) use answer::{Answer, Collector, Waiting};
pub(super) use view::span;

/// Asks the agent and prints its answer. An agent that answers is no failure, whatever it says: the doctor judges.
///
/// # Errors
/// Exit code 78 if the configuration is bad, 77 if we may not ask, 1 if nobody answers.
pub(super) fn run(global: &Global) -> anyhow::Result<u8> {
    let settings = load::load(&global.config, load::environment())
        .map_err(|problems| CommandError::configuration(problems.to_string()))?;
    let value = reach::ask(&settings.storage, Request::Status).map_err(refusal)?;
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        anyhow::bail!("the agent cannot tell: {}", output::printable(error));
    }
    if global.json {
        output::json_line(&value)?;
        return Ok(exit::OK);
    }
    let answer = Answer::deserialize(&value)
        .map_err(|error| anyhow::anyhow!("this agent answers in another form ({error}); look at it with --json"))?;
    io::stdout().lock().write_all(view::text(&answer).as_bytes())?;
    Ok(exit::OK)
}

fn refusal(error: ControlError) -> anyhow::Error {
    match error {
        ControlError::NotPermitted { .. } => CommandError::not_permitted(error.to_string()).into(),
        // Its text names the cause already.
        other => anyhow::Error::msg(other.to_string()),
    }
}
