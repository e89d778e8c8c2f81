"""Shows that the stand-in refuses what EC2 refuses, by the same codes, and what a test asks it to."""

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

from .case import QUICK, Case
from .harness import INSTANCE, ZONE, eventually


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
