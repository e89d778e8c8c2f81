//! The EC2 room: one AWS verb a file; the only room that names an AWS crate.
