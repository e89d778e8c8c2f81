//! All integration tests are one binary, a module a subject: linking against the AWS SDK is slow.

mod disk;
mod ec2;
mod sandbox;
mod standin;
mod support;
