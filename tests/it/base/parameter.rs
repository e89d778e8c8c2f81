//! By SSM parameter: of a vendor, of one's own, of another account.

use super::*;

const VENDOR: &str = "136693071363";

#[test]
fn a_parameter_is_read_by_name_version_label_and_arn() {
    let Some(builder) = builder() else { return };
    let (standin, disk) = (&builder.standin, builder.disk.path());
    let (first, _) = standin.seed(disk, json!({"name": "first"}));
    let (vendors, _) = standin.seed(disk, json!({"name": "debian-12", "owner": VENDOR}));
    let own = "/images/web/x86_64/latest";
    standin.parameter_of(own, json!({"value": first, "labels": ["prod"]}));
    standin.parameter(own, &builder.ami);
    standin.parameter("/aws/service/debian/release/12/latest/amd64", &vendors);
    standin.parameter_of("/shared/web", json!({"value": vendors, "account": VENDOR}));
    let ecs = json!({"schema_version": 1, "image_name": "ecs", "image_id": first, "os": "Amazon Linux 2"});
    standin.parameter("/aws/service/ecs/optimized-ami/amazon-linux-2/recommended", &ecs.to_string());
    let arn = |account: &str, name: &str| format!("arn:aws:ssm:eu-west-1:{account}:parameter{name}");
    for (parameter, wanted) in [
        (own.to_owned(), &builder.ami),
        (format!("{own}:1"), &first),
        (format!("{own}:prod"), &first),
        (arn("123456789012", own), &builder.ami),
        (arn(VENDOR, "/shared/web"), &vendors),
        ("/aws/service/debian/release/12/latest/amd64".to_owned(), &vendors),
        ("/aws/service/ecs/optimized-ami/amazon-linux-2/recommended".to_owned(), &first),
    ] {
        let plan = self::plan(&builder, &format!("parameter = \"{parameter}\""), &[]);
        assert_eq!(plan["base"]["image"], *wanted, "{parameter}: {plan:#}");
        assert_eq!(plan["base"]["notes"][0], format!("the SSM parameter {parameter} says {wanted}"));
        assert_eq!(
            last(&builder, "GetParameter")["Name"],
            parameter,
            "one call, by the name as it was written"
        );
    }
    assert!(last(&builder, "GetParameter")["WithDecryption"].is_null(), "no secret is asked for");
    let plan = self::plan(&builder, "image = \"x\"", &["--base", &arn(VENDOR, "/shared/web")]);
    assert_eq!(plan["base"]["image"], vendors);
}

#[test]
fn a_parameter_that_holds_no_image_is_told_without_its_value() {
    let Some(builder) = builder() else { return };
    let standin = &builder.standin;
    standin.parameter("/word", "hunter2");
    standin.parameter("/json", "{\"image\": \"hunter2\"}");
    standin.parameter_of("/secret", json!({"value": "hunter2", "type": "SecureString"}));
    standin.parameter_of("/list", json!({"value": "hunter2,b", "type": "StringList"}));
    standin.parameter("/gone", "ami-0123456789abcdef0");
    for (parameter, words) in [
        ("/word", &["/word holds no AMI id, but a text of 7 characters", "image_id"][..]),
        ("/json", &["/json holds no AMI id, but JSON without an `image_id`"]),
        ("/secret", &["/secret holds no AMI id, but a secret"]),
        ("/list", &["/list holds no AMI id, but a list"]),
        ("/gone", &["using the image of the SSM parameter /gone", "ami-0123456789abcdef0"]),
        ("/none", &["reading the SSM parameter /none", "ParameterNotFound", "by its ARN"]),
        (
            "/word:7",
            &["reading the SSM parameter /word:7", "ParameterVersionNotFound", "get-parameter-history"],
        ),
        (
            "arn:aws:ssm:us-east-1:123456789012:parameter/word",
            &["is in us-east-1, but the Region in use is eu-west-1"],
        ),
    ] {
        let ran = builder.bakery.bake(&recipe(&format!("parameter = \"{parameter}\"")), &[]);
        let ran = ran.refused(5, words);
        assert!(!ran.err.contains("hunter2"), "{}", ran.told());
    }
    let ran = builder.bakery.bake(&recipe("parameter = \"/a b\""), &[]);
    ran.refused(3, &["`parameter` must be the name of an SSM parameter"]);
    assert_eq!(standin.state()["volumes"], json!([]));
}
