//! `twinward run`: the agent, as soon as it has its credentials.

use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentError, AgentOptions, CoreStatus, Handle, diagnostics};
use crate::collect::lane;
use crate::control::{self, Request, Server};
use crate::hub::connstr::ConnectionString;
use crate::hub::tls;
use crate::model::payload::DiagnosticSeverity;
use crate::settings::{LogLevel, Settings, Storage, load};
use crate::sys::capabilities::{self, Capability};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::host::Host;
use crate::sys::{files, hardening, notify};

use super::args::Global;
use super::exit::{self, CommandError};
use super::{log, signals, waiting};

/// Runs the agent until SIGTERM or SIGINT.
pub(super) fn run(global: &Global) -> anyhow::Result<u8> {
    let settings = load::load(&global.config, load::environment())
        .map_err(|problems| CommandError::configuration(problems.to_string()))?;
    let (sink, source) = settings.log.diagnostic_level.map(diagnostics).unzip();
    log::init(settings.log.level, sink);
    hardening::keep_files_private();
    crate::sys::crash::install(settings.storage.runtime(), clock());
    if let Err(error) = hardening::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps stay possible");
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    // Both before there is a second thread.
    if let Err(error) = hardening::forbid_new_privileges() {
        tracing::warn!(%error, "programs that the agent runs may get rights that it has given back");
    }
    match capabilities::give_back(&lane::unneeded(settings.collect.process_source)) {
        Ok(given) if given.is_empty() => {}
        Ok(given) => {
            let names: Vec<_> = given.into_iter().map(Capability::as_str).collect();
            tracing::info!(capabilities = names.join(", "), "given back: the chosen process source does not need them");
        }
        Err(error) => tracing::warn!(%error, "capabilities that are not needed cannot be given back"),
    }
    let stop = CancellationToken::new();
    let runtime = runtime()?;
    let last = runtime.block_on(async {
        let signal = signals::stop_signal();
        tokio::pin!(signal);
        let identity = tokio::select! {
            identity = waiting::for_credentials(&settings, clock()) => identity?,
            name = &mut signal => {
                tracing::info!(signal = name, "stopping");
                notify::stopping();
                return Ok(None);
            }
        };
        let (agent, handle) = build(settings.clone(), identity, source)?;
        let server = bind(&settings.storage)?;
        let answers = handle.clone();
        let control = control::serve(server, move |request| answer(answers.clone(), request));
        tokio::pin!(control);
        let running = agent.run(handle, stop.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                last = &mut running => return Ok(Some(last?)),
                name = &mut signal, if !stop.is_cancelled() => {
                    tracing::info!(signal = name, "stopping");
                    stop.cancel();
                }
                () = &mut control => anyhow::bail!("the control socket ended"),
            }
        }
    });
    // Name resolution may hang in the system's resolver for longer than a stop may take.
    runtime.shutdown_background();
    if let Some(last) = last? {
        log_balance(&last);
    }
    Ok(exit::OK)
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(super::release_floor()))
}

/// Both ends of what joins the log to the Diagnostic events.
fn diagnostics(least: LogLevel) -> (diagnostics::Sink, diagnostics::Source) {
    let least = match least {
        LogLevel::Error => DiagnosticSeverity::Error,
        LogLevel::Warn => DiagnosticSeverity::Warning,
        // The configuration goes no further: lines about single messages are below.
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => DiagnosticSeverity::Information,
    };
    diagnostics::channel(least, clock())
}

/// The runtime of the network side: one thread, and few for blocking work.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("cannot start the runtime")
}

/// Builds the agent from settings; exit code 78 for what the user has to mend.
pub(super) fn build(
    settings: Settings,
    identity: ConnectionString,
    diagnostics: Option<diagnostics::Source>,
) -> anyhow::Result<(Agent, Handle)> {
    let tls = tls::client_config(settings.hub.ca_file.as_deref())
        .map_err(|error| CommandError::configuration(error.to_string()))?;
    let options = AgentOptions { settings, identity, tls, host: Host::system(), clock: clock(), diagnostics };
    Agent::build(options).map_err(refusal)
}

fn refusal(error: AgentError) -> anyhow::Error {
    match &error {
        AgentError::State { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            CommandError::not_permitted(error.to_string()).into()
        }
        _ => error.into(),
    }
}

/// Opens the control socket.
///
/// # Errors
/// Exit code 77 for a directory that may not be used; else those of binding.
pub(super) fn bind(storage: &Storage) -> anyhow::Result<Server> {
    let directory = storage.runtime_directory.as_ref().unwrap_or(&storage.directory);
    files::private_directory(directory)
        .map_err(|source| refusal(AgentError::State { path: directory.clone(), source }))?;
    Server::bind(&control::socket_path(directory))
        .with_context(|| format!("cannot open the control socket in {}", directory.display()))
}

async fn answer(handle: Handle, request: Request) -> Value {
    let outcome = match request {
        Request::Status => handle.status().await.map(|status| json!(status)),
        Request::Flush => handle.flush().await.map(|()| json!({"flushing": true})),
    };
    outcome.unwrap_or_else(|error| json!({"error": error.to_string()}))
}

fn log_balance(last: &CoreStatus) {
    for (queue, account) in [("high", &last.balance.high), ("low", &last.balance.low)] {
        tracing::info!(
            queue,
            collected = account.collected,
            delivered = account.delivered,
            dropped = account.dropped_total(),
            pending = account.pending,
            "balance"
        );
    }
    tracing::info!("stopped; what is pending is stored and will be sent at the next start");
}
