//! What programs say about sign-ins in their own words: from the name of a program and its text to what is [`Said`].
//!
//! Names that somebody typed stand in the middle of these texts, so a text is read from the side that its program
//! wrote last, and what somebody typed can never stand where the outcome stands.

mod local;
mod pam;
mod ssh;

use super::sighting::{Said, Service};

/// The service that a program's name stands for, if it is one that lets people in.
#[must_use]
pub fn service(program: &str) -> Option<Service> {
    match program {
        "sshd" | "sshd-session" | "sshd-auth" => Some(Service::Ssh),
        "dropbear" => Some(Service::Dropbear),
        "login" | "remote" => Some(Service::Login),
        "su" | "su-l" => Some(Service::Su),
        "sudo" | "sudo-i" => Some(Service::Sudo),
        "gdm" | "gdm-password" | "gdm-autologin" | "gdm-session-worker" | "lightdm" | "lightdm-autologin" | "sddm"
        | "sddm-helper" | "sddm-autologin" | "greetd" | "xdm" | "xrdp-sesman" | "cockpit" | "cockpit-session" => {
            Some(Service::Desktop)
        }
        _ => None,
    }
}

/// What a text of a program says; `None` if nothing about a sign-in.
#[must_use]
pub fn read(program: &str, pid: Option<u32>, text: &str) -> Option<Said> {
    let service = service(program)?;
    let text = text.trim_end();
    let said = if text.starts_with("pam_") {
        pam::read(text)
    } else {
        match service {
            Service::Ssh => ssh::openssh(text),
            Service::Dropbear => ssh::dropbear(text),
            Service::Login => local::login(text),
            Service::Su => local::su(text),
            Service::Sudo => local::sudo(text),
            Service::Desktop | Service::Unknown => None,
        }
    }?;
    Some(Said { pid, ..said })
}

/// What stands between two marks: after the first `start`, before the last `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.rsplit_once(end).map(|(inside, _)| inside)
}
