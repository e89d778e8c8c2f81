"""Shows boto3 what a base is chosen by: images by any filter, parameters by version, label and ARN, volumes of the user's."""

import os

from .case import DEBIAN, QUICK, Case
from .harness import INSTANCE, ZONE

AMI = "ami-0123456789abcdef%d"
OTHER = "i-0aaaaaaaaaaaaaaaa"


class Parameters(Case):
    def setUp(self):
        super().setUp()
        self.ssm = self.standin.client("ssm")

    def put(self, **parameters):
        self.standin.control("POST", "parameters", {"parameters": {f"/{name}": given for name, given in parameters.items()}})

    def value(self, name: str, **more) -> str:
        return self.ssm.get_parameter(Name=name, **more)["Parameter"]["Value"]

    def test_versions_and_labels(self):
        self.put(web={"value": AMI % 1, "labels": ["prod"]})
        self.put(web=AMI % 2)
        self.put(web={"value": AMI % 3, "labels": ["canary"]})
        self.assertEqual([self.value(name) for name in ("/web", "/web:1", "/web:2", "/web:prod", "/web:canary")],
                         [AMI % 3, AMI % 1, AMI % 2, AMI % 1, AMI % 3])
        self.assertEqual(self.ssm.get_parameter(Name="/web:prod")["Parameter"]["Selector"], ":prod")
        self.refused("ParameterVersionNotFound", self.ssm.get_parameter, Name="/web:4")
        self.refused("ParameterVersionNotFound", self.ssm.get_parameter, Name="/web:none")
        self.refused("ParameterNotFound", self.ssm.get_parameter, Name="/none:1")
        self.put(web={"value": AMI % 4, "labels": ["prod"]})
        self.assertEqual(self.value("/web:prod"), AMI % 4, "a label moves")

    def test_arns(self):
        self.put(web=AMI % 1)
        self.put(shared={"value": AMI % 2, "account": DEBIAN})
        arn = "arn:aws:ssm:eu-west-1:%s:parameter/%s"
        self.assertEqual(self.value(arn % ("123456789012", "web")), AMI % 1)
        self.assertEqual(self.value(arn % ("123456789012", "web:1")), AMI % 1)
        self.assertEqual(self.value(arn % (DEBIAN, "shared")), AMI % 2)
        self.refused("ParameterNotFound", self.ssm.get_parameter, Name="/shared")
        self.refused("ParameterNotFound", self.ssm.get_parameter, Name=arn % (DEBIAN, "web"))
        self.refused("ValidationException", self.ssm.get_parameter, Name="arn:aws:ssm:us-east-1:123456789012:parameter/web")

    def test_secrets_stay_encrypted(self):
        self.put(secret={"value": "hunter2", "type": "SecureString"})
        self.assertNotIn("hunter2", self.value("/secret"))
        self.assertEqual(self.value("/secret", WithDecryption=True), "hunter2")


class Images(Case):
    def test_filters(self):
        for number, about in enumerate([
            {"tags": {"team": "web", "stage": "prod"}}, {"tags": {"team": "web"}, "volume_size": 8},
            {"tags": {"team": "db"}, "platform_details": "Red Hat Enterprise Linux"},
            {"deprecated": 1.6e9, "owner": "999999999999"}, {"state": "disabled"},
        ]):
            self.base(**{"name": f"x-{number}", "owner": "123456789012", **about})

        def names(owners=("self", "999999999999"), deprecated=False, **filters):
            given = [{"Name": name.replace("_", "-"), "Values": values} for name, values in filters.items()]
            found = self.ec2.describe_images(Owners=list(owners), Filters=given, IncludeDeprecated=deprecated)["Images"]
            return sorted(each["Name"] for each in found)

        self.assertEqual(names(), ["x-0", "x-1", "x-2"])
        self.assertEqual(names(deprecated=True), ["x-0", "x-1", "x-2", "x-3"])
        self.assertEqual(names(**{"tag:team": ["web"]}), ["x-0", "x-1"])
        self.assertEqual(names(**{"tag:team": ["web"], "tag:stage": ["p*", "canary"]}), ["x-0"])
        self.assertEqual(names(**{"block-device-mapping.volume-size": ["8"]}), ["x-1"])
        self.assertEqual(names(platform_details=["Red Hat*"]), ["x-2"])
        self.refused("InvalidParameterValue", self.ec2.describe_images, Filters=[{"Name": "colour", "Values": ["red"]}])


class Volumes(Case):
    def test_a_volume_of_the_users(self):
        disk = self.standin.disk("users.raw")
        free = self.standin.control("POST", "volumes", {"file": disk, "tags": {"Name": "mine"}})["volume_id"]
        away = {"file": disk, "attached": {"instance": OTHER, "device": "/dev/sdf"}}
        away = self.standin.control("POST", "volumes", away)["volume_id"]
        here = {"file": disk, "attached": {"instance": INSTANCE, "device": "/dev/sdg"}}
        here = self.standin.control("POST", "volumes", here)
        about = {each["VolumeId"]: each for each in self.ec2.describe_volumes()["Volumes"]}
        self.assertEqual((about[free]["State"], about[free]["Tags"]), ("available", [{"Key": "Name", "Value": "mine"}]))
        self.assertEqual(about[free]["AvailabilityZone"], ZONE)
        self.assertEqual(about[away]["Attachments"][0]["InstanceId"], OTHER)
        self.refused("VolumeInUse", self.ec2.attach_volume, VolumeId=away, InstanceId=INSTANCE, Device="/dev/sdh")
        self.assertTrue(os.path.exists(f"{here['link']}-part2"))
        self.refused("InvalidAttachment.NotFound", self.ec2.detach_volume, VolumeId=here["volume_id"], Device="/dev/sdf")
        self.ec2.detach_volume(VolumeId=here["volume_id"], InstanceId=INSTANCE, Device="/dev/sdg")
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[here["volume_id"]], WaiterConfig=QUICK)
        self.assertFalse(os.path.lexists(here["link"]))
