"""Shows what refers to images to boto3: instances, launch templates, Auto Scaling, parameters; and how images retire."""

import datetime

from .case import Case

AMI = "ami-0123456789abcdef0"
OTHER = "ami-0fedcba9876543210"


class Users(Case):
    def users(self, **given):
        self.standin.control("POST", "users", given)

    def test_instances(self):
        states = ["running", "stopped", "terminated"]
        self.users(instances=[
            {"InstanceId": f"i-0123456789abcdef{number}", "ImageId": AMI, "State": state, "Tags": {"Name": "web"}}
            for number, state in enumerate(states)
        ])
        pages = self.ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "image-id", "Values": [AMI, OTHER]}, {"Name": "instance-state-name", "Values": ["running", "stopped"]}]
        )
        found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
        self.assertEqual([each["State"]["Name"] for each in found], ["running", "stopped"])
        self.assertEqual(found[0]["ImageId"], AMI)
        self.refused("InvalidInstanceID.NotFound", self.ec2.describe_instances, InstanceIds=["i-0123456789abcdefa"])
        self.refused("InvalidParameterValue", self.ec2.describe_instances, Filters=[{"Name": "image", "Values": [AMI]}])

    def test_launch_templates(self):
        template = "lt-0123456789abcdef0"
        self.standin.control("POST", "parameters", {"parameters": {"/images/web": OTHER}})
        self.users(templates=[{
            "LaunchTemplateId": template, "LaunchTemplateName": "web", "Versions": [AMI, "resolve:ssm:/images/web", AMI],
        }])
        shown = self.ec2.describe_launch_templates()["LaunchTemplates"]
        self.assertEqual([(each["LaunchTemplateName"], each["LatestVersionNumber"]) for each in shown], [("web", 3)])

        def images(**more):
            pages = self.ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template, **more)
            return [each["LaunchTemplateData"]["ImageId"] for page in pages for each in page["LaunchTemplateVersions"]]

        self.assertEqual(images(), [AMI, "resolve:ssm:/images/web", AMI])
        self.assertEqual(images(ResolveAlias=True, PaginationConfig={"PageSize": 1}), [AMI, OTHER, AMI])
        self.assertEqual(images(ResolveAlias=True, Versions=["2"]), [OTHER])
        self.assertEqual(images(Versions=["$Default", "$Latest"]), [AMI, AMI])
        self.refused("MissingParameter", self.ec2.describe_launch_template_versions)
        self.refused(
            "InvalidLaunchTemplateId.NotFound", self.ec2.describe_launch_template_versions, LaunchTemplateId="lt-0aaaaaaaaaaaaaaaa"
        )

    def test_fleets_and_spot_requests(self):
        self.users(
            fleets=[{"FleetId": "fleet-1", "LaunchTemplateConfigs": [{"Overrides": [{"ImageId": AMI}]}]}],
            spot_fleets=[{"SpotFleetRequestId": "sfr-1", "LaunchSpecifications": [{"ImageId": AMI}]}],
            spot_requests=[
                {"SpotInstanceRequestId": "sir-1", "ImageId": AMI, "State": "open", "Type": "persistent"},
                {"SpotInstanceRequestId": "sir-2", "ImageId": OTHER},
            ],
        )
        fleet = self.ec2.describe_fleets()["Fleets"][0]
        self.assertEqual((fleet["FleetState"], fleet["LaunchTemplateConfigs"][0]["Overrides"][0]["ImageId"]), ("active", AMI))
        spot_fleet = self.ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"][0]
        self.assertEqual(spot_fleet["SpotFleetRequestConfig"]["LaunchSpecifications"][0]["ImageId"], AMI)
        wanted = [{"Name": "launch.image-id", "Values": [AMI]}]
        requests = self.ec2.describe_spot_instance_requests(Filters=wanted)["SpotInstanceRequests"]
        self.assertEqual([(each["SpotInstanceRequestId"], each["State"]) for each in requests], [("sir-1", "open")])
        self.refused("InvalidParameterValue", self.ec2.describe_spot_instance_requests, Filters=[{"Name": "image-id", "Values": [AMI]}])

    def test_auto_scaling(self):
        group = {
            "AutoScalingGroupName": "mixed",
            "MixedInstancesPolicy": {"LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "Version": "$Latest"},
                "Overrides": [{"InstanceType": "m7i.large", "ImageId": AMI}],
            }},
        }
        self.users(
            launch_configurations=[{"LaunchConfigurationName": f"old-{number}", "ImageId": AMI} for number in range(60)],
            groups=[group, {"AutoScalingGroupName": "old", "LaunchConfigurationName": "old-1"}],
        )
        scaling = self.standin.client("autoscaling")
        pages = scaling.get_paginator("describe_launch_configurations").paginate()
        self.assertEqual(sum(len(page["LaunchConfigurations"]) for page in pages), 60)
        named = scaling.describe_launch_configurations(LaunchConfigurationNames=["old-7"])["LaunchConfigurations"]
        self.assertEqual([(each["LaunchConfigurationName"], each["ImageId"]) for each in named], [("old-7", AMI)])
        groups = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        self.assertEqual(groups[0]["MixedInstancesPolicy"], group["MixedInstancesPolicy"])
        self.assertEqual(groups[1]["LaunchConfigurationName"], "old-1")

    def test_parameters(self):
        values = {f"/images/{number}": AMI for number in range(12)} | {"/text": "hello", "/aws/service/debian": AMI}
        self.standin.control("POST", "parameters", {"parameters": values})
        ssm = self.standin.client("ssm")
        pages = ssm.get_paginator("describe_parameters").paginate(
            ParameterFilters=[{"Key": "DataType", "Values": ["aws:ec2:image"]}]
        )
        names = [each["Name"] for page in pages for each in page["Parameters"]]
        self.assertEqual(len(names), 12)
        read = ssm.get_parameters(Names=[*names[:9], "/none"])
        self.assertEqual({each["Value"] for each in read["Parameters"]}, {AMI})
        self.assertEqual(read["InvalidParameters"], ["/none"])
        self.refused("ValidationException", ssm.get_parameters, Names=names)

    def test_retirement(self):
        ec2 = self.ec2
        image = self.base(owner="123456789012", name="web-1", public=False)["image_id"]
        other = self.base(file=self.standin.disk("other.raw"), owner="123456789012", name="web-2", protection="enabled-without-cooldown")
        now = datetime.datetime.now(datetime.timezone.utc)
        self.refused("InvalidParameterValue", ec2.enable_image_deprecation, ImageId=image, DeprecateAt=now - datetime.timedelta(hours=1))
        ec2.enable_image_deprecation(ImageId=image, DeprecateAt=now + datetime.timedelta(minutes=3))
        shown = ec2.describe_images(ImageIds=[image])["Images"][0]
        self.assertIn("DeprecationTime", shown)
        ec2.disable_image(ImageId=image)
        self.assertEqual(len(ec2.describe_images(Owners=["self"])["Images"]), 1)
        shown = {each["ImageId"]: each for each in ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]}
        self.assertEqual(shown[image]["State"], "disabled")
        self.assertEqual(shown[other["image_id"]]["DeregistrationProtection"], "enabled-without-cooldown")
        self.refused("OperationNotPermitted", ec2.deregister_image, ImageId=other["image_id"])
        gone = ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.assertEqual([each["ReturnCode"] for each in gone["DeleteSnapshotResults"]], ["success"])
        self.refused("InvalidAMIID.Unavailable", ec2.disable_image, ImageId=image)
