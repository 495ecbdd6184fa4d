//! Floor of `hub`; see docs/architecture.md.
