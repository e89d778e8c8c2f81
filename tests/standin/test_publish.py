"""Publishing at the stand-in, as boto3 sees it: copies, shares, deprecation, parameters."""

import datetime
import hashlib
import unittest

from .case import QUICK, Case
from .harness import eventually

ELSEWHERE = "eu-central-1"
KEY = "arn:aws:kms:{}:123456789012:key/0b1d0c2e-3f4a-5678-9abc-def012345678"


class Publishing(Case):
    def setUp(self):
        super().setUp()
        self.there = self.standin.client(region=ELSEWHERE)
        self.volume_id = self.volume()
        self.image = self.register(self.snapshot(self.volume_id), BootMode="uefi")
        self.ready(self.ec2, self.image)

    def ready(self, client, image):
        client.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=QUICK)
        return client.describe_images(ImageIds=[image])["Images"][0]

    def copied(self, **about):
        given = {"Name": "web-1", "SourceImageId": self.image, "SourceRegion": "eu-west-1", **about}
        return self.there.copy_image(**given)["ImageId"]

    def content(self, region: str, snapshot: str) -> str:
        snapshots = self.standin.control("GET", "state")["regions"][region]["snapshots"]
        file = next(each["File"] for each in snapshots if each["SnapshotId"] == snapshot)
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def test_a_copy_is_an_image_of_its_own(self):
        tags = [{"Key": "bakehouse:bake", "Value": "bake-1"}]
        marks = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
        asked = {"ClientToken": "once", "TagSpecifications": marks, "SnapshotCopyCompletionDurationMinutes": 30}
        copy = self.copied(**asked)
        self.assertEqual(self.copied(**asked), copy)
        self.refused("IdempotentParameterMismatch", self.copied, ClientToken="once")
        image = self.ready(self.there, copy)
        self.assertEqual((image["SourceImageId"], image["SourceImageRegion"]), (self.image, "eu-west-1"))
        self.assertEqual((image["BootMode"], image["Tags"]), ("uefi", tags))
        found = self.there.describe_images(Owners=["self"], Filters=[{"Name": "source-image-id", "Values": [self.image]}])
        self.assertEqual([each["ImageId"] for each in found["Images"]], [copy])
        snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.assertEqual(self.there.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"], tags)
        source = self.ec2.describe_images(ImageIds=[self.image])["Images"][0]
        source = source["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.assertNotEqual(source, snapshot)
        self.assertEqual(self.content("eu-west-1", source), self.content(ELSEWHERE, snapshot))
        self.ec2.deregister_image(ImageId=self.image, DeleteAssociatedSnapshots=True)
        self.assertEqual(self.ready(self.there, copy)["State"], "available")

    def test_copies_that_are_refused(self):
        refused = lambda code, **about: self.refused(code, self.copied, **about)
        refused("InvalidAMIID.NotFound", SourceImageId="ami-0123456789abcdef0")
        refused("InvalidParameterValue", SourceRegion="mars-north-1")
        refused("InvalidAMIName.Malformed", Name="a:b")
        refused("InvalidParameterDependency", KmsKeyId="alias/images")
        refused("InvalidParameterValue", KmsKeyId="images", Encrypted=True)
        refused("InvalidParameterValue", SnapshotCopyCompletionDurationMinutes=20)
        refused("InvalidParameterValue", SnapshotCopyCompletionDurationMinutes=2895)
        self.standin.control("POST", "latencies", {"image": 30})
        pending = self.register(self.snapshot(self.volume_id), Name="pending")
        refused("InvalidAMIID.Unavailable", SourceImageId=pending)
        self.copied()
        refused("InvalidAMIName.Duplicate")
        self.refused("AuthFailure", self.standin.client(region="mars-north-1").describe_images)

    def test_encryption(self):
        for number, (key, then) in enumerate([(KEY.format(ELSEWHERE), "available"), (KEY.format("us-east-1"), "failed")]):
            copy = self.copied(Encrypted=True, KmsKeyId=key, Name=f"web-{number}x")
            state = lambda: self.there.describe_images(ImageIds=[copy])["Images"][0]
            eventually(then, lambda: state()["State"] == then)
            ebs = state()["BlockDeviceMappings"][0]["Ebs"]
            self.assertTrue(ebs["Encrypted"])
            snapshot = self.there.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"][0]
            self.assertEqual(snapshot["KmsKeyId"], key)

    def test_shares(self):
        account = {"UserId": "210987654321"}
        unit = {"OrganizationalUnitArn": "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"}
        add = lambda *those: {"ImageId": self.image, "LaunchPermission": {"Add": list(those)}}
        self.ec2.modify_image_attribute(**add(account, unit))
        self.ec2.modify_image_attribute(**add(account))
        shared = lambda: self.ec2.describe_image_attribute(ImageId=self.image, Attribute="launchPermission")["LaunchPermissions"]
        self.assertEqual(shared(), [account, unit])
        self.refused("InvalidUserID.Malformed", self.ec2.modify_image_attribute, **add({"UserId": "x"}))
        self.refused("InvalidParameterValue", self.ec2.modify_image_attribute, **add({"OrganizationArn": "x"}))
        self.ec2.modify_image_attribute(**add({"Group": "all"}))
        self.assertTrue(self.ec2.describe_images(ImageIds=[self.image])["Images"][0]["Public"])
        self.ec2.modify_image_attribute(ImageId=self.image, LaunchPermission={"Remove": [{"Group": "all"}, unit]})
        self.assertEqual(shared(), [account])
        snapshot = self.ec2.describe_images(ImageIds=[self.image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": [account]})
        asked = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
        self.assertEqual(self.ec2.describe_snapshot_attribute(**asked)["CreateVolumePermissions"], [account])

    def test_what_is_encrypted_with_the_default_key_is_not_shared(self):
        copy = self.copied(Encrypted=True)
        image = self.ready(self.there, copy)
        add = {"Add": [{"UserId": "210987654321"}]}
        self.refused("InvalidParameter", self.there.modify_image_attribute, ImageId=copy, LaunchPermission=add)
        snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.refused("InvalidParameter", self.there.modify_snapshot_attribute, SnapshotId=snapshot, CreateVolumePermission=add)
        other = self.copied(Encrypted=True, KmsKeyId="alias/images", Name="web-2")
        self.ready(self.there, other)
        self.there.modify_image_attribute(ImageId=other, LaunchPermission=add)
        everyone = {"Add": [{"Group": "all"}]}
        self.refused("InvalidParameter", self.there.modify_image_attribute, ImageId=other, LaunchPermission=everyone)

    def test_deprecation_and_protection(self):
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=90, seconds=1)
        self.ec2.enable_image_deprecation(ImageId=self.image, DeprecateAt=soon)
        at = lambda: self.ec2.describe_images(ImageIds=[self.image])["Images"][0]["DeprecationTime"]
        self.assertTrue(at().endswith(":00.000Z"), at())
        for days in (-1, 3653):
            when = soon + datetime.timedelta(days=days - 90)
            self.refused("InvalidParameterValue", self.ec2.enable_image_deprecation, ImageId=self.image, DeprecateAt=when)
        self.ec2.enable_image_deregistration_protection(ImageId=self.image, WithCooldown=True)
        image = self.ec2.describe_images(ImageIds=[self.image])["Images"][0]
        self.assertEqual(image["DeregistrationProtection"], "enabled-with-cooldown")
        self.refused("OperationNotPermitted", self.ec2.deregister_image, ImageId=self.image)
        self.ec2.disable_image_deregistration_protection(ImageId=self.image)
        self.refused("OperationNotPermitted", self.ec2.deregister_image, ImageId=self.image)

    def test_parameters(self):
        ssm = self.standin.client("ssm")
        name, put = "/images/web/latest", ssm.put_parameter
        new = {"Name": name, "Value": self.image, "Type": "String", "DataType": "aws:ec2:image"}
        tags = [{"Key": "team", "Value": "web"}]
        self.refused("ParameterNotFound", ssm.get_parameter, Name=name)
        self.refused("ValidationException", put, Name=name, Value="x")
        self.refused("ValidationException", put, **new, Tags=tags, Overwrite=True)
        self.refused("ValidationException", put, **{**new, "Value": "latest"})
        self.refused("ValidationException", put, **{**new, "Name": "/aws/x"})
        self.assertEqual(put(**new, Tags=tags)["Version"], 1)
        self.refused("ParameterAlreadyExists", put, **new)
        self.assertEqual(put(**new, Overwrite=True)["Version"], 2)
        # One that is not there is found out later: the parameter stays as it was.
        put(**{**new, "Value": "ami-0123456789abcdef0"}, Overwrite=True)
        found = ssm.get_parameter(Name=name)["Parameter"]
        self.assertEqual((found["Value"], found["Version"], found["DataType"]), (self.image, 2, "aws:ec2:image"))
        ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=name, Tags=[{"Key": "bake", "Value": "1"}])
        listed = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        self.assertEqual({each["Key"] for each in listed}, {"team", "bake"})
        several = ssm.get_parameters(Names=[name, "/none"])
        self.assertEqual(([each["Name"] for each in several["Parameters"]], several["InvalidParameters"]), ([name], ["/none"]))
        far = self.standin.client("ssm", region=ELSEWHERE)
        self.refused("ParameterNotFound", far.get_parameter, Name=name)


if __name__ == "__main__":
    unittest.main()
