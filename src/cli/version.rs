//! `twinward version`: what this program is, and what was built into it.

use serde::Serialize;

use super::args::Global;
use super::{exit, output};
use crate::sys::bpf::BUILT;

/// What was built.
#[derive(Debug, Serialize)]
struct Build {
    version: &'static str,
    /// Architecture, system and C library, as in the name of a tool chain without its vendor.
    target: String,
    /// Optional parts that are in.
    features: Vec<&'static str>,
    /// Who does the cryptography of TLS.
    tls: &'static str,
    /// `built`, or why the programs for the kernel are not in this build.
    ebpf: &'static str,
}

fn build() -> Build {
    let abi = if cfg!(target_abi = "eabihf") { "eabihf" } else { "" };
    let library = if cfg!(target_env = "musl") {
        "musl"
    } else if cfg!(target_env = "gnu") {
        "gnu"
    } else {
        "unknown"
    };
    Build {
        version: crate::model::VERSION,
        target: format!("{}-{}-{library}{abi}", std::env::consts::ARCH, std::env::consts::OS),
        features: if cfg!(feature = "lab") { vec!["lab"] } else { Vec::new() },
        tls: "rustls with ring",
        ebpf: BUILT,
    }
}

/// Prints it.
pub(super) fn run(global: &Global) -> anyhow::Result<u8> {
    let build = build();
    if global.json {
        output::json_line(&build)?;
        return Ok(exit::OK);
    }
    let features = if build.features.is_empty() { "none".to_owned() } else { build.features.join(", ") };
    let (tls, ebpf) = (build.tls.to_owned(), build.ebpf.to_owned());
    let rows = [("target", build.target), ("features", features), ("tls", tls), ("ebpf", ebpf)];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::table(&["twinward", build.version], &rows)?;
    Ok(exit::OK)
}
