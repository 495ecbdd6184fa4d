//! The arguments, as clap sees them.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// On-device security micro-agent for Azure IoT Hub.
#[derive(Debug, Parser)]
#[command(name = "twinward", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Args {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub struct Global {
    /// Configuration file; drop-ins are read from `conf.d` beside it.
    #[arg(long, global = true, value_name = "FILE", default_value = crate::settings::defaults::CONFIG_FILE)]
    pub config: PathBuf,
    /// Print JSON lines instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent.
    Run,
    /// Run the agent against a loopback IoT Hub in this process, and show what happens.
    #[cfg(feature = "lab")]
    Try(super::tryout::TryArgs),
    /// Walk everything the agent needs, from the configuration to the twin, and say what to do about each fault.
    Doctor,
    /// Show what the running agent says about itself.
    Status,
    /// Check the local configuration or a twin document, and print every problem at once.
    Check(super::check::CheckArgs),
    /// Print what a collector sees, without a hub.
    Collect(super::collect::Collect),
    /// Check how this machine, or an image, is set up, and say what to do about each fault.
    Baseline(super::baseline::BaselineArgs),
    /// Run the loopback IoT Hub alone: JSON lines out, commands in.
    #[cfg(feature = "lab")]
    Lab(super::lab::LabArgs),
    /// Print the version and what was built in.
    Version,
}

impl Command {
    /// Runs the command and gives its exit code.
    ///
    /// # Errors
    /// What the command could not do; see [`super::exit`].
    pub fn run(&self, global: &Global) -> anyhow::Result<u8> {
        anyhow::ensure!(!global.config.as_os_str().is_empty(), "--config is empty");
        match self {
            Self::Run => super::run::run(global),
            #[cfg(feature = "lab")]
            Self::Try(args) => super::tryout::run(args, global),
            Self::Doctor => super::doctor::run(global),
            Self::Status => super::status::run(global),
            Self::Check(args) => super::check::run(args, global),
            Self::Collect(collect) => collect.run(global),
            Self::Baseline(args) => super::baseline::run(args, global),
            #[cfg(feature = "lab")]
            Self::Lab(args) => args.run(),
            Self::Version => super::version::run(global),
        }
    }
}
