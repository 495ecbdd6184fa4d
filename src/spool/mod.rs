//! Floor of `spool`; see docs/architecture.md.
