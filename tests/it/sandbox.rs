//! The sandbox, on real namespaces, mounts, processes and sockets.

mod ending;
mod escape;
mod inside;
mod network;
mod program;
mod resolver;
mod roads;
