//! `twinward doctor`: walks everything the agent needs, in the order in which it needs it, and says for each fault what
//! to do. It changes nothing; it signs in only if no agent does.

mod capabilities;
mod certificate;
mod clock;
mod finding;
mod network;
mod places;
mod running;
mod service;
mod sign_in;
mod snapshots;
mod sources;
mod tls;
#[cfg(feature = "lab")]
#[cfg(test)]
mod tls_tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::collect::SNAPSHOTS;
use crate::collect::lane::SourceContext;
use crate::collect::snapshot::SnapshotContext;
use crate::hub::connstr::ConnectionString;
use crate::hub::options::LinkOptions;
use crate::hub::tls::{RootCounts, TlsError, client_config, trusted_roots};
use crate::settings::{Settings, load};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::host::Host;

use super::args::Global;
use super::users::Users;
use finding::{Check, Finding, Report};
use running::Running;

/// The token is used once, at once.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Walks all checks.
///
/// # Errors
/// Those of standard output, or of a system that gives us no runtime.
pub(super) fn run(global: &Global) -> anyhow::Result<u8> {
    let released = super::release_floor();
    let mut doctor = Doctor {
        report: Report::printing(global.json),
        host: Host::system(),
        clock: Arc::new(SystemClock::new(released)),
    };
    let (findings, settings) = places::configuration(&global.config, load::environment());
    doctor.report.add_all(findings)?;
    let identity = doctor.places(settings.as_ref())?;
    doctor.clock()?;
    let running = doctor.agent(settings.as_ref())?;
    doctor.network(settings.as_ref(), identity.as_ref(), &running)?;
    doctor.kernel(settings.as_ref(), &running)?;
    if !global.json {
        io::stdout().lock().write_all(doctor.report.summary().as_bytes())?;
    }
    Ok(doctor.report.exit_code())
}

struct Doctor {
    report: Report,
    host: Host,
    clock: Arc<dyn Clock>,
}

impl Doctor {
    /// Files and directories, and who we are.
    fn places(&mut self, settings: Option<&Settings>) -> io::Result<Option<ConnectionString>> {
        let mut secret = None;
        let mut may = true;
        for check in [Check::SecretFile, Check::StateDirectory, Check::RuntimeDirectory] {
            may &= self.report.may(check, &[Check::Configuration])?;
        }
        if let (true, Some(settings)) = (may, settings) {
            let users = Users::find(&self.host, &settings.storage);
            let (finding, read) = places::secret(&settings.identity, users);
            secret = read;
            self.report.add(finding)?;
            self.report.add(places::state_directory(&settings.storage, users))?;
            self.report.add(places::runtime_directory(&settings.storage, users))?;
        }
        let mut identity = None;
        if let (true, Some(secret)) = (self.report.may(Check::Identity, &[Check::SecretFile])?, secret) {
            let (finding, parsed) = places::identity(&secret);
            identity = parsed;
            self.report.add(finding)?;
        }
        Ok(identity)
    }

    fn clock(&mut self) -> io::Result<()> {
        self.report.add(clock::clock(self.clock.now()))?;
        self.report.add(clock::synchronization(&self.host))
    }

    fn agent(&mut self, settings: Option<&Settings>) -> io::Result<Running> {
        let may = self.report.may(Check::Agent, &[Check::Configuration])?;
        let Some(settings) = settings.filter(|_| may) else { return Ok(Running::Unknown) };
        let (finding, running) = running::ask(&settings.storage);
        self.report.add(finding)?;
        Ok(running)
    }

    /// From the trusted roots to the twin.
    fn network(
        &mut self,
        settings: Option<&Settings>,
        identity: Option<&ConnectionString>,
        running: &Running,
    ) -> anyhow::Result<()> {
        let mut tls = None;
        if let (true, Some(settings)) = (self.report.may(Check::TrustStore, &[Check::Configuration])?, settings) {
            let ca_file = settings.hub.ca_file.as_deref();
            let made = trusted_roots(ca_file).and_then(|trusted| Ok((trusted, client_config(ca_file)?)));
            self.report.add_all(trust(made.as_ref().map(|((_, counts), _)| counts)))?;
            tls = made.ok();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime for the network checks")?;
        let outcome = runtime.block_on(self.reach(settings, identity, tls, running));
        // A look-up that hangs is left behind.
        runtime.shutdown_background();
        Ok(outcome?)
    }

    async fn reach(
        &mut self,
        settings: Option<&Settings>,
        identity: Option<&ConnectionString>,
        tls: Option<((rustls::RootCertStore, RootCounts), Arc<rustls::ClientConfig>)>,
        running: &Running,
    ) -> io::Result<()> {
        let mut addresses = Vec::new();
        let may = self.report.may(Check::NameResolution, &[Check::Identity])?;
        if let (true, Some(settings), Some(identity)) = (may, settings, identity) {
            let host = settings.hub.host.as_deref().unwrap_or_else(|| identity.dial_name());
            let (finding, found) = network::resolve(host, settings.hub.port, self.clock.as_ref()).await;
            addresses = found;
            self.report.add(finding)?;
        }
        let mut connection = None;
        if self.report.may(Check::Tcp, &[Check::NameResolution])? {
            let (findings, stream) = network::connect(&addresses, self.clock.as_ref()).await;
            connection = stream;
            self.report.add_all(findings)?;
        }
        let may = self.report.may(Check::Tls, &[Check::Tcp, Check::TrustStore])?;
        let config = tls.as_ref().map(|(_, config)| Arc::clone(config));
        if let (true, Some(stream), Some(identity), Some(((roots, _), config))) = (may, connection, identity, tls) {
            let now = self.clock.now().wall.utc;
            let findings = tls::handshake(stream, identity.dial_name(), &config, roots, now).await;
            self.report.add_all(findings)?;
        }
        self.sign_in(settings, identity, config, running).await
    }

    async fn sign_in(
        &mut self,
        settings: Option<&Settings>,
        identity: Option<&ConnectionString>,
        tls: Option<Arc<rustls::ClientConfig>>,
        running: &Running,
    ) -> io::Result<()> {
        let needs: &[Check] = match (running, identity) {
            (Running::Yes(answer), Some(identity)) if running::same_identity(answer, identity) => {
                self.report.add_all(running::link(answer))?;
                return self.report.may(Check::Twin, &[Check::SignIn]).map(drop);
            }
            // Signing in could throw an agent out that cannot be asked.
            (Running::Unknown, _) => &[Check::Tls, Check::Agent],
            _ => &[Check::Tls],
        };
        let may = self.report.may(Check::SignIn, needs)?;
        if let (true, Some(settings), Some(identity), Some(tls)) = (may, settings, identity, tls) {
            let options = LinkOptions {
                identity: identity.clone(),
                tls,
                dial_host: settings.hub.host.clone(),
                port: settings.hub.port,
                messages: settings.hub.messages,
                // Somebody who calls the agent must not reach its doctor.
                direct_methods: false,
                sas_life: TOKEN_LIFE,
                clock: Arc::clone(&self.clock),
                product: format!("twinward/{}", crate::model::VERSION),
            };
            self.report.add_all(sign_in::sign_in(options, &settings.twin.object).await)?;
        }
        self.report.may(Check::Twin, &[Check::SignIn]).map(drop)
    }

    /// What the kernel shows, and who starts the agent.
    fn kernel(&mut self, settings: Option<&Settings>, running: &Running) -> io::Result<()> {
        let mut may = true;
        for check in [Check::ProcessSource, Check::ProcessEnds, Check::Connections, Check::Logins] {
            may &= self.report.may(check, &[Check::Configuration])?;
        }
        if let (true, Some(settings)) = (may, settings) {
            let context = SourceContext::new(&settings.collect, self.host.clone(), Arc::clone(&self.clock));
            self.report.add_all(sources::sources(&context))?;
        }
        let context = SnapshotContext::plain(self.host.clone(), Arc::clone(&self.clock));
        for name in SNAPSHOTS {
            self.report.add(snapshots::snapshot(*name, &context))?;
        }
        if let Running::Yes(answer) = running {
            self.report.add_all(running::collectors(answer))?;
        }
        self.report.add_all(capabilities::capabilities(&self.host))?;
        self.report.add(service::service(&self.host))
    }
}

/// What is trusted.
fn trust(counts: Result<&RootCounts, &TlsError>) -> Vec<Finding> {
    match counts {
        Ok(counts) => {
            let RootCounts { native, bundled, file, native_problems } = counts;
            let detail = format!("{native} root(s) of the machine, {bundled} built in, {file} of hub.ca_file");
            let mut findings = vec![Finding::ok(Check::TrustStore, detail)];
            findings.extend(native_problems.iter().map(|problem| {
                Finding::warning(Check::TrustStore, problem, "install the machine's CA certificates (ca-certificates)")
            }));
            findings
        }
        Err(error) => {
            let text = error.to_string();
            let (detail, advice) = text.split_once("; ").unwrap_or((&text, "check hub.ca_file"));
            vec![Finding::failed(Check::TrustStore, detail, advice)]
        }
    }
}
