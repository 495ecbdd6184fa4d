//! Floor of `control`; see docs/architecture.md.
