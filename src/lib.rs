//! twinward: an open on-device security micro-agent for Linux IoT hardware.
//!
//! The modules are floors of a house; a room uses rooms below it, never above or beside (`tests/layering.rs`):
//!
//! | floor | rooms |
//! |---|---|
//! | 5 | [`cli`] |
//! | 4 | [`control`], [`agent`] |
//! | 3 | [`collect`], [`pipeline`], [`spool`], [`hub`] |
//! | 2 | [`settings`] |
//! | 1 | [`sys`] |
//! | 0 | [`model`] |
//!
//! `docs/architecture.md` has the picture and the path of an event.

#![forbid(unsafe_code)]

pub mod agent;
pub mod cli;
pub mod collect;
pub mod control;
pub mod hub;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
pub mod pipeline;
pub mod settings;
pub mod spool;
pub mod sys;
