//! The probes `sshd` and `pam`: how people get in.

use super::super::check::{PamProbe, PamRule};
use super::super::compare::Comparison;
use super::super::machine::{Cannot, Machine};
use super::super::verdict::{Verdict, clipped};
use crate::sys::pam as stacks;
use crate::sys::sshd_config;

pub(super) fn sshd(
    machine: &Machine,
    option: &str,
    compare: &Comparison,
    default: Option<&str>,
) -> Result<Verdict, Cannot> {
    let Some(options) = machine.sshd()? else {
        return Ok(Verdict::Beside("no SSH server is installed".to_owned()));
    };
    let what = format!("sshd's {option}");
    let judge = |value: Option<&str>, place: &str| {
        let value = value.map(|value| in_force(value, default));
        match value {
            Some(value) if compare.holds_with(value, sshd_config::seconds(value)) => Verdict::Holds,
            value => compare.judge(&format!("{what}{place}"), value),
        }
    };
    let plain = match options.value(option) {
        Some(value) => judge(Some(value), ""),
        None => judge(default, " (not set: its default)"),
    };
    let blocks = options.in_blocks(option);
    let blocks = blocks.into_iter().map(|setting| {
        let place = format!(" in the block Match {}", clipped(setting.block.as_deref().unwrap_or_default(), 60));
        judge(Some(&setting.value), &place)
    });
    Ok(Verdict::all(std::iter::once(plain).chain(blocks)))
}

/// An older word is the newer one; a list that begins with `-` only takes away from the default.
fn in_force<'a>(value: &'a str, default: Option<&'a str>) -> &'a str {
    match value {
        "without-password" => "prohibit-password",
        list if list.starts_with('-') => default.unwrap_or(""),
        other => other,
    }
}

pub(super) fn pam(machine: &Machine, probe: &PamProbe) -> Result<Verdict, Cannot> {
    let mut found = None;
    for service in &probe.services {
        if let Some(rules) = stacks::stack(machine.host, service, &probe.kind)? {
            found = Some((service, rules));
            break;
        }
    }
    let Some((service, rules)) = found else {
        return Ok(Verdict::Beside(format!("PAM has no {}", probe.services.join(", "))));
    };
    let what = format!("PAM's {service} ({})", probe.kind);
    Ok(match &probe.rule {
        PamRule::Closed => {
            let open = match (stacks::lets_in(&rules, true), stacks::lets_in(&rules, false)) {
                (true, _) => Some("a wrong password"),
                (false, true) => Some("a name that nobody has"),
                (false, false) => None,
            };
            Verdict::of(open.is_none(), || {
                format!("{what} can end in success with {}, expected a refusal", open.unwrap_or_default())
            })
        }
        PamRule::Forbids(module) => {
            let there = rules.iter().any(|rule| rule.module == **module);
            Verdict::of(!there, || format!("{what} has {module}, expected without it"))
        }
        PamRule::Requires { module, argument } => {
            let mut lines = rules.iter().filter(|rule| rule.module == **module).peekable();
            if lines.peek().is_none() {
                return Ok(Verdict::fails(format!("{what} has no {module}, expected it")));
            }
            let Some((name, compare)) = argument else { return Ok(Verdict::Holds) };
            let arguments: Vec<&str> = lines.flat_map(|rule| &rule.arguments).map(String::as_str).collect();
            let value = arguments.iter().find_map(|given| match given.split_once('=') {
                Some((key, value)) => (key == &**name).then_some(value),
                None => (*given == &**name).then_some(""),
            });
            let what = format!("the argument {name} of {module} in {what}");
            match compare {
                Some(compare) => compare.judge(&what, value),
                None => Verdict::of(value.is_some(), || format!("{what} is not set, expected to be")),
            }
        }
    })
}
