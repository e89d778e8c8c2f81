"""Shows that boto3's own client, parsers and waiters find the stand-in to be EC2."""

import os
import re
import signal
import subprocess
import unittest
import urllib.error
import urllib.request

from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from . import loop
from .harness import INSTANCE, ZONE, Standin, eventually

QUICK = {"Delay": 0.1, "MaxAttempts": 100}
DEBIAN = "136693071363"


class Case(unittest.TestCase):
    options: tuple = ()

    def setUp(self):
        self.standin = Standin(*self.options)
        self.addCleanup(self.gone)
        self.ec2 = self.standin.client()

    def gone(self):
        if self.standin.process.returncode is None:
            self.assertEqual(self.standin.stop(), 0)

    def base(self, **about):
        return self.standin.seed(**{"file": self.standin.disk("base.raw"), "name": "debian-12-amd64-1", "owner": DEBIAN, **about})

    def volume(self, **about) -> str:
        made = self.ec2.create_volume(**{"AvailabilityZone": ZONE, "VolumeType": "gp3", "Size": 1, **about})["VolumeId"]
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=QUICK)
        return made

    def snapshot(self, volume: str) -> str:
        made = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        self.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[made], WaiterConfig=QUICK)
        return made

    def attach(self, volume: str, device: str = "/dev/sdf") -> str:
        """Attaches, and gives the link of the device."""
        self.ec2.attach_volume(VolumeId=volume, InstanceId=INSTANCE, Device=device)
        eventually("attached", lambda: self.attachment(volume) == "attached")
        if "--xen" in self.options:
            return device.replace("/sd", "/xvd")
        return "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + volume.replace("-", "")

    def attachment(self, volume: str) -> str | None:
        found = self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]
        return found[0]["State"] if found else None

    def register(self, snapshot: str, **about) -> str:
        return self.ec2.register_image(
            **{
                "Name": "web-1", "RootDeviceName": "/dev/xvda", "Architecture": "x86_64", "VirtualizationType": "hvm",
                "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
                **about,
            }
        )["ImageId"]

    def refused(self, code: str, call, **given):
        with self.assertRaises(ClientError) as raised:
            call(**given)
        self.assertEqual(raised.exception.response["Error"]["Code"], code, raised.exception)
        return raised.exception


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
        with open(self.attach(again) + "-part2", "rb") as partition:
            self.assertEqual(partition.read(5), b"baked")
        self.refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=snapshot)
        done = ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.assertEqual(done["DeleteSnapshotResults"], [{"SnapshotId": snapshot, "ReturnCode": "success"}])
        self.refused("InvalidAMIID.Unavailable", ec2.deregister_image, ImageId=image)
        self.refused("InvalidSnapshot.NotFound", ec2.describe_snapshots, SnapshotIds=[snapshot])
        self.gone()
        self.assertFalse([each for each in os.listdir("/dev/disk/by-id") if again.replace("-", "") in each] if os.path.isdir("/dev/disk/by-id") else [])


class Xen(Case):
    options = ("--xen",)

    def test_names_and_collisions(self):
        self.base()
        other = Standin("--xen")
        try:
            snapshot = self.ec2.describe_snapshots()["Snapshots"][0]["SnapshotId"]
            first = self.volume(SnapshotId=snapshot)
            link = self.attach(first, "/dev/sdp")
            self.assertEqual(link, "/dev/xvdp")
            self.assertTrue(os.path.realpath("/dev/xvdp2").endswith("p2"))
            # Another stand-in on this host is no other host: its names are taken too.
            theirs = other.client()
            volume = theirs.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
            theirs.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
            error = self.refused("InvalidParameterValue", theirs.attach_volume, VolumeId=volume, InstanceId=INSTANCE, Device="/dev/sdp")
            self.assertIn("is already in use", str(error))
        finally:
            self.assertEqual(other.stop(), 0)


class Devices(Case):
    def test_busy_until_closed(self):
        self.base()
        volume = self.volume(SnapshotId=self.ec2.describe_snapshots()["Snapshots"][0]["SnapshotId"])
        link = self.attach(volume)
        number = int(re.search(r"\d+", os.path.basename(os.path.realpath(link)))[0])
        for opened in (f"{link}-part2", link):
            with open(opened, "rb"):
                self.ec2.detach_volume(VolumeId=volume)
                eventually("busy", lambda: self.attachment(volume) == "busy")
                self.refused("VolumeInUse", self.ec2.delete_volume, VolumeId=volume)
            self.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
            self.assertFalse(os.path.lexists(link))
            self.attach(volume)
        self.ec2.detach_volume(VolumeId=volume)
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        self.assertFalse(loop.is_bound(number, f"{volume}.raw"))

    def test_links_follow_the_partition_table(self):
        volume = self.volume()
        link = self.attach(volume)
        self.assertFalse(os.path.lexists(f"{link}-part1"))
        subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", link], input="label: gpt\n,16MiB\n", text=True, check=True)
        subprocess.run(["partx", "-a", os.path.realpath(link)], check=True)
        eventually("the partition's link", lambda: os.path.exists(f"{link}-part1"))

    def test_everything_goes_with_the_process(self):
        for end in ("stdin", signal.SIGTERM, signal.SIGKILL):
            with self.subTest(end=str(end)):
                self.gone()
                self.standin = standin = Standin()
                self.ec2 = standin.client()
                volume = self.volume()
                link = self.attach(volume)
                number = int(os.path.realpath(link).removeprefix("/dev/loop"))
                self.assertTrue(loop.is_bound(number, f"{volume}.raw"))
                if end == signal.SIGKILL:
                    standin.process.kill()
                    standin.process.wait()
                    # The kernel frees the device; the link goes when the next stand-in starts.
                    eventually("free", lambda: not loop.is_bound(number, f"{volume}.raw"))
                    standin.stop()
                    self.assertEqual(Standin().stop(), 0)
                else:
                    if end != "stdin":
                        standin.process.send_signal(end)
                        self.assertEqual(standin.process.wait(20), 0)
                    self.assertEqual(standin.stop(), 0)
                self.assertFalse(os.path.lexists(link))
                bound = [loop.backing_file(int(each[4:])) or "" for each in os.listdir("/sys/block") if each.startswith("loop")]
                self.assertFalse([each for each in bound if standin.folder in each or volume in each])


class Refusals(Case):
    def test_images(self):
        ec2, refused = self.ec2, self.refused
        base = self.base()
        refused("InvalidAMIID.Malformed", ec2.describe_images, ImageIds=["ami-web"])
        refused("InvalidAMIID.NotFound", ec2.describe_images, ImageIds=["ami-0123456789abcdef0"])
        refused("InvalidParameterValue", ec2.describe_images, Filters=[{"Name": "nmae", "Values": ["x"]}])
        refused("InvalidUserID.Malformed", ec2.describe_images, Owners=["debian"])
        refused("AuthFailure", ec2.deregister_image, ImageId=base["image_id"])
        volume = self.volume()
        snapshot = self.snapshot(volume)
        mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}

        def with_volume(**about):
            return [{**mapping, "Ebs": {**mapping["Ebs"], **about}}]

        def register(code, **about):
            return refused(code, lambda: self.register(snapshot, **about))

        register("InvalidAMIName.Malformed", Name="web:1")
        register("InvalidBlockDeviceMapping", BlockDeviceMappings=with_volume(Encrypted=True))
        register("InvalidBlockDeviceMapping", BlockDeviceMappings=[mapping, mapping])
        register("InvalidBlockDeviceMapping", RootDeviceName="/dev/sda1")
        register("InvalidParameterValue", BlockDeviceMappings=with_volume(VolumeType="gp3", Iops=100))
        register("InvalidParameterCombination", BlockDeviceMappings=with_volume(VolumeType="gp2", Throughput=200))
        register("InvalidSnapshot.NotFound", BlockDeviceMappings=with_volume(SnapshotId="snap-0123456789abcdef0"))
        register("InvalidSnapshotID.Malformed", BlockDeviceMappings=with_volume(SnapshotId="snap-x"))
        register("AuthFailure", BlockDeviceMappings=with_volume(SnapshotId=base["snapshot_id"]))
        register("InvalidParameterCombination", TpmSupport="v2.0")
        register("InvalidParameterCombination", Architecture="arm64", BootMode="legacy-bios")
        register("InvalidParameterValue", Architecture="sparc")
        register("DryRunOperation", DryRun=True)
        register("InvalidParameterValue", TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}])
        # Unsaid, they are what they always were.
        image = ec2.register_image(Name="web-1", RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping])["ImageId"]
        shown = ec2.describe_images(ImageIds=[image])["Images"][0]
        self.assertEqual((shown["Architecture"], shown["VirtualizationType"]), ("i386", "paravirtual"))
        self.assertIn(image, str(register("InvalidAMIName.Duplicate")))

    def test_snapshot_pending(self):
        self.standin.control("POST", "latencies", {"snapshot": 30})
        volume = self.volume()
        snapshot = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        shown = self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        self.assertEqual(shown["State"], "pending")
        self.assertRegex(shown["Progress"], r"^\d+%$")
        self.refused("IncorrectState", lambda: self.register(snapshot))
        self.refused("IncorrectState", self.ec2.create_volume, SnapshotId=snapshot, AvailabilityZone=ZONE)

    def test_volumes(self):
        ec2, refused = self.ec2, self.refused
        base = self.base(file=self.standin.disk("larger.raw", 3 << 30))

        def create(code, **about):
            return refused(code, ec2.create_volume, **{"AvailabilityZone": ZONE, "Size": 10, **about})

        create("InvalidParameterValue", SnapshotId=base["snapshot_id"], Size=2)
        create("UnknownVolumeType", VolumeType="gp9")
        create("InvalidParameterValue", VolumeType="gp3", Iops=2999)
        create("InvalidParameterValue", VolumeType="gp3", Iops=80001)
        create("InvalidParameterValue", VolumeType="gp3", Iops=6000)
        create("InvalidParameterValue", VolumeType="gp3", Throughput=124)
        create("InvalidParameterValue", VolumeType="gp3", Throughput=1000)
        create("InvalidParameterCombination", VolumeType="gp2", Iops=3000)
        create("InvalidParameterCombination", VolumeType="io2", Iops=3000, Throughput=200)
        create("MissingParameter", VolumeType="io1")
        create("InvalidParameterValue", VolumeType="st1")
        create("InvalidZone.NotFound", AvailabilityZone="eu-west-1z")
        create("InvalidSnapshot.NotFound", SnapshotId="snap-0123456789abcdef0")
        create("InvalidParameterDependency", KmsKeyId="alias/x")
        create("InvalidParameterCombination", VolumeInitializationRate=200)
        refused("MissingParameter", ec2.create_volume, AvailabilityZone=ZONE)
        one = ec2.create_volume(AvailabilityZone=ZONE, Size=1, ClientToken="t")["VolumeId"]
        self.assertEqual(ec2.create_volume(AvailabilityZone=ZONE, Size=1, ClientToken="t")["VolumeId"], one)
        create("IdempotentParameterMismatch", ClientToken="t")
        self.assertEqual(ec2.describe_volumes(VolumeIds=[one])["Volumes"][0]["VolumeType"], "gp2")
        refused("InvalidVolume.NotFound", ec2.describe_volumes, VolumeIds=["vol-0123456789abcdef0"])
        refused("InvalidParameterValue", ec2.describe_volumes, VolumeIds=["vol-x"])

    def test_attachments(self):
        ec2, refused = self.ec2, self.refused
        volume, second = self.volume(), self.volume()
        far = self.volume(AvailabilityZone="eu-west-1a")

        def attach(code, volume, device="/dev/sdf", instance=INSTANCE):
            return refused(code, ec2.attach_volume, VolumeId=volume, Device=device, InstanceId=instance)

        attach("InvalidVolume.ZoneMismatch", far)
        attach("InvalidInstanceID.NotFound", volume, instance="i-0123456789abcdef0")
        attach("InvalidParameterValue", volume, "/dev/nvme1n1")
        refused("IncorrectState", ec2.detach_volume, VolumeId=volume)
        self.attach(volume)
        attach("VolumeInUse", volume, "/dev/sdg")
        self.assertIn("is already in use", str(attach("InvalidParameterValue", second)))
        self.assertIn("is already in use", str(attach("InvalidParameterValue", second, "/dev/xvdf")))
        refused("VolumeInUse", ec2.delete_volume, VolumeId=volume)
        devices = ec2.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
        self.assertEqual({each["DeviceName"] for each in devices}, {"/dev/xvda", "/dev/sdf"})
        self.standin.control("POST", "latencies", {"create-volume": 30})
        creating = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
        attach("IncorrectState", creating, "/dev/sdh")
        refused("IncorrectState", ec2.create_snapshot, VolumeId=creating)

    def test_parameters(self):
        """What botocore would not send; its own check is off."""
        bare = self.standin.client(parameter_validation=False)
        self.assertIn("imageId", str(self.refused("MissingParameter", bare.deregister_image)))
        self.refused("InvalidAMIName.Malformed", bare.register_image, Name="we")
        self.refused("InvalidParameterValue", bare.create_volume, AvailabilityZone=ZONE, Size="big")

        def stranger(params, **_):
            params["body"]["Colour"] = "red"

        bare.meta.events.register("before-call.ec2.DescribeRegions", stranger)
        self.assertIn("Colour", str(self.refused("UnknownParameter", bare.describe_regions)))
        self.refused("UnsupportedOperation", self.ec2.describe_vpcs)

    def test_callers(self):
        stranger = self.standin.client(aws_access_key_id="AKIASTRANGER")
        self.refused("AuthFailure", stranger.describe_regions)
        forger = self.standin.client(aws_secret_access_key="guess")
        self.refused("AuthFailure", forger.describe_regions)

    def test_tags(self):
        ec2, refused = self.ec2, self.refused
        volume = self.volume()
        ec2.create_tags(Resources=[volume], Tags=[{"Key": f"k{each}", "Value": "v"} for each in range(50)])
        refused("TagLimitExceeded", ec2.create_tags, Resources=[volume], Tags=[{"Key": "one", "Value": "more"}])
        ec2.delete_tags(Resources=[volume], Tags=[{"Key": "k0"}, {"Key": "k1", "Value": "other"}])
        pages = ec2.get_paginator("describe_tags").paginate(
            Filters=[{"Name": "resource-id", "Values": [volume]}], PaginationConfig={"PageSize": 20}
        )
        pages = [page["Tags"] for page in pages]
        self.assertEqual([len(page) for page in pages], [20, 20, 9])
        refused("InvalidParameterValue", ec2.create_tags, Resources=[volume], Tags=[{"Key": "aws:x", "Value": ""}])
        refused("InvalidParameterValue", ec2.create_tags, Resources=[volume], Tags=[{"Key": "x", "Value": "y" * 257}])
        refused("InvalidVolume.NotFound", ec2.create_tags, Resources=["vol-0123456789abcdef0"], Tags=[{"Key": "x", "Value": ""}])


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


class Faults(Case):
    def fault(self, **about):
        self.standin.control("POST", "faults", about)

    def test_refusals(self):
        codes = {"throttle": "RequestLimitExceeded", "internal": "InternalError", "unavailable": "Unavailable",
                 "capacity": "InsufficientVolumeCapacity", "quota": "VolumeLimitExceeded", "expired": "RequestExpired",
                 "denied": "UnauthorizedOperation", "auth-failure": "AuthFailure"}
        for kind, code in codes.items():
            self.fault(action="CreateVolume", kind=kind)
            self.refused(code, self.ec2.create_volume, AvailabilityZone=ZONE, Size=1)
        self.fault(action="CreateVolume", kind="error", code="Client.Strange", status=418)
        self.refused("Client.Strange", self.ec2.create_volume, AvailabilityZone=ZONE, Size=1)
        self.assertEqual(self.ec2.describe_volumes()["Volumes"], [])

    def test_occurrences(self):
        self.fault(action="DescribeRegions", kind="throttle", on=2, times=2)
        self.ec2.describe_regions()
        self.assertTrue(self.standin.client(retries=4).describe_regions()["Regions"])
        statuses = [each["status"] for each in self.standin.control("GET", "requests?action=DescribeRegions")]
        self.assertEqual(statuses, [200, 503, 503, 200])

    def test_lost_reply(self):
        self.fault(action="CreateVolume", kind="reset", when="before")
        with self.assertRaises((ConnectionClosedError, EndpointConnectionError)):
            self.ec2.create_volume(AvailabilityZone=ZONE, Size=1)
        self.fault(action="CreateVolume", kind="reset", when="after")
        with self.assertRaises((ConnectionClosedError, EndpointConnectionError)):
            self.ec2.create_volume(AvailabilityZone=ZONE, Size=1)
        self.assertEqual(len(self.ec2.describe_volumes()["Volumes"]), 1)
        done = [(each["done"], each["status"]) for each in self.standin.control("GET", "requests?action=CreateVolume")]
        self.assertEqual(done, [(False, None), (True, None)])

    def test_states(self):
        self.fault(action="CreateVolume", kind="error-state")
        failed = self.ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
        eventually("error", lambda: self.ec2.describe_volumes(VolumeIds=[failed])["Volumes"][0]["State"] == "error")
        self.ec2.delete_volume(VolumeId=failed)
        volume = self.volume()
        self.fault(action="CreateSnapshot", kind="error-state")
        snapshot = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        eventually("error", lambda: self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "error")
        self.fault(action="AttachVolume", kind="stuck")
        self.ec2.attach_volume(VolumeId=volume, InstanceId=INSTANCE, Device="/dev/sdf")
        self.assertEqual(self.attachment(volume), "attaching")
        self.ec2.detach_volume(VolumeId=volume)
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        self.attach(volume)
        self.fault(action="DetachVolume", kind="stuck", code="busy")
        self.ec2.detach_volume(VolumeId=volume)
        self.assertEqual(self.attachment(volume), "busy")
        self.ec2.detach_volume(VolumeId=volume, Force=True)
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
        self.fault(action="RegisterImage", kind="error-state")
        image = self.register(self.snapshot(volume))
        eventually("failed", lambda: self.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "failed")

    def test_eventual_consistency(self):
        self.fault(action="CreateVolume", kind="invisible", calls=2)
        volume = self.ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
        self.refused("InvalidVolume.NotFound", self.ec2.describe_volumes, VolumeIds=[volume])
        self.assertEqual(self.ec2.describe_volumes()["Volumes"], [])
        self.refused("InvalidVolume.NotFound", self.ec2.create_snapshot, VolumeId=volume)
        self.assertEqual(self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["VolumeId"], volume)

    def test_hold(self):
        import threading

        for when, done in (("before", False), ("after", True)):
            self.fault(action="CreateTags", kind="hold", when=when)
            volume = self.volume()
            answers = []
            tag = {"Resources": [volume], "Tags": [{"Key": "k", "Value": when}]}
            client = self.standin.client()
            thread = threading.Thread(target=lambda: answers.append(client.create_tags(**tag)))
            thread.start()
            held = self.standin.control("GET", "held?wait=10")
            self.assertEqual([(each["action"], each["when"]) for each in held], [("CreateTags", when)])
            self.assertEqual(bool(self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0].get("Tags")), done)
            self.assertEqual(answers, [])
            self.standin.control("POST", "release", {})
            thread.join(10)
            self.assertEqual(len(answers), 1)


if __name__ == "__main__":
    unittest.main()
