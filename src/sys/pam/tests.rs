use std::fs::create_dir_all;

use proptest::prelude::*;

use super::*;
use crate::sys::files::write_atomic;

fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    create_dir_all(root.path().join("etc/pam.d")).unwrap();
    for (name, text) in files {
        write_atomic(&root.path().join("etc/pam.d").join(name), text.as_bytes(), 0o644).unwrap();
    }
    let host = Host::rooted(root.path());
    (root, host)
}

fn open(text: &str) -> (bool, bool) {
    let (_root, host) = machine(&[
        ("a", text),
        ("deny", "auth required pam_deny.so\n"),
        ("unix", "auth sufficient pam_unix.so nullok\n"),
        ("yes", "auth sufficient pam_permit.so\n"),
    ]);
    let rules = stack(&host, "a", "auth").unwrap().unwrap();
    (lets_in(&rules, true), lets_in(&rules, false))
}

#[test]
fn lines_are_read_with_what_they_include() {
    let (_root, host) = machine(&[
        ("sshd", "#%PAM-1.0\n@include common-auth\n-auth optional pam_x.so # no\naccount required pam_nologin.so\n"),
        (
            "common-auth",
            "auth [success=1 default=ignore] /lib/security/pam_unix.so nullok \\\n  try_first_pass\n\
             auth substack inner\nauth required pam_f.so [a b] deny=5\n",
        ),
        ("inner", "AUTH requisite pam_deny.so\nauth include ../../shadow\nauth include inner\n"),
    ]);
    let rules = stack(&host, "sshd", "auth").unwrap().unwrap();
    let modules: Vec<&str> = rules.iter().map(|r| r.module.as_str()).collect();
    assert_eq!(modules[..2], ["pam_unix.so", "pam_deny.so"]);
    assert_eq!(modules[modules.len() - 2..], ["pam_f.so", "pam_x.so"]);
    assert_eq!(rules[0].arguments, ["nullok", "try_first_pass"]);
    let unix =
        Control { success: Action::Jump(1), nothing: Action::Ignore, wrong: Action::Ignore, unknown: Action::Ignore };
    assert_eq!((rules[0].control, rules[1].level), (unix, 1));
    assert_eq!(rules[rules.len() - 2].arguments, ["a b", "deny=5"]);
    assert_eq!(stack(&host, "sshd", "account").unwrap().unwrap().len(), 1);
    assert_eq!(stack(&host, "none", "auth").unwrap(), None);
}

#[test]
fn usual_stacks_are_closed() {
    for text in [
        // Debian.
        "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n\
         auth optional pam_cap.so",
        // Debian with faillock.
        "auth required pam_faillock.so preauth\nauth [success=2 default=ignore] pam_unix.so\n\
         auth [default=die] pam_faillock.so authfail\nauth requisite pam_deny.so\nauth required pam_permit.so",
        "auth required pam_faillock.so preauth\nauth [success=1 default=ignore] pam_unix.so\n\
         auth [default=die] pam_faillock.so authfail\nauth required pam_faillock.so authsucc",
        // Fedora.
        "auth required pam_env.so\nauth required pam_faildelay.so\n\
         auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular\n\
         auth [default=1 ignore=ignore success=ok] pam_localuser.so\nauth sufficient pam_unix.so nullok\n\
         auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular\nauth sufficient pam_sss.so\n\
         auth required pam_deny.so",
        "auth required pam_unix.so",
        "auth substack unix\nauth required pam_deny.so",
        "auth sufficient pam_rootok.so\nauth required pam_unix.so",
        "auth required pam_unix.so\nauth required pam_permit.so",
        // Nothing that counts at all is no success.
        "auth sufficient pam_unix.so",
        "",
        "auth include deny\nauth sufficient pam_permit.so",
    ] {
        assert_eq!(open(text), (false, false), "{text}");
    }
}

#[test]
fn stacks_with_a_way_through_are_found() {
    for text in [
        "auth required pam_permit.so",
        "auth sufficient pam_permit.so\nauth required pam_unix.so",
        "auth sufficient pam_unix.so\nauth required pam_permit.so",
        "auth optional pam_unix.so\nauth include yes\nauth required pam_deny.so",
        "auth [success=1 default=ignore] pam_unix.so\nauth [success=1 default=ignore] pam_permit.so\n\
         auth requisite pam_deny.so\nauth required pam_permit.so",
        "auth substack yes\nauth optional pam_cap.so",
        "auth sufficient pam_succeed_if.so uid > 10\nauth required pam_deny.so",
        "auth [default=1] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so",
        "auth [default=bad success=ok] pam_unix.so\nauth [default=reset] pam_x.so\nauth required pam_permit.so",
    ] {
        assert_eq!(open(text), (true, true), "{text}");
    }
    // Only a name that nobody has.
    let text = "auth [success=done user_unknown=ignore default=die] pam_unix.so\nauth required pam_permit.so";
    assert_eq!(open(text), (false, true));
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(auth|[a-z@\\[\\]=# \n]| [a-z_]{1,8}|\\[success=[0-9]{1,20} default=[a-z]*\\]|\\\\\n){0,40}") {
        let _ = open(&text);
    }
}
