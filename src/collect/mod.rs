//! Floor of `collect`; see docs/architecture.md.
