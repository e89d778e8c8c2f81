//! All integration tests are one binary, a module a subject: linking against the AWS SDK is slow.

mod bad_input;
mod bake;
mod bake_ec2;
mod base;
mod boot;
mod builder_host;
mod crash;
mod disk;
mod docs;
mod ec2;
mod enter;
mod hygiene;
mod iam;
mod identity;
mod layers;
mod local;
mod manual;
mod objects;
mod provision;
mod publish;
mod retire;
mod sandbox;
mod scratch;
mod shape;
mod standin;
mod support;
