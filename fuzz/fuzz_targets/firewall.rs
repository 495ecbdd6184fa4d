//! Listings of the firewall's rules; the first byte says of which tool. No listing panics or makes more items than are
//! sent, and nothing is refused or let through in a listing that does not say so.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::collect::firewall::{Listing, items_of};
use twinward::model::payload::{FirewallAction, Payload};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let listing = [Listing::NftJson, Listing::NftText, Listing::IptablesSave][usize::from(which % 3)];
    let Some((items, _)) = items_of(listing, bytes) else { return };
    assert!(items.len() <= 2000);
    // In JSON a letter may be written by its number.
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let written = listing == Listing::NftJson && text.contains("\\u");
    for item in items {
        let Payload::FirewallRule(rule) = item else { panic!("{item:?}") };
        assert!(rule.extra_details.contains_key("Rule") && rule.priority.is_some());
        let words: &[&str] = match rule.action {
            FirewallAction::Deny => &["drop", "reject"],
            // The policy of a chain that has none written.
            FirewallAction::Allow => &["accept", "hook"],
            FirewallAction::Other => continue,
        };
        assert!(written || words.iter().any(|word| text.contains(word)), "{rule:?}");
    }
});
