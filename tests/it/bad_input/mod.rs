//! What is wrong is told once, clearly, with what to do; the exit status tells its kind; nothing is left.

mod ec2;
mod hosts;
mod recipes;
mod steps;
