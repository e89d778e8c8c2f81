//! Bakehouse bakes machine images without launching a machine.
//!
//! The story is in the types, and [`bake`] reads as it:
//! `Recipe → Plan → Disk → MountedRoot → ProvisionedRoot → ClosedDisk → Snapshot → Image`.
//!
//! Imports run one way: `cli → bake → the rest`. [`recipe`], [`provisioner`] and [`plan`] are ground: pure
//! values that every room may name. [`cloud`], [`disk`] and [`sandbox`] never import each other.

pub mod bake;
pub mod beneath;
pub mod broom;
pub mod cli;
pub mod cloud;
pub mod contents;
pub mod disk;
pub mod error;
pub mod folder;
pub mod foundation;
pub mod journal;
pub mod maker;
pub mod plan;
pub mod program;
pub mod provision;
pub mod provisioner;
pub mod prune;
pub mod recipe;
pub mod report;
pub mod sandbox;
pub mod stop;
pub mod sweep;
pub mod sys;
