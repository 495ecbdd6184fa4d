use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::keys::{self, KEYS};
use super::super::sample;
use super::*;
use crate::sys::files::write_atomic;

const SECRET: &str = "HostName=h.azure-devices.net;DeviceId=d;ModuleId=azureiotsecurity;SharedAccessKey=c2VjcmV0";

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(config: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.put("twinward.toml", config, 0o600);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_atomic(&path, content.as_ref(), mode).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let env: Vec<(String, String)> = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        load_layers(Some(&self.path("vendor.toml")), &self.path("twinward.toml"), env.into_iter())
    }

    /// The whole error text, with the directory of this test taken out.
    fn errors(&self, env: &[(&str, &str)]) -> String {
        self.load(env).unwrap_err().to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn an_empty_file_takes_every_default() {
    let settings = Place::new("").load(&[]).unwrap();
    assert!(settings.origins.is_empty() && settings.warnings.is_empty());
    let values: Vec<String> = settings.effective().into_iter().map(|e| format!("{}={}", e.key, e.value)).collect();
    insta::assert_snapshot!(values.join("\n"), @r#"
    identity.connection_string_file=/etc/twinward/connection-string
    identity.connection_string=
    hub.messages=open
    hub.transport=mqtt
    hub.port=8883
    hub.host=
    hub.ca_file=
    hub.direct_methods=true
    twin.object=ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration
    storage.directory=/var/lib/twinward
    storage.runtime_directory=
    storage.commit_interval=1m
    storage.min_free_bytes=64 MiB
    collect.process_source=auto
    collect.command_line_bytes=4 KiB
    collect.loopback_connections=false
    collect.redact_secrets=true
    collect.secret_names=
    collect.name_service=false
    log.level=info
    log.diagnostic_level=warn
    "#);
}

#[test]
fn the_sample_loads_as_it_is_and_with_every_line_switched_on() {
    let sample = sample::sample();
    let plain = Place::new("").load(&[]).unwrap().effective();
    assert_eq!(Place::new(&sample).load(&[]).unwrap().effective(), plain);

    let switched_on: String = sample
        .lines()
        .filter(|line| !line.contains("connection_string = "))
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    let settings = Place::new(&switched_on).load(&[]).unwrap();
    assert_eq!(settings.origins.len(), KEYS.len() - 1);
    for (given, default) in settings.effective().iter().zip(&plain) {
        let key = keys::find(given.key).unwrap();
        assert!(key.default.is_none() || given.value == default.value, "{}", given.key);
    }
}

#[test]
fn later_layers_win_key_by_key_and_are_remembered() {
    let place = Place::new("[hub]\nport = 2\nhost = \"main\"\n[log]\nlevel = \"warn\"\n");
    place.put("vendor.toml", "[hub]\nport = 1\nhost = \"vendor\"\nmessages = \"defender\"\n", 0o644);
    place.put("conf.d/20-b.toml", "[hub]\nport = 4\n", 0o644);
    place.put("conf.d/10-a.toml", "[hub]\nport = 3\nhost = \"drop-in\"\n", 0o644);
    place.put("conf.d/30-c.toml.off", "[hub]\nport = 9\n", 0o644);
    place.put("conf.d/.40-d.toml", "[hub]\nport = 9\n", 0o644);
    let settings = place.load(&[("TWINWARD_HUB__HOST", "10.0.0.1"), ("PATH", "/bin")]).unwrap();
    assert_eq!((settings.hub.port, settings.hub.host.as_deref()), (4, Some("10.0.0.1")));
    assert_eq!((settings.hub.messages, settings.log.level), (MessageMode::Defender, LogLevel::Warn));
    let origin = |key: &str| settings.origins.get(key).cloned();
    assert_eq!(origin("hub.port"), Some(Origin::File(place.path("conf.d/20-b.toml"))));
    assert_eq!(origin("hub.host"), Some(Origin::Environment("TWINWARD_HUB__HOST".to_owned())));
    assert_eq!(origin("hub.messages"), Some(Origin::File(place.path("vendor.toml"))));
    assert_eq!(origin("log.level"), Some(Origin::File(place.path("twinward.toml"))));
    assert_eq!(origin("hub.transport"), None);
    let port = place.load(&[("TWINWARD_HUB__PORT", "443")]).unwrap().hub.port;
    assert_eq!(port, 443);
}

#[test]
fn every_problem_of_every_layer_is_told_at_once() {
    let place = Place::new(concat!(
        "port = 1\n[hub]\nprot = 8883\nport = \"8883\"\nmessages = \"close\"\ntransport = \"websocket\"\n",
        "host = \"https://hub\"\nca_file = \"ca.pem\"\n[storrage]\ndirectory = \"/x\"\n[storage]\n",
        "commit_interval = 60\nmin_free_bytes = -1\nruntime_directory = true\n[colour]\nx = 1\n",
        "[collect]\nprocess_source = \"telepathy\"\n[identity]\nconnection_sting = \"x\"\n",
    ));
    place.put("conf.d/a.toml", "log = 5\nhub = { port = 70000, directory = \"/x\" }\n", 0o644);
    place.put("conf.d/b.toml", "[hub\nport = 1\n", 0o644);
    place.put("conf.d/c.toml", "[log]\nlevel = \"warn\"\nlevel = \"info\"\n", 0o644);
    place.put("conf.d/d.toml", "[log]\nlevel = \"loud\\u0007\"\n", 0o644);
    let env = [("TWINWARD_LOG", "debug"), ("TWINWARD_HUB__PROT", "1"), ("TWINWARD_STORAGE__COMMIT_INTERVAL", "2h")];
    insta::assert_snapshot!(place.errors(&env), @r#"
    DIR/twinward.toml:1: port: unknown key; did you mean hub.port?
    DIR/twinward.toml:3: hub.prot: unknown key; did you mean hub.port?
    DIR/twinward.toml:4: hub.port: is text, expected a port from 1 to 65535
    DIR/twinward.toml:5: hub.messages: "close" is not accepted, expected "open" or "defender"
    DIR/twinward.toml:6: hub.transport: "websocket" is not in this version, expected "mqtt"
    DIR/twinward.toml:7: hub.host: "https://hub" is not accepted, expected a host name or an IP address in quotes
    DIR/twinward.toml:8: hub.ca_file: "ca.pem" is not accepted, expected an absolute path such as "/etc/twinward/file"
    DIR/twinward.toml:9: storrage: unknown section; did you mean [storage]?
    DIR/twinward.toml:12: storage.commit_interval: is a number, expected a duration such as "60s" or "5m", from 1s to 1h
    DIR/twinward.toml:13: storage.min_free_bytes: -1 is not accepted, expected a number of bytes, or text such as "64 MiB", at most 1024 GiB
    DIR/twinward.toml:14: storage.runtime_directory: is a boolean, expected an absolute path such as "/etc/twinward/file"
    DIR/twinward.toml:15: colour: unknown section
    DIR/twinward.toml:18: collect.process_source: "telepathy" is not accepted, expected "auto" or "ebpf" or "audit" or "connector" or "fanotify" or "poll"
    DIR/twinward.toml:20: identity.connection_sting: unknown key; did you mean identity.connection_string?
    DIR/conf.d/a.toml:1: log: is a number, expected a section [log] with keys below it
    DIR/conf.d/a.toml:2: hub.directory: unknown key; did you mean storage.directory?
    DIR/conf.d/a.toml:2: hub.port: 70000 is not accepted, expected a port from 1 to 65535
    DIR/conf.d/b.toml:1: not TOML: unclosed table, expected `]`
    DIR/conf.d/c.toml:3: not TOML: duplicate key
    DIR/conf.d/d.toml:2: log.level: "loud\u{7}" is not accepted, expected "error" or "warn" or "info" or "debug" or "trace"
    environment TWINWARD_LOG: unknown variable; did you mean TWINWARD_LOG__LEVEL?
    environment TWINWARD_HUB__PROT: unknown variable; did you mean TWINWARD_HUB__PORT?
    environment TWINWARD_STORAGE__COMMIT_INTERVAL: storage.commit_interval: "2h" is not accepted, expected a duration such as "60s" or "5m", from 1s to 1h
    "#);
}

#[test]
fn no_more_problems_are_listed_than_a_person_reads() {
    let many: Vec<String> = (0..1000).map(|n| format!("k{n} = 1")).collect();
    let error = Place::new(&many.join("\n")).load(&[]).unwrap_err();
    assert_eq!(error.problems.len(), defaults::LOCAL_PROBLEM_LIMIT + 1);
    assert!(error.to_string().ends_with("900 more problems are not listed: mend these first"), "{error}");
}

#[test]
fn a_missing_file_says_what_to_do() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    insta::assert_snapshot!(place.errors(&[]), @"DIR/twinward.toml: does not exist; check the path given with --config");
    let step = next_step(Path::new(defaults::CONFIG_FILE));
    assert!(step.contains("twinward check --sample") && step.contains(defaults::CONNECTION_STRING_FILE), "{step}");
}

#[test]
fn what_is_no_configuration_file_is_refused_without_waiting() {
    let place = Place::new("");
    place.put("conf.d/a.toml", vec![b'#'; 1024 * 1024 + 1], 0o644);
    place.put("conf.d/b.toml", b"[hub]\nhost = \"\xff\"\n", 0o644);
    std::fs::create_dir(place.path("conf.d/c.toml")).unwrap();
    let fifo = place.path("conf.d/d.toml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink(place.path("nowhere"), place.path("conf.d/e.toml")).unwrap();
    insta::assert_snapshot!(place.errors(&[]), @r#"
    DIR/conf.d/a.toml: is larger than 1 MiB: not a configuration file
    DIR/conf.d/b.toml: is not UTF-8 text
    DIR/conf.d/c.toml: cannot be read: not a regular file
    DIR/conf.d/d.toml: cannot be read: not a regular file
    DIR/conf.d/e.toml: does not exist; remove what points to it
    "#);
}

#[test]
fn an_inline_secret_needs_a_private_file() {
    let text = format!("[identity]\nconnection_string = \"{SECRET}\"\n");
    let place = Place::new(&text);
    let settings = place.load(&[]).unwrap();
    let Identity::ConnectionString(secret) = &settings.identity else { panic!("{:?}", settings.identity) };
    assert_eq!(secret.expose_text(), Some(SECRET));
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].contains("0600"), "{:?}", settings.warnings);
    assert!(!format!("{settings:?}").contains("c2VjcmV0"));
    assert!(!format!("{:?}", settings.effective()).contains("c2VjcmV0"));
    for mode in [0o644, 0o640, 0o604, 0o660] {
        place.put("twinward.toml", &text, mode);
        let error = place.errors(&[]);
        assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600 DIR/twinward.toml"), "{error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
}

#[test]
fn a_secret_shows_in_no_problem() {
    let inline = SECRET;
    for text in [
        format!("[identity]\nconnection_string = [\"{inline}\"]\n"),
        format!("[identity]\nconnection_string = {{ x = \"{inline}\" }}\n"),
        format!("[identity]\nconnection_string = \"{inline}\\u0007\"\n"),
        format!("[identity]\nconnection_string = {inline}\n"),
        format!("[identity]\nconnection_string = \"{inline}\n"),
        format!("[identity]\nconnection_sting = \"{inline}\"\n"),
        format!("[identity]\nconnection_string_file = \"{inline}\"\n"),
        format!("identity = \"{inline}\"\n"),
        format!("[identity]\nconnection_string = \"{inline}\"\nconnection_string_file = \"/x\"\n"),
        format!("[identity]\nconnection_string = \"{inline}\"\n[hub]\nport = 0\n"),
    ] {
        let error = Place::new(&text).load(&[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error}");
    }
    for name in ["TWINWARD_IDENTITY__CONNECTIONSTRING", "TWINWARD_IDENTITY__CONNECTION_STRING_FILE"] {
        let error = Place::new("").load(&[(name, inline)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error}");
    }
}

#[test]
fn there_is_exactly_one_identity() {
    let place = Place::new("[identity]\nconnection_string_file = \"/a\"\n");
    let env = [("TWINWARD_IDENTITY__CONNECTION_STRING", SECRET)];
    insta::assert_snapshot!(place.errors(&env), @"environment TWINWARD_IDENTITY__CONNECTION_STRING: identity.connection_string: identity.connection_string_file is also set (DIR/twinward.toml): keep exactly one of the two");
    let file = |s: Settings| match s.identity {
        Identity::ConnectionStringFile(path) | Identity::Credential(path) => path,
        Identity::ConnectionString(_) => panic!("inline"),
    };
    assert_eq!(file(place.load(&[]).unwrap()), Path::new("/a"));

    let place = Place::new("");
    let credentials = place.path("credentials").display().to_string();
    let env = [("CREDENTIALS_DIRECTORY", credentials.as_str())];
    assert_eq!(file(place.load(&env).unwrap()), Path::new(defaults::CONNECTION_STRING_FILE));
    place.put("credentials/connection-string", SECRET, 0o600);
    let settings = place.load(&env).unwrap();
    let origin = Origin::Environment("CREDENTIALS_DIRECTORY".to_owned());
    assert_eq!(settings.origins.get(SECRET_FILE_KEY), Some(&origin));
    assert!(matches!(settings.identity, Identity::Credential(_)));
    assert_eq!(file(settings), place.path("credentials/connection-string"));
    let settings = Place::new("").load(&[("TWINWARD_IDENTITY__CONNECTION_STRING", SECRET)]).unwrap();
    assert!(settings.warnings[0].contains("TWINWARD_IDENTITY__CONNECTION_STRING"), "{:?}", settings.warnings);
}

#[test]
fn systemd_names_the_runtime_directory_unless_the_file_does() {
    let runtime = |text: &str, env: &[(&str, &str)]| Place::new(text).load(env).unwrap().storage.runtime_directory;
    assert_eq!(runtime("", &[]), None);
    assert_eq!(runtime("", &[("RUNTIME_DIRECTORY", "/run/a:/run/b")]), Some(PathBuf::from("/run/a")));
    let text = "[storage]\nruntime_directory = \"/run/c\"\n";
    assert_eq!(runtime(text, &[("RUNTIME_DIRECTORY", "/run/a")]), Some(PathBuf::from("/run/c")));
    let settings = Place::new("").load(&[("RUNTIME_DIRECTORY", "run")]).unwrap();
    assert_eq!(settings.storage.runtime_directory, None);
    assert_eq!(settings.warnings, ["RUNTIME_DIRECTORY is no absolute path and is ignored."]);
}

#[test]
fn numbers_are_taken_in_each_form_and_within_their_bounds() {
    let storage = |text: &str| Place::new(&format!("[storage]\n{text}\n")).load(&[]).map(|s| s.storage);
    for (text, bytes) in [("0", 0), ("1_000", 1000), ("0x10", 16), ("\"1 KiB\"", 1024), ("\"1 GiB\"", 1 << 30)] {
        assert_eq!(storage(&format!("min_free_bytes = {text}")).unwrap().min_free.as_u64(), bytes);
    }
    for text in ["1.0", "\"1 TB\"", "99999999999999999999", "\"99999999 GiB\"", "[1]"] {
        assert!(storage(&format!("min_free_bytes = {text}")).is_err(), "{text}");
    }
    for (text, seconds) in [("1s", 1), ("60m", 3600), ("1h", 3600)] {
        assert_eq!(storage(&format!("commit_interval = \"{text}\"")).unwrap().commit_interval.as_secs(), seconds);
    }
    for text in ["0s", "61m", "", "60", "PT1M"] {
        assert!(storage(&format!("commit_interval = \"{text}\"")).is_err(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_and_no_variable_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "(\\[(hub|log|identity|x)\\]\n)?((port|level|host|connection_string|\"\"|a\\.b) ?= ?([0-9]{1,25}|\"\\PC{0,9}\"|\\[|\\{|true)\n){0,4}",
        name in "TWINWARD_[A-Z_\\PC]{0,20}",
        value in "\\PC{0,20}",
    ) {
        let place = Place::new(&text);
        place.put("conf.d/x.toml", &bytes, 0o600);
        if let Err(error) = place.load(&[(&name, &value)]) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
