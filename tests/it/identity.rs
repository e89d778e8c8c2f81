//! Whose calls they are: profiles, roles, proxies, and what a refusal was about.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::authority::{self, Authority};
use crate::support::bakery::Bakery;
use crate::support::host::has;
use crate::support::standin::{Options, Standin};
use crate::support::web::Web;

const ROLE: &str = "arn:aws:iam::123456789012:role/baker";

/// A builder whose commands look at the stand-in's images.
fn builder() -> (Standin, Bakery) {
    let standin = Standin::start(&Options::default());
    let mut bakery = Bakery::on_ec2(&standin);
    bakery.set("BAKEHOUSE_CLOUD", Some("ec2"));
    (standin, bakery)
}

fn one(standin: &Standin, action: &str) -> Value {
    standin.requests_of(action, 1, Duration::ZERO).pop().unwrap_or_else(|| panic!("no {action}"))
}

#[test]
fn a_role_is_taken_on_with_external_id_and_session_tags() {
    let (standin, bakery) = builder();
    bakery
        .bakehouse(&[
            "images",
            "--assume-role",
            ROLE,
            "--external-id",
            "of-the-customer",
            "--session-tag",
            "team=web",
        ])
        .good();
    let asked = one(&standin, "AssumeRole");
    assert_eq!(asked["access_key"], "AKIASTANDIN000000001");
    let given = &asked["params"];
    assert_eq!(given["RoleArn"], ROLE);
    assert_eq!(given["ExternalId"], "of-the-customer");
    assert_eq!(given["Tags.1.Key"], "team");
    assert_eq!(given["Tags.1.Value"], "web");
    assert!(given["RoleSessionName"].as_str().unwrap().starts_with("bakehouse-"), "{given}");
    let images = one(&standin, "DescribeImages");
    assert!(images["access_key"].as_str().unwrap().starts_with("ASIA"), "{images}");
}

#[test]
fn a_role_that_is_refused_is_told() {
    let (standin, bakery) = builder();
    standin.fault(json!({"action": "AssumeRole", "kind": "denied", "times": 0}));
    bakery.bakehouse(&["images", "--assume-role", ROLE]).refused(6, &["credentials"]);
    bakery.bakehouse(&["images", "--external-id", "x"]).refused(2, &["without a role", "--assume-role"]);
}

#[test]
fn a_named_profile_is_used_before_the_environment() {
    let (standin, mut bakery) = builder();
    let credentials = bakery.put(
        "credentials",
        "[other]\naws_access_key_id = ASIASTANDIN000000002\naws_secret_access_key = standin-role-secret\n\
         aws_session_token = standin-role-token\n",
    );
    bakery.set("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str());
    bakery.bakehouse(&["images"]).good();
    assert_eq!(one(&standin, "DescribeImages")["access_key"], "AKIASTANDIN000000001");
    standin.clear_requests();
    bakery.bakehouse(&["images", "--profile", "other", "--region", "eu-west-1"]).good();
    assert_eq!(one(&standin, "DescribeImages")["access_key"], "ASIASTANDIN000000002");
    bakery.bakehouse(&["images", "--profile", "nobody"]).refused(6, &["nobody"]);

    // The same from the settings' file, with a role upon it.
    standin.clear_requests();
    bakery.put(
        "config/bakehouse/config.toml",
        format!("[aws]\nprofile = 'other'\n[aws.assume-role]\narn = '{ROLE}'\nsession-name = 'night'\n"),
    );
    bakery.bakehouse(&["images"]).good();
    let asked = one(&standin, "AssumeRole");
    assert_eq!(asked["access_key"], "ASIASTANDIN000000002");
    assert_eq!(asked["params"]["RoleSessionName"], "bakehouse-night");
}

#[test]
fn a_refusal_is_decoded_where_sts_allows() {
    let (standin, bakery) = builder();
    standin.fault(json!({"action": "DescribeImages", "kind": "denied", "times": 0}));
    let ran = bakery.bakehouse(&["images"]);
    assert!(!ran.told().contains("Encoded authorization failure"), "{}", ran.told());
    ran.refused(
        6,
        &["No policy allows it", "resource arn:aws:ec2:eu-west-1:123456789012:*/*", "ec2:DescribeImages"],
    );

    standin.fault(json!({"action": "DecodeAuthorizationMessage", "kind": "denied", "times": 0}));
    bakery.bakehouse(&["images"]).refused(6, &["allow sts:DecodeAuthorizationMessage", "ec2:DescribeImages"]);
}

/// Hears connections to a proxy, and answers that it will not: each request's first line.
pub fn proxy() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://user:hunter2@{}", listener.local_addr().unwrap());
    let (heard, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            // Whoever hung up needs no answer.
            drop(
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            );
            if heard.send(line).is_err() {
                return;
            }
        }
    });
    (address, lines)
}

#[test]
fn https_goes_through_the_proxy_and_the_metadata_service_never() {
    let (standin, mut bakery) = builder();
    let (address, lines) = proxy();
    bakery.set("HTTPS_PROXY", Some(&address));
    // Both are plain http here.
    bakery.bakehouse(&["images"]).good();
    assert!(lines.try_recv().is_err());
    assert!(standin.requests_of("DescribeImages", 1, Duration::ZERO).len() == 1);

    bakery.set("AWS_ENDPOINT_URL", Some("https://ec2.proxied.invalid"));
    bakery.set("BAKEHOUSE_DEADLINE_CALL", Some("1s"));
    let ran = bakery.bakehouse(&["images"]);
    assert!(!ran.err.contains("hunter2"), "{}", ran.told());
    ran.refused(7, &["proxy"]);
    let line = lines.recv_timeout(Duration::from_secs(120)).unwrap();
    assert_eq!(line.trim(), "CONNECT ec2.proxied.invalid:443 HTTP/1.1");
}

#[test]
fn a_server_is_believed_only_where_its_certificate_is_trusted() {
    if !has(&[authority::NEEDED]) {
        return;
    }
    let (_standin, mut bakery) = builder();
    let authority = Authority::new();
    let web = Web::secure(&bakery.path(""), &authority);
    bakery.set("AWS_ENDPOINT_URL", Some(web.url("ec2").as_str()));
    bakery.set("BAKEHOUSE_DEADLINE_CALL", Some("1s"));
    let ran = bakery.bakehouse(&["images"]).refused(7, &["certificate"]);
    assert_eq!(web.asked(), [""; 0], "nothing was sent: {}", ran.told());
    bakery.set("SSL_CERT_FILE", authority.certificate().to_str());
    let ran = bakery.bakehouse(&["images"]);
    assert!(!web.asked().is_empty(), "{}", ran.told());
}
