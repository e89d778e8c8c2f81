//! All integration tests are one binary, a module a subject: linking against the AWS SDK is slow.

mod disk;
mod sandbox;
mod ec2;
mod standin;
mod support;
