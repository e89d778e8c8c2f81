//! How an image is shaped: volumes, block devices, attributes, encryption, tags, and names that are taken.

pub mod attributes;
mod billing;
mod flags;
mod names;
mod names_meanwhile;
