"""Shows that attached volumes are real devices, named as on an instance, and that none stays."""

import os
import re
import signal
import subprocess

from . import loop
from .case import QUICK, Case
from .harness import INSTANCE, ZONE, Standin, eventually


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
