//! Which `qanat` is tried.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

/// Only one test of a process builds.
static BUILDING: Mutex<()> = Mutex::new(());

/// The given binary, else the one `QANAT_BIN` names, else the one of this build; it is built if it is not
/// there yet.
///
/// # Errors
/// If there is none and it cannot be built.
pub fn locate(given: Option<&Path>) -> Result<PathBuf> {
    let named = given.map(Path::to_owned).or_else(|| std::env::var_os("QANAT_BIN").map(PathBuf::from));
    if let Some(binary) = named {
        return binary.canonicalize().with_context(|| format!("no binary at {}", binary.display()));
    }
    let own = std::env::current_exe().context("find this program's own place")?;
    // Tests lie in `<profile>/deps`, binaries in `<profile>`.
    let mut profile = own.parent().context("this program has no folder")?;
    if profile.file_name().is_some_and(|name| name == "deps") {
        profile = profile.parent().context("`deps` has no folder")?;
    }
    let binary = profile.join("qanat");
    let _one = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !binary.exists() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--package", "qanat", "--bin", "qanat"]);
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).env("CARGO_TARGET_DIR", target_of(profile)?);
        if profile.file_name().is_some_and(|name| name == "release") {
            cargo.arg("--release");
        }
        let status = cargo.status().context("start cargo")?;
        ensure!(status.success() && binary.exists(), "could not build {}", binary.display());
    }
    Ok(binary)
}

fn target_of(profile: &Path) -> Result<&Path> {
    profile.parent().context("the profile's folder has no folder")
}

/// A name for the binary of one trial's own: a build that replaces it in the meantime changes nothing.
///
/// # Errors
/// If it can be neither linked nor copied.
pub fn pin(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let pinned = folder.join(".qanat-binary");
    if !pinned.exists() && std::fs::hard_link(binary, &pinned).is_err() {
        std::fs::copy(binary, &pinned).with_context(|| format!("copy {}", binary.display()))?;
    }
    Ok(pinned)
}
