//! Compresses the built-in checks of the baseline (`packaging/baseline`), and builds the kernel's programs (`bpf/twinward.bpf.c`) with clang. Without clang the agent is built without them, and
//! `twinward version` says so.
//!
//! - `TWINWARD_CLANG`: the clang to use, if it is not `clang` on the path;
//! - `TWINWARD_NO_EBPF=1`: build without them in any case.

#![expect(clippy::disallowed_methods, reason = "a build script starts the compiler and writes what it made")]

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

/// What it is built of.
const SOURCES: &str = "bpf";
const SOURCE: &str = "bpf/twinward.bpf.c";

/// The built-in checks.
const BASELINE: &str = "packaging/baseline";
/// The best of miniz_oxide's levels.
const LEVEL: u8 = 10;

/// What came of it.
enum Outcome {
    Built,
    /// Not built, and why that is no mistake.
    Without(&'static str),
    /// Not built, and why that is one.
    Failed(String),
}

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-env-changed=TWINWARD_CLANG");
    println!("cargo::rerun-if-env-changed=TWINWARD_NO_EBPF");
    println!("cargo::rerun-if-changed={BASELINE}");
    println!("cargo::rustc-check-cfg=cfg(ebpf)");
    if let Err(error) = compress() {
        println!("cargo::error=cannot compress the files of {BASELINE}: {error}");
        return ExitCode::FAILURE;
    }
    let state = match build() {
        Outcome::Built => {
            println!("cargo::rustc-cfg=ebpf");
            "built".to_owned()
        }
        Outcome::Without(reason) => format!("not built ({reason})"),
        Outcome::Failed(reason) => {
            println!("cargo::error=clang does not build {SOURCE}; TWINWARD_NO_EBPF=1 builds without it. {reason}");
            return ExitCode::FAILURE;
        }
    };
    println!("cargo::rustc-env=TWINWARD_EBPF={state}");
    ExitCode::SUCCESS
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Writes each file of [`BASELINE`] as raw DEFLATE, as `collect/baseline/built_in.rs` reads it.
fn compress() -> io::Result<()> {
    for entry in std::fs::read_dir(BASELINE)? {
        let entry = entry?;
        let mut name = entry.file_name();
        name.push(".deflate");
        let compressed = miniz_oxide::deflate::compress_to_vec(&std::fs::read(entry.path())?, LEVEL);
        std::fs::write(Path::new(&variable("OUT_DIR")).join(name), compressed)?;
    }
    Ok(())
}

fn build() -> Outcome {
    if !matches!(variable("TWINWARD_NO_EBPF").as_str(), "" | "0") {
        return Outcome::Without("TWINWARD_NO_EBPF");
    }
    // The ring is shared memory with positions of the kernel's own width.
    if variable("CARGO_CFG_TARGET_POINTER_WIDTH") != "64" || variable("CARGO_CFG_TARGET_ENDIAN") != "little" {
        return Outcome::Without("not for this processor");
    }
    let clang = match variable("TWINWARD_CLANG") {
        name if name.is_empty() => "clang".to_owned(),
        name => name,
    };
    // Cargo asks again at each build, until it is there: somebody may install clang, and no file of ours tells.
    let ask_again = || println!("cargo::rerun-if-changed={}", Path::new(&variable("OUT_DIR")).join("absent").display());
    let Ok(targets) = Command::new(&clang).arg("--print-targets").output() else {
        ask_again();
        return Outcome::Without("no clang");
    };
    if !String::from_utf8_lossy(&targets.stdout).contains("bpfel") {
        ask_again();
        return Outcome::Without("clang without the target bpfel");
    }
    let object = Path::new(&variable("OUT_DIR")).join("twinward.bpf.o");
    let arguments = ["-target", "bpfel", "-mcpu=v3", "-O2", "-Wall", "-Wextra", "-c", SOURCE, "-o"];
    match Command::new(&clang).args(arguments).arg(&object).output() {
        Ok(output) if output.status.success() => Outcome::Built,
        Ok(output) => Outcome::Failed(String::from_utf8_lossy(&output.stderr).replace('\n', " ")),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
