use proptest::prelude::*;

use super::*;

fn masked(arguments: &[&str]) -> String {
    Redactor::new([]).join(arguments.iter().copied(), false).text
}

#[test]
fn what_is_secret_is_masked_and_nothing_else() {
    for (arguments, expected) in [
        (&["app", "--password", "hunter 2", "-v"][..], "app --password *** -v"),
        (&["app", "--password=hunter 2", "-v"], "app --password=*** -v"),
        (&["app", "--password", "--verbose"], "app --password --verbose"),
        (&["app", "-token", "abc"], "app -token ***"),
        (&["env", "DB_PASS=x y", "PWD=/root", "run"], "env DB_PASS=*** PWD=/root run"),
        (&["git", "clone", "https://me:s3cr@t@host.example/x.git"], "git clone https://me:***@host.example/x.git"),
        (&["git", "clone", "ssh://git@host:22/x"], "git clone ssh://git@host:22/x"),
        (&["curl", "http://[::1]:8080/a:b@c"], "curl http://[::1]:8080/a:b@c"),
        (
            &["agent", "HostName=h.example;DeviceId=d;SharedAccessKeyName=n;SharedAccessKey=QUJD=="],
            "agent HostName=h.example;DeviceId=d;SharedAccessKeyName=n;SharedAccessKey=***",
        ),
        (
            &["x", "SharedAccessSignature sr=h%2Fdevices&sig=abc%3D&se=17"],
            "x SharedAccessSignature sr=h%2Fdevices&sig=***&se=17",
        ),
        (&["x", "https://a.example/c?sv=1&sig=abc&se=2"], "x https://a.example/c?sv=1&sig=***&se=2"),
        (&["curl", "-H", "Authorization: Bearer abc.def", "u"], "curl -H Authorization: Bearer *** u"),
        (&["curl", "-H", "Authorization: abc def", "u"], "curl -H Authorization: *** u"),
        (&["curl", "-H", "X-Api-Key: abc def", "u"], "curl -H X-Api-Key: *** u"),
        (&["curl", "-u", "root:toor", "-uroot:toor", "u"], "curl -u root:*** -uroot:*** u"),
        (&["curl", "-d", r#"{"user":"a","password":"b c","x":1}"#], r#"curl -d {"user":"a","password":***,"x":1}"#),
        (&["mysql", "-uroot", "-ptoor", "db"], "mysql -uroot -p*** db"),
        (&["openssl", "rsa", "-passin", "pass:hunter"], "openssl rsa -passin pass:***"),
        (&["sh", "-c", "mysql --password 'my secret' db; echo ok"], "sh -c mysql --password *** db; echo ok"),
        (&["sh", "-c", "export TOKEN=\"a b\" && run --pin 1234 x"], "sh -c export TOKEN=*** && run --pin *** x"),
        (&["x", "ghp_0123456789abcdefghij", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef"], "x *** ***"),
        (&["x", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"], "x ***"),
        (&["wpa_passphrase", "net", "hunter22"], "wpa_passphrase net ***"),
        (
            &["nmcli", "dev", "wifi", "connect", "net", "password", "hunter22"],
            "nmcli dev wifi connect net password ***",
        ),
        (
            &["ls", "-la", "/etc/passwd", "key=value", "a:b", "--key", "k.pem"],
            "ls -la /etc/passwd key=value a:b --key k.pem",
        ),
        (&["sh", "-c", "token=token=\"b c\" x"], "sh -c token=*** x"),
        (&["sh", "-c", "token=secret=a;pin=2 x"], "sh -c token=***;pin=*** x"),
        (&["app", "--password=mytoken", "-v"], "app --password=*** -v"),
        (&["app", "--db-password=AAAA-Pw", "-v"], "app --db-password=*** -v"),
        (&["--password"], "--password"),
        (&["app", "--password", ""], "app --password "),
        (&["app", "--password="], "app --password="),
    ] {
        assert_eq!(masked(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_url_that_was_cut_keeps_no_start_of_its_secret() {
    let line = Redactor::new([]).join(["git", "https://me:hunt"], true);
    assert_eq!((line.text.as_str(), line.masked), ("git https://me:***", 1));
}

#[test]
fn it_can_be_extended_and_switched_off() {
    let arguments = ["x", "--room-code", "7", "--password", "p"];
    assert_eq!(Redactor::new(["room_code"]).join(arguments, false).text, "x --room-code *** --password ***");
    assert_eq!(Redactor::off().join(arguments, false), Line { text: arguments.join(" "), masked: 0 });
}

proptest! {
    /// Whatever stands around it, the value of a secret option is not in the line.
    #[test]
    fn a_secret_value_never_shows(
        before in prop::collection::vec("[ -~]{0,12}", 0..4),
        after in prop::collection::vec("[ -~]{0,12}", 0..4),
        secret in "[A-Z]{12}[ -~]{0,8}",
        attached in any::<bool>(),
    ) {
        // An option before it would take it for its own value, and a value like that is masked too.
        let mut arguments: Vec<String> = vec!["app".into()];
        arguments.extend(before);
        if attached {
            arguments.push(format!("--db-password={secret}"));
        } else {
            arguments.extend(["--db-password".into(), secret.clone()]);
        }
        arguments.extend(after);
        let taken_before = arguments.iter().position(|a| a.starts_with("--db-password")).unwrap();
        prop_assume!(!Names::new([]).is_secret_option(&arguments[taken_before - 1]));
        let text = Redactor::new([]).join(arguments.iter().map(String::as_str), false).text;
        prop_assert!(!text.contains(&secret), "{text}");
    }

    /// Any text is survived, and with nothing masked it stays as it is.
    #[test]
    fn any_arguments_are_survived(arguments in prop::collection::vec("\\PC{0,40}", 0..8), cut in any::<bool>()) {
        let line = Redactor::new([]).join(arguments.iter().map(String::as_str), cut);
        if line.masked == 0 {
            prop_assert_eq!(line.text, arguments.join(" "));
        } else {
            prop_assert!(line.text.contains(MASK));
        }
    }
}
