//! Settings by the SDK's standard chain: the environment of a process of its own, and the instance's role.

use std::process::Output;

use super::*;
use bakehouse::error::{Kind, failure_of, kind_of};

/// Runs one of the ignored tests below in a process with that environment and nothing else of AWS.
fn run(test: &str, env: &[(&'static str, String)]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().map(|(name, value)| (name, value))).env("HOME", home.path());
    command.output().unwrap()
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_instances_role_and_region_come_from_its_metadata() {
    if skipped(not_root()) {
        return;
    }
    let standin = Standin::start(&Options::default());
    assert_passed(&run("ec2::chain::inside_on_an_instance", &standin.env_of_instance()));
}

#[test]
fn keys_and_endpoint_come_from_the_environment() {
    if skipped(not_root()) {
        return;
    }
    let standin = Standin::start(&Options::default());
    assert_passed(&run("ec2::chain::inside_on_an_instance", &standin.env()));
    let mut env = standin.env();
    env.retain(|(name, _)| *name != "AWS_ENDPOINT_URL" && *name != "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    env.push(("AWS_ENDPOINT_URL_EC2", standin.endpoint.clone()));
    assert_passed(&run("ec2::chain::inside_off_ec2", &env));
}

#[test]
fn missing_credentials_and_region_are_told() {
    let region = ("AWS_REGION", "eu-west-1".to_owned());
    let nowhere = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned());
    assert_passed(&run("ec2::chain::inside_without_credentials", &[region, nowhere]));
    assert_passed(&run("ec2::chain::inside_without_region", &[]));
}

#[tokio::test]
#[ignore = "run by the tests above in a process of its own"]
async fn inside_on_an_instance() {
    let cloud = Ec2::connect(Settings::default()).await.unwrap();
    assert_eq!(cloud.region(), REGION);
    assert_eq!(cloud.place().await.unwrap().region, REGION);
    assert_eq!(cloud.images().await.unwrap(), []);
}

#[tokio::test]
#[ignore = "run by the tests above in a process of its own"]
async fn inside_off_ec2() {
    let cloud = Ec2::connect(Settings { metadata: false, ..Settings::default() }).await.unwrap();
    assert_eq!(cloud.images().await.unwrap(), []);
    let error = cloud.place().await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Host);
    assert!(text(&error).contains("not on an EC2 instance"), "{error:#}");
}

#[tokio::test]
#[ignore = "run by the tests above in a process of its own"]
async fn inside_without_credentials() {
    let cloud = Ec2::connect(Settings { metadata: false, ..Settings::default() }).await.unwrap();
    let error = cloud.images().await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Access, "{error:#}");
    assert!(failure_of(&error).unwrap().hint.as_deref().unwrap().contains("AWS_PROFILE"), "{error:#}");
}

#[tokio::test]
#[ignore = "run by the tests above in a process of its own"]
async fn inside_without_region() {
    let error = Ec2::connect(Settings { metadata: false, ..Settings::default() }).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Host, "{error:#}");
    assert!(failure_of(&error).unwrap().hint.as_deref().unwrap().contains("AWS_REGION"), "{error:#}");
}
