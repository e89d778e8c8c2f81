//! The stand-in for EC2 is honest: boto3 and the Rust SDK find it to be EC2, and nothing of it stays.

use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::VolumeType;
use serde_json::json;

use crate::support::standin::{ACCOUNT, INSTANCE, Options, REGION, Standin, ZONE, python};
use crate::support::{not_root, skipped};

/// Runs one of `tests/standin/test_*.py`, which start stand-ins of their own.
fn passes(module: &str) {
    if skipped(not_root()) {
        return;
    }
    let output = Command::new(python())
        .args(["-W", "ignore", "-m", "unittest", "-v", module])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn boto3_finds_it_honest() {
    passes("standin.test_honesty");
}

#[test]
fn its_devices_are_real_and_go() {
    passes("standin.test_devices");
}

#[test]
fn what_refers_to_images_is_told_as_aws_tells_it() {
    passes("standin.test_users");
}

#[test]
fn its_objects_are_those_of_s3() {
    passes("standin.test_s3");
}

#[test]
fn it_refuses_what_ec2_refuses() {
    passes("standin.test_refusals");
}

#[test]
fn publishing_is_as_boto3_expects_it() {
    passes("standin.test_publish");
}

/// The SDK that bakes use, with the credentials that [`Standin::env`] gives to a child.
fn client(standin: &Standin) -> Client {
    let env: std::collections::BTreeMap<_, _> = standin.env().into_iter().collect();
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&env["AWS_ENDPOINT_URL"])
        .region(Region::new(env["AWS_REGION"].clone()))
        .credentials_provider(Credentials::new(
            &env["AWS_ACCESS_KEY_ID"],
            &env["AWS_SECRET_ACCESS_KEY"],
            None,
            None,
            "test",
        ))
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

#[tokio::test]
async fn the_rust_sdk_bakes_against_it() {
    if skipped(not_root()) {
        return;
    }
    let standin = Standin::start(&Options::default());
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("base.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let (base, snapshot) = standin.seed(&disk, json!({"name": "debian-12-amd64-1", "owner": "136693071363"}));
    let ec2 = client(&standin);

    let found = ec2.describe_images().owners("136693071363").send().await.unwrap();
    assert_eq!(found.images()[0].image_id(), Some(base.as_str()));
    let request = || {
        ec2.create_volume()
            .availability_zone(ZONE)
            .snapshot_id(&snapshot)
            .volume_type(VolumeType::Gp3)
            .client_token("bake-1")
    };
    // A lost reply: the volume is there, and asking again with the same token gives the same one.
    standin.fault(json!({"action": "CreateVolume", "kind": "reset", "when": "after"}));
    request().send().await.unwrap_err();
    let volume = request().send().await.unwrap().volume_id.unwrap();
    standin.until("available", |state| state["volumes"][0]["State"] == "available");
    assert_eq!(standin.state()["volumes"].as_array().unwrap().len(), 1);

    standin.fault(json!({"action": "AttachVolume", "kind": "stuck"}));
    ec2.attach_volume().volume_id(&volume).instance_id(INSTANCE).device("/dev/sdf").send().await.unwrap();
    let shown = standin.find("volumes", "VolumeId", &volume).unwrap();
    assert_eq!(shown["Attachments"][0]["State"], "attaching");
    standin.unstick();
    let state =
        standin.until("attached", |state| state["volumes"][0]["Attachments"][0]["State"] == "attached");
    let link = state["volumes"][0]["Link"].as_str().unwrap().to_owned();
    assert!(std::fs::canonicalize(&link).unwrap().starts_with("/dev/"), "{link}");
    standin.stop();
    assert!(std::fs::symlink_metadata(&link).is_err(), "{link} is left");
}

#[tokio::test]
async fn faults_hold_and_refuse() {
    if skipped(not_root()) {
        return;
    }
    let standin =
        Standin::start(&Options { xen: true, arch: Some("arm64".to_owned()), ..Options::default() });
    let ec2 = client(&standin);
    standin.fault(json!({"action": "DescribeRegions", "kind": "throttle", "times": 0}));
    let refused = ec2.describe_regions().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("RequestLimitExceeded"));
    standin.clear_faults();
    ec2.describe_regions().send().await.unwrap();

    standin.clear_requests();
    standin.fault(json!({"action": "CreateVolume", "kind": "hold"}));
    let call = tokio::spawn(ec2.create_volume().availability_zone(ZONE).size(1).send());
    let (standin, held) = blocking(standin, |standin| standin.held(Duration::from_secs(120))).await;
    assert_eq!(held[0]["action"], "CreateVolume");
    assert_eq!(standin.requests_of("CreateVolume", 1, Duration::ZERO)[0]["done"], false);
    standin.release(true);
    call.await.unwrap().unwrap_err();
    assert_eq!(standin.state()["volumes"], json!([]));

    standin.consistency(60.0);
    standin.latencies(json!({"create-volume": 0}));
    let volume = ec2.create_volume().availability_zone(ZONE).size(1).send().await.unwrap().volume_id.unwrap();
    let unknown = ec2.describe_volumes().volume_ids(&volume).send().await.unwrap_err();
    assert_eq!(unknown.code(), Some("InvalidVolume.NotFound"));
    assert_eq!(standin.counts(), [("CreateVolume".to_owned(), 2), ("DescribeVolumes".to_owned(), 1)].into());
    standin.parameter("/images/web", "ami-0123456789abcdef0");
}

/// Instance, account, Region and credentials by way of the metadata service.
#[tokio::test]
async fn the_metadata_tells_who_the_builder_is() {
    if skipped(not_root()) {
        return;
    }
    let standin = Standin::start(&Options::default());
    let endpoint = standin.env_of_instance()[1].1.clone();
    let config = aws_config::provider_config::ProviderConfig::without_region()
        .with_http_client(aws_smithy_http_client::Builder::new().build_http());
    let metadata = aws_config::imds::Client::builder().configure(&config).endpoint(endpoint).unwrap().build();
    let identity = metadata.get("/latest/dynamic/instance-identity/document").await.unwrap();
    let identity: serde_json::Value = serde_json::from_str(identity.as_ref()).unwrap();
    assert_eq!(
        (&identity["region"], &identity["instanceId"], &identity["accountId"], &identity["availabilityZone"]),
        (&json!(REGION), &json!(INSTANCE), &json!(ACCOUNT), &json!(ZONE))
    );
    assert!(standin.requests().iter().all(|each| each["service"] == "imds"));
}

/// Asks the stand-in something that waits, without holding up the test's own clients.
async fn blocking<T: Send + 'static>(
    standin: Standin,
    ask: impl FnOnce(&Standin) -> T + Send + 'static,
) -> (Standin, T) {
    tokio::task::spawn_blocking(move || {
        let answer = ask(&standin);
        (standin, answer)
    })
    .await
    .unwrap()
}
