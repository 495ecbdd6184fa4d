//! Floor of `agent`; see docs/architecture.md.
