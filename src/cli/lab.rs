//! `twinward lab`: the loopback IoT Hub on its own, for tests in any language.
//!
//! Standard output carries JSON lines: first `ready`, then every happening and every answer.
//!
//! ```text
//! {"event":"ready","host":…,"address":…,"port":…,"device":…,"module":…,"ca_pem":…,"ca_file":…,"connection_string":…}
//! {"event":"telemetry","at":…,"client":"d/m","properties":{…},"body":…,"dup":false,"packet_id":1,"size":…}
//! {"event":"answer","cmd":"twin","id":7,"ok":true,"desired":{…},"reported":{…}}
//! {"event":"answer","cmd":"patch_desired","id":8,"ok":false,"error":"…"}
//! ```
//!
//! Standard input takes commands, one JSON object a line, with an `id` of the caller's choice that is echoed. All but
//! `faults`, `kick` and `quit` take `device` and `module`; without them the first module is meant.
//!
//! | `cmd` | fields | answer |
//! |---|---|---|
//! | `patch_desired` | `patch` | `version` |
//! | `replace_desired` | `desired` | `version` |
//! | `twin` | | `desired`, `reported`, `connected` |
//! | `faults` | those of [`Faults`] that change; `clear: true` ends all others | `faults` |
//! | `kick`, `quit` | | |
//! | `method` | `name`, `payload`, `timeout_ms` | `status`, `payload` |
//! | `add_identity` | `desired` | `connection_string` |
//! | `set_enabled` | `enabled` | |
//! | `remove_identity` | | |
//!
//! The end of standard input, SIGTERM and SIGINT end it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{exit, output};
use crate::lab::{Faults, Lab, LabOptions, ModuleId, Observed};
use crate::sys::files::{private_directory, write_atomic};

/// A command line longer than this ends the input; a full section of a twin is 32 KiB.
const LONGEST_LINE: u64 = 1024 * 1024;
/// Lines that wait to be printed, and commands that wait to be done.
const QUEUE: usize = 64;
/// A twin file larger than this is a mistake.
const LARGEST_TWIN: u64 = 1024 * 1024;

/// Arguments of `twinward lab`.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Port on 127.0.0.1; 0 is any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Write `ca.pem` and `connection-string` (mode 0600) into this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Desired properties to begin with: a JSON object, or a document with `properties.desired`.
    #[arg(long, value_name = "FILE")]
    twin: Option<PathBuf>,
}

impl LabArgs {
    /// Runs the hub until it is told to end.
    ///
    /// # Errors
    /// The hub cannot start, or a file cannot be read or written.
    pub fn run(&self) -> anyhow::Result<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut options = LabOptions { port: self.port, ..LabOptions::default() };
        if let Some(path) = &self.twin {
            options.desired = read_twin(path)?;
        }
        runtime.block_on(self.serve(options))?;
        Ok(exit::OK)
    }

    async fn serve(&self, options: LabOptions) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let lab = Arc::new(Lab::start(options).await?);
        let mut observed = lab.observe();
        let ca_file = self.dir.as_deref().map(|dir| write_files(dir, &lab)).transpose()?;
        output::json_line(&json!({
            "event": "ready", "host": lab.host_name(), "address": lab.address().ip().to_string(), "port": lab.port(),
            "device": lab.module().device, "module": lab.module().module, "ca_pem": lab.ca_pem(), "ca_file": ca_file,
            "connection_string": lab.connection_string(),
        }))?;
        let mut lines = stdin_lines()?;
        let (answers, mut answered) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(event) = observed.recv() => output::json_line::<Observed>(&event)?,
                Some(answer) = answered.recv() => output::json_line::<Value>(&answer)?,
                line = lines.recv() => match line {
                    None => break,
                    // A method waits for its answer; the commands behind it must not.
                    Some(line) if is_method(&line) => {
                        let (lab, answers) = (Arc::clone(&lab), answers.clone());
                        tasks.spawn(async move {
                            // After the end nobody reads answers.
                            let _ = answers.send(obey(&lab, &line).await.0).await;
                        });
                    }
                    Some(line) => {
                        let (answer, go_on) = obey(&lab, &line).await;
                        output::json_line(&answer)?;
                        if !go_on {
                            break;
                        }
                    }
                },
            }
        }
        drop(observed);
        if let Some(lab) = Arc::into_inner(lab) {
            lab.shutdown().await;
        }
        Ok(())
    }
}

/// One line of standard input.
#[derive(Deserialize)]
struct Request {
    cmd: String,
    #[serde(default)]
    id: Value,
    device: Option<String>,
    module: Option<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    name: String,
    #[serde(default)]
    payload: Value,
    #[serde(default = "method_timeout")]
    timeout_ms: u64,
}

/// What the hub's callers wait for by default.
fn method_timeout() -> u64 {
    30_000
}

fn is_method(line: &str) -> bool {
    serde_json::from_str::<Request>(line).is_ok_and(|request| request.cmd == "method")
}

/// Does what a line says; gives the answer, and whether to go on.
async fn obey(lab: &Lab, line: &str) -> (Value, bool) {
    let request = match serde_json::from_str::<Request>(line) {
        Ok(request) => request,
        Err(error) => {
            return (json!({"event": "answer", "ok": false, "error": format!("not a command: {error}")}), true);
        }
    };
    let (cmd, id, go_on) = (request.cmd.clone(), request.id.clone(), request.cmd != "quit");
    let mut answer = match command(lab, request).await {
        Ok(mut fields) => {
            fields.insert("ok".to_owned(), true.into());
            fields
        }
        Err(error) => {
            Map::from_iter([("ok".to_owned(), false.into()), ("error".to_owned(), format!("{error:#}").into())])
        }
    };
    answer.insert("event".to_owned(), "answer".into());
    answer.insert("cmd".to_owned(), cmd.into());
    if !id.is_null() {
        answer.insert("id".to_owned(), id);
    }
    (Value::Object(answer), go_on)
}

async fn command(lab: &Lab, request: Request) -> anyhow::Result<Map<String, Value>> {
    let Request { cmd, device, module, mut fields, .. } = request;
    let module = ModuleId::new(
        device.unwrap_or_else(|| lab.module().device.clone()),
        module.unwrap_or_else(|| lab.module().module.clone()),
    );
    let taken: Option<&[&str]> = match cmd.as_str() {
        "patch_desired" => Some(&["patch"]),
        "replace_desired" | "add_identity" => Some(&["desired"]),
        "method" => Some(&["name", "payload", "timeout_ms"]),
        "set_enabled" => Some(&["enabled"]),
        "twin" | "kick" | "quit" | "remove_identity" => Some(&[]),
        // Its fields are those of `Faults`, which knows them.
        "faults" => None,
        _ => bail!("`{cmd}` is no command"),
    };
    if let Some(name) = fields.keys().find(|name| taken.is_some_and(|taken| !taken.contains(&name.as_str()))) {
        bail!("`{cmd}` does not take `{name}`");
    }
    let mut answer = Map::new();
    let mut give = |name: &str, value: Value| drop(answer.insert(name.to_owned(), value));
    let mut take = |name: &'static str| fields.remove(name).with_context(|| format!("`{cmd}` needs `{name}`"));
    match cmd.as_str() {
        "patch_desired" => give("version", lab.patch_desired_of(&module, take("patch")?)?.into()),
        "replace_desired" => give("version", lab.replace_desired_of(&module, take("desired")?)?.into()),
        "twin" => {
            let (desired, reported) = lab.twin_of(&module).with_context(|| format!("there is no module {module}"))?;
            give("desired", desired);
            give("reported", reported);
            give("connected", lab.is_connected(&module).into());
        }
        "faults" => give("faults", serde_json::to_value(change_faults(lab, std::mem::take(&mut fields))?)?),
        "kick" => lab.kick(),
        "method" => {
            let method: Method = serde_json::from_value(Value::Object(std::mem::take(&mut fields)))?;
            let wait = Duration::from_millis(method.timeout_ms);
            let reply = lab.invoke_method_of(&module, &method.name, &method.payload, wait).await?;
            give("status", reply.status.into());
            give("payload", reply.payload);
        }
        "add_identity" => {
            let desired = match fields.remove("desired") {
                None => Map::new(),
                Some(Value::Object(desired)) => desired,
                Some(_) => bail!("`desired` is not an object"),
            };
            give("connection_string", lab.add_identity(module, &desired)?.into());
        }
        "set_enabled" => {
            let enabled = take("enabled")?.as_bool().context("`enabled` is true or false")?;
            ensure!(lab.set_enabled(&module, enabled), "there is no module {module}");
        }
        "remove_identity" => ensure!(lab.remove_identity(&module), "there is no module {module}"),
        // `quit`, which the caller sees to; the table above has let nothing else pass.
        _ => {}
    }
    Ok(answer)
}

fn change_faults(lab: &Lab, mut changes: Map<String, Value>) -> anyhow::Result<Faults> {
    let clear = changes.remove("clear").is_some_and(|clear| clear == Value::Bool(true));
    let base = if clear { Faults::default() } else { lab.current_faults() };
    let Value::Object(mut fields) = serde_json::to_value(base)? else { bail!("faults are an object") };
    fields.append(&mut changes);
    let faults: Faults = serde_json::from_value(Value::Object(fields))?;
    lab.faults(|current| *current = faults.clone());
    Ok(faults)
}

/// Lines of standard input, read on a thread of its own: a read of it cannot be called off, and must not hold the end up.
fn stdin_lines() -> anyhow::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut input = BufReader::new(std::io::stdin());
        loop {
            let mut line = String::new();
            match input.by_ref().take(LONGEST_LINE).read_line(&mut line) {
                Ok(1..) if line.trim().is_empty() => {}
                Ok(1..) if line.ends_with('\n') => {
                    if sender.blocking_send(line).is_err() {
                        break;
                    }
                }
                // The end, a read error, or a line without one.
                _ => break,
            }
        }
    })?;
    Ok(receiver)
}

fn write_files(dir: &Path, lab: &Lab) -> anyhow::Result<PathBuf> {
    let failed = |path: &Path| format!("cannot write {}", path.display());
    private_directory(dir).with_context(|| failed(dir))?;
    let (ca, secret) = (dir.join("ca.pem"), dir.join("connection-string"));
    write_atomic(&ca, lab.ca_pem().as_bytes(), 0o644).with_context(|| failed(&ca))?;
    write_atomic(&secret, lab.connection_string().as_bytes(), 0o600).with_context(|| failed(&secret))?;
    Ok(ca)
}

fn read_twin(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value: Value = serde_json::from_reader(file.take(LARGEST_TWIN))
        .with_context(|| format!("{} is not JSON, or over 1 MiB", path.display()))?;
    let desired = value.pointer("/properties/desired").cloned().unwrap_or(value);
    match desired {
        Value::Object(desired) => Ok(desired),
        _ => bail!("{} is not an object of desired properties", path.display()),
    }
}
