//! The local configuration and the places it names: the secret file, the state directory, the runtime directory.
//!
//! The doctor is mostly run by root, the agent by a user of its own. Owners are therefore judged for the agent's user.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, access, statfs, statvfs};

use crate::hub::connstr::ConnectionString;
use crate::model::secret::Secret;
use crate::settings::{Identity, Settings, Storage, load};
use crate::sys::files::SecretError;
use crate::sys::host::Host;

use super::super::users::{self, Users};
use super::finding::{Check, Finding};

/// The module id that the published service looks for.
const MODULE: &str = "azureiotsecurity";
/// `f_type` of a file system in memory (`linux/magic.h`).
const TMPFS: i64 = 0x0102_1994;

/// Loads the configuration; every problem is a finding.
pub(super) fn configuration(
    config: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> (Vec<Finding>, Option<Settings>) {
    match load::load(config, env) {
        Ok(settings) => {
            let set = settings.origins.len();
            let mut findings =
                vec![Finding::ok(Check::Configuration, format!("{}: {set} value(s) set", config.display()))];
            let warning = |w: &String| Finding::warning(Check::Configuration, w, "");
            findings.extend(settings.warnings.iter().map(warning));
            (findings, Some(settings))
        }
        Err(error) => {
            let advice = "mend it, then run: twinward check";
            let failed =
                |p: &crate::settings::error::LocalProblem| Finding::failed(Check::Configuration, p.to_string(), advice);
            (error.problems.iter().map(failed).collect(), None)
        }
    }
}

/// Whether the connection string can be read, and by nobody else.
pub(super) fn secret(identity: &Identity, users: Users) -> (Finding, Option<Secret>) {
    let path = match identity {
        Identity::ConnectionString(secret) => {
            let detail = "the connection string stands in the configuration itself";
            return (Finding::ok(Check::SecretFile, detail), Some(secret.clone()));
        }
        Identity::ConnectionStringFile(path) | Identity::Credential(path) => path,
    };
    match users.secret(identity) {
        Ok(secret) => {
            let detail = format!("{}: only its owner can read it", path.display());
            (Finding::ok(Check::SecretFile, detail), Some(secret))
        }
        Err(error) => (secret_fault(path, &error, users), None),
    }
}

fn secret_fault(path: &Path, error: &SecretError, users: Users) -> Finding {
    let file = path.display();
    let (detail, advice) = match error {
        SecretError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => (
            format!("{file} does not exist"),
            format!(
                "put the connection string of the device's module {MODULE} there: {}",
                users::put_command(&Host::system(), users.agent.unwrap_or(users.us), path)
            ),
        ),
        SecretError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => (
            format!("{file} cannot be read by uid {}", users.us),
            "run the doctor as root or as the agent's user; if it is that user, give it the file with chown".to_owned(),
        ),
        SecretError::Unreadable { source, .. } => {
            (format!("{file} cannot be read: {source}"), "make it a regular file that holds the string".to_owned())
        }
        SecretError::TooOpen { mode, .. } => {
            (format!("{file} has mode {mode:04o}: others could read the secret"), format!("run: chmod 600 {file}"))
        }
        SecretError::Foreign { owner, user, .. } => (
            format!("{file} belongs to uid {owner}, neither to root nor to the agent"),
            format!("run: chown {} {file}", users.agent.unwrap_or(*user)),
        ),
        SecretError::TooLarge { .. } => {
            (format!("{file} is larger than 64 KiB: not a secret"), "put only the connection string into it".to_owned())
        }
    };
    Finding::failed(Check::SecretFile, detail, advice)
}

/// Who we are at the hub; never the key.
pub(super) fn identity(secret: &Secret) -> (Finding, Option<ConnectionString>) {
    let parsed = match ConnectionString::parse(secret) {
        Ok(parsed) => parsed,
        Err(error) => {
            let advice = format!("copy the connection string of the device's module {MODULE} from the hub again");
            return (Finding::failed(Check::Identity, error.to_string(), advice), None);
        }
    };
    let mut detail = format!("device {}, module {}, hub {}", parsed.device_id, parsed.module_id, parsed.host_name);
    if let Some(gateway) = &parsed.gateway {
        detail.push_str(&format!(", through gateway {gateway}"));
    }
    let finding = if parsed.module_id == MODULE {
        Finding::ok(Check::Identity, detail)
    } else {
        let advice = format!("the published service looks for a module named {MODULE}; use that one if you need it");
        Finding::warning(Check::Identity, detail, advice)
    };
    (finding, Some(parsed))
}

/// Whether state can be kept.
pub(super) fn state_directory(storage: &Storage, users: Users) -> Finding {
    directory(Check::StateDirectory, &storage.directory, users, |path| {
        let space = statvfs(path).ok()?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let wanted = storage.min_free.as_u64();
        (free < wanted).then(|| {
            Finding::warning(
                Check::StateDirectory,
                format!("{}: {free} bytes are free, less than storage.min_free_bytes = {wanted}", path.display()),
                "free some space: until then nothing is stored here, and what does not fit elsewhere is dropped",
            )
        })
    })
}

/// Whether the crash-proof queue costs no flash.
pub(super) fn runtime_directory(storage: &Storage, users: Users) -> Finding {
    let Some(path) = &storage.runtime_directory else {
        let detail = "not set here: the agent takes RuntimeDirectory= of its unit, else the state directory";
        return Finding::ok(Check::RuntimeDirectory, detail);
    };
    directory(Check::RuntimeDirectory, path, users, |path| {
        #[expect(clippy::useless_conversion, reason = "the type of f_type differs between architectures")]
        let kind = i64::try_from(statfs(path).ok()?.f_type).ok()?;
        (kind != TMPFS).then(|| {
            Finding::warning(
                Check::RuntimeDirectory,
                format!("{} is not on a tmpfs: each batch is written to the disk", path.display()),
                "choose a directory below /run in storage.runtime_directory, to spare the flash",
            )
        })
    })
}

fn directory(check: Check, path: &Path, users: Users, more: impl Fn(&Path) -> Option<Finding>) -> Finding {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(check, path, users),
        Err(error) => {
            let advice = "run the doctor as root or as the agent's user";
            return Finding::failed(check, format!("{}: {error}", path.display()), advice);
        }
    };
    fault(check, path, &meta, users).or_else(|| more(path)).unwrap_or_else(|| {
        let bits = meta.permissions().mode() & 0o7777;
        Finding::ok(check, format!("{}: writable, mode {bits:04o}, owner uid {}", path.display(), meta.uid()))
    })
}

/// What is wrong with a directory that is there.
fn fault(check: Check, path: &Path, meta: &Metadata, users: Users) -> Option<Finding> {
    let (place, mode, owner) = (path.display(), meta.permissions().mode() & 0o7777, meta.uid());
    if !meta.is_dir() {
        return Some(Finding::failed(check, format!("{place} is no directory"), "move it away, or name another one"));
    }
    if owner != users.us && !users.is_root() {
        return Some(Finding::warning(
            check,
            format!("{place} belongs to uid {owner}; uid {} cannot judge it", users.us),
            "run the doctor as root or as that user",
        ));
    }
    if let Err(error) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
        let detail = format!("{place} is not writable: {error}");
        return Some(Finding::failed(check, detail, "give it to the agent's user, on a file system that is writable"));
    }
    (mode & 0o077 != 0).then(|| {
        if mode & 0o002 != 0 {
            // Shared places such as /dev/shm have to stay as they are.
            let detail = format!("{place} has mode {mode:04o}: others can write into it");
            return Finding::warning(check, detail, "name a directory that is the agent's own");
        }
        let detail = format!("{place} has mode {mode:04o}: others can look into it");
        Finding::warning(check, detail, format!("run: chmod 700 {place}"))
    })
}

fn absent(check: Check, path: &Path, users: Users) -> Finding {
    let place = path.display();
    let above = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
    match access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok(check, format!("{place} does not exist yet; it is made at the first start")),
        Err(error) => Finding::failed(
            check,
            format!("{place} does not exist, and uid {} cannot make it: {}: {error}", users.us, above.display()),
            format!("run as root: install -d -m 700 -o USER {place} (the unit's StateDirectory= does it by itself)"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::finding::Verdict;
    use super::*;
    use crate::model::units::ByteSize;
    use crate::sys::files;

    const STRING: &str = "HostName=h.azure-devices.net;DeviceId=d;ModuleId=azureiotsecurity;SharedAccessKey=c2VjcmV0";

    fn us() -> Users {
        Users { us: rustix::process::geteuid().as_raw(), agent: None }
    }

    fn file(dir: &TempDir, content: &str, mode: u32) -> PathBuf {
        let path = dir.path().join("connection-string");
        files::write_atomic(&path, content.as_bytes(), 0o600).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn storage(dir: &Path) -> Storage {
        Storage {
            directory: dir.to_owned(),
            runtime_directory: None,
            commit_interval: std::time::Duration::from_secs(60),
            min_free: ByteSize::bytes(1),
        }
    }

    #[test]
    fn a_bad_configuration_gives_a_finding_for_each_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("twinward.toml");
        files::write_atomic(&path, b"[hub]\nprot = 1\nport = \"x\"\n", 0o600).unwrap();
        let (findings, settings) = configuration(&path, std::iter::empty());
        assert!(settings.is_none());
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|f| f.result == Verdict::Failed && f.advice.contains("twinward check")));
        assert!(findings[0].detail.contains("hub.port"), "{findings:?}");
    }

    #[test]
    fn a_secret_file_is_judged_and_its_content_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let look = |path: &Path| secret(&Identity::ConnectionStringFile(path.to_owned()), us());
        let (finding, read) = look(&file(&dir, STRING, 0o600));
        assert_eq!(finding.result, Verdict::Ok);
        let (who, parsed) = identity(&read.unwrap());
        assert_eq!(who.detail, "device d, module azureiotsecurity, hub h.azure-devices.net");
        assert!(parsed.is_some());

        let path = file(&dir, STRING, 0o644);
        let (finding, read) = look(&path);
        assert_eq!((finding.result, finding.advice), (Verdict::Failed, format!("run: chmod 600 {}", path.display())));
        assert!(read.is_none());

        let (finding, _) = look(&dir.path().join("absent"));
        assert!(finding.result == Verdict::Failed && finding.advice.contains("install -m 600"), "{finding:?}");
        let (finding, _) = look(dir.path());
        assert!(finding.result == Verdict::Failed && finding.detail.contains("not a regular file"), "{finding:?}");

        for text in ["HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0", "c2VjcmV0"] {
            let (finding, parsed) = identity(&Secret::new(text.as_bytes().to_vec()));
            assert!(parsed.is_none() && finding.result == Verdict::Failed);
            assert!(!finding.text().contains("c2VjcmV0"), "{finding:?}");
        }
    }

    #[test]
    fn the_agents_own_file_is_right_when_root_looks() {
        let foreign = SecretError::Foreign { path: "/x".into(), owner: 998, user: 7 };
        let finding = secret_fault(Path::new("/x"), &foreign, Users { us: 0, agent: Some(7) });
        assert_eq!(finding.advice, "run: chown 7 /x");
    }

    #[test]
    fn another_module_is_a_warning() {
        let text = STRING.replace("azureiotsecurity", "other");
        let (finding, parsed) = identity(&Secret::new(text.into_bytes()));
        assert!(finding.result == Verdict::Warning && parsed.is_some(), "{finding:?}");
    }

    #[test]
    fn directories_are_judged() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let mut place = storage(dir.path());
        assert_eq!(state_directory(&place, us()).result, Verdict::Ok);
        place.min_free = ByteSize::bytes(u64::MAX);
        assert!(state_directory(&place, us()).detail.contains("storage.min_free_bytes"));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(state_directory(&place, us()).advice.contains("chmod 700"));

        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(state_directory(&place, us()).advice.contains("the agent's own"));

        let other = Users { us: us().us + 1, agent: None };
        assert!(state_directory(&place, other).detail.contains("cannot judge"));
        assert!(state_directory(&storage(&dir.path().join("new")), us()).detail.contains("does not exist yet"));
        assert!(state_directory(&storage(&file(&dir, "x", 0o600)), us()).detail.contains("is no directory"));
        assert_eq!(state_directory(&storage(&file(&dir, "x", 0o600).join("below")), us()).result, Verdict::Failed);
    }

    #[test]
    fn a_runtime_directory_is_optional() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(runtime_directory(&storage(dir.path()), us()).result, Verdict::Ok);
        // /proc is surely no tmpfs, and nobody can write there.
        let place = Storage { runtime_directory: Some("/proc".into()), ..storage(dir.path()) };
        assert_ne!(runtime_directory(&place, us()).result, Verdict::Ok);
    }
}
