"""What the tests of the stand-in share: one of their own each, and the steps of a bake."""

import unittest

from botocore.exceptions import ClientError

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
