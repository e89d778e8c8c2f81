//! Crash safety, shown: whatever ends a bake, nothing of it remains or its image is whole.

mod builders;
mod faults;
mod given;
mod hooks;
mod kill;
mod lvm;
mod outside;
mod points;
mod publish;
mod resume;
mod running;
mod site;
mod table;
mod together;
mod unfinished;
mod units;
