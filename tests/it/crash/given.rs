//! The matrix of bakes on a disk of the user's own: whatever ends one, after the sweep that disk is there and free,
//! and nothing else is left.

use super::kill::{Ending, matrix_of};
use super::site::{On, Site};

#[test]
fn the_users_volume_outlives_a_kill_at_every_point() {
    matrix_of(&|| Site::on_given(On::Ec2), Ending::Kill, "ec2, the user's volume, kill -9 and gc");
}

#[test]
fn the_users_volume_outlives_a_stop_at_every_point() {
    matrix_of(&|| Site::on_given(On::Ec2), Ending::Term, "ec2, the user's volume, SIGTERM");
}

#[test]
fn the_users_file_outlives_a_kill_at_every_point() {
    matrix_of(&|| Site::on_given(On::Local), Ending::Kill, "local, the user's file, kill -9 and gc");
}
