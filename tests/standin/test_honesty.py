"""Shows that boto3's own client, parsers and waiters find the stand-in to be EC2."""

import os
import urllib.error
import urllib.request

from .case import DEBIAN, QUICK, Case
from .harness import INSTANCE, ZONE


class WholeBake(Case):
    def test_bake(self):
        ec2 = self.ec2
        base = self.base(tags={"release": "12"}, boot_mode="uefi-preferred")
        found = ec2.describe_images(
            Owners=[DEBIAN], Filters=[{"Name": "name", "Values": ["debian-12-*"]}, {"Name": "architecture", "Values": ["x86_64"]}]
        )["Images"]
        self.assertEqual([each["ImageId"] for each in found], [base["image_id"]])
        self.assertEqual(found[0]["BootMode"], "uefi-preferred")
        tags = [{"Key": "bake", "Value": "b-1 <&>\n"}]
        volume = self.volume(
            SnapshotId=found[0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], Size=2, Throughput=250,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}], ClientToken="b-1",
        )
        link = self.attach(volume)
        ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        device = os.path.basename(os.path.realpath(link))
        with open(f"/sys/block/{device}/size") as size:
            self.assertEqual(int(size.read()) * 512, 2 << 30)
        with open(f"{link}-part2", "r+b") as partition:
            partition.write(b"baked")
            partition.flush()
            os.fsync(partition.fileno())
        about = ec2.describe_volumes(Filters=[{"Name": "tag:bake", "Values": ["b-1*"]}])["Volumes"]
        self.assertEqual([(each["VolumeId"], each["Tags"], each["State"]) for each in about], [(volume, tags, "in-use")])
        ec2.detach_volume(VolumeId=volume)
        ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        self.assertFalse(os.path.lexists(link) or os.path.lexists(f"{link}-part2"))
        snapshot = ec2.create_snapshot(
            VolumeId=volume, Description="web", TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
        )
        self.assertEqual(snapshot["State"], "pending")
        ec2.delete_volume(VolumeId=volume)
        ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        snapshot = snapshot["SnapshotId"]
        ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=QUICK)
        image = self.register(
            snapshot, EnaSupport=True, BootMode="uefi", TpmSupport="v2.0", ImdsSupport="v2.0", UefiData="AAAA",
            SriovNetSupport="simple", Description="web", TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
        )
        ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=QUICK)
        shown = ec2.describe_images(ImageIds=[image])["Images"][0]
        wanted = {
            "Name": "web-1", "Architecture": "x86_64", "VirtualizationType": "hvm", "EnaSupport": True, "BootMode": "uefi",
            "TpmSupport": "v2.0", "ImdsSupport": "v2.0", "SriovNetSupport": "simple", "Description": "web", "Tags": tags,
            "PlatformDetails": "Linux/UNIX", "UsageOperation": "RunInstances", "State": "available", "Public": False,
        }
        self.assertEqual({name: shown[name] for name in wanted}, wanted)
        self.assertEqual(shown["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"], 2)
        self.assertEqual(ec2.describe_image_attribute(ImageId=image, Attribute="uefiData")["UefiData"], {"Value": "AAAA"})
        # What was written is what the next volume of that snapshot holds.
        again = self.volume(SnapshotId=snapshot, Size=2)
        left = self.attach(again)
        with open(f"{left}-part2", "rb") as partition:
            self.assertEqual(partition.read(5), b"baked")
        self.refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=snapshot)
        done = ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.assertEqual(done["DeleteSnapshotResults"], [{"SnapshotId": snapshot, "ReturnCode": "success"}])
        self.refused("InvalidAMIID.Unavailable", ec2.deregister_image, ImageId=image)
        self.refused("InvalidSnapshot.NotFound", ec2.describe_snapshots, SnapshotIds=[snapshot])
        self.gone()
        self.assertFalse(os.path.lexists(left))


class Finding(Case):
    def test_images(self):
        disk = self.standin.disk("base.raw")
        for number in range(7):
            self.standin.seed(file=disk, name=f"debian-12-amd64-{number}", owner=DEBIAN, created=1.7e9 + number)
        self.standin.seed(file=disk, name="debian-12-amd64-old", owner=DEBIAN, deprecated=1.6e9)
        self.standin.seed(file=disk, name="private", owner=DEBIAN, public=False)
        self.standin.seed(file=disk, name="mine[1]", tags={"team": "web"})
        self.standin.seed(file=disk, name="debian-12-arm64-1", owner=DEBIAN, architecture="arm64", region="us-east-1")

        def names(**given):
            return sorted(each["Name"] for each in self.ec2.describe_images(**given)["Images"])

        def by(name, *values):
            return {"Filters": [{"Name": name, "Values": list(values)}]}

        self.assertEqual(len(names(Owners=[DEBIAN])), 7)
        self.assertEqual(len(names(Owners=[DEBIAN], IncludeDeprecated=True)), 8)
        self.assertEqual(names(Owners=["self"]), ["mine[1]"])
        self.assertEqual(names(**by("name", "debian-12-amd64-?", "mine\\[*")), [f"debian-12-amd64-{n}" for n in range(7)] + ["mine[1]"])
        self.assertEqual(names(**by("tag:team", "w*")), ["mine[1]"])
        self.assertEqual(names(**by("name", "DEBIAN*")), [])
        self.assertEqual(names(**by("is-public", "false")), [])
        pages = self.ec2.get_paginator("describe_images").paginate(Owners=[DEBIAN], PaginationConfig={"PageSize": 3})
        self.assertEqual([len(page["Images"]) for page in pages], [3, 3, 1])
        self.refused("InvalidNextToken", self.ec2.describe_images, MaxResults=3, NextToken="x")
        there = self.standin.client(region="us-east-1").describe_images()["Images"]
        self.assertEqual([each["Architecture"] for each in there], ["arm64"])

    def test_places_and_identity(self):
        self.assertIn("eu-west-1", [each["RegionName"] for each in self.ec2.describe_regions()["Regions"]])
        zones = self.ec2.describe_availability_zones()["AvailabilityZones"]
        self.assertEqual([(zones[1]["ZoneName"], zones[1]["ZoneId"])], [(ZONE, "euw1-az2")])
        self.ec2.describe_account_attributes()
        self.assertEqual(self.standin.client("sts").get_caller_identity()["Account"], "123456789012")
        ssm = self.standin.client("ssm")
        self.standin.control("POST", "parameters", {"parameters": {"/aws/x": "ami-0123456789abcdef0"}})
        self.assertEqual(ssm.get_parameter(Name="/aws/x")["Parameter"]["Value"], "ami-0123456789abcdef0")
        self.refused("ParameterNotFound", ssm.get_parameter, Name="/none")


class Metadata(Case):
    def ask(self, method: str, path: str, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.standin.imds + path, method=method, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.read().decode()

    def test_version_2_only(self):
        with self.assertRaises(urllib.error.HTTPError) as raised:
            self.ask("GET", "/latest/meta-data/instance-id")
        self.assertEqual(raised.exception.code, 401)
        raised.exception.close()
        token = self.ask("PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60")
        asked = {"X_aws_ec2_metadata_token": token}
        self.assertEqual(self.ask("GET", "/latest/meta-data/instance-id", **asked), INSTANCE)
        self.assertEqual(self.ask("GET", "/latest/meta-data/placement/availability-zone", **asked), ZONE)
        self.assertIn("placement/", self.ask("GET", "/latest/meta-data/", **asked).split("\n"))

    def test_credentials_of_the_instance(self):
        from botocore.credentials import InstanceMetadataFetcher, InstanceMetadataProvider

        fetcher = InstanceMetadataFetcher(base_url=self.standin.imds)
        given = InstanceMetadataProvider(iam_role_fetcher=fetcher).load().get_frozen_credentials()
        client = self.standin.client(aws_access_key_id=given.access_key, aws_secret_access_key=given.secret_key, aws_session_token=given.token)
        self.assertTrue(client.describe_regions()["Regions"])
        forger = self.standin.client(aws_access_key_id=given.access_key, aws_secret_access_key=given.secret_key)
        self.refused("AuthFailure", forger.describe_regions)
