//! How safe a level is.

/// How much a level must outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The process: nothing is synced.
    Process,
    /// The process, and the file stays whole over a power cut, perhaps without its last changes.
    Whole,
    /// A power cut: each commit is synced.
    Power,
}

impl Durability {
    /// The engine's word for it.
    pub(super) const fn pragma(self) -> &'static str {
        match self {
            Self::Process => "OFF",
            Self::Whole => "NORMAL",
            Self::Power => "FULL",
        }
    }
}
