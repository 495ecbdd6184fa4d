//! Identifiers: of this agent, of each event, of each message.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random (version 4) id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Reads the 36-character hyphenated form; `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 36 {
                    return None;
                }
                Uuid::try_parse(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

guid! {
    /// Identifies this installation in each message (`AgentId`, schema `messageRoot`: exactly 36 characters).
    AgentId
}
guid! {
    /// Identifies one event (`Id`); stable over every repetition of its delivery.
    EventId
}
guid! {
    /// Identifies one message on the wire (system property `$.mid`); stable over every repetition of its delivery.
    MessageId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_guids_of_36_characters() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| EventId::random().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "version 4: {id}");
            assert!(b"89ab".contains(&id.as_bytes()[19]), "the variant of RFC 9562: {id}");
        }
        assert_eq!(AgentId::random().to_string().len(), 36);
    }

    #[test]
    fn only_the_hyphenated_form_is_read() {
        let id = EventId::random();
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(id.to_string().len(), 36);
        assert_eq!(EventId::parse(&id.to_string().replace('-', "")), None);
        assert_eq!(EventId::parse("3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9aZZ"), None);
    }
}
