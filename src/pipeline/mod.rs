//! Floor of `pipeline`; see docs/architecture.md.
