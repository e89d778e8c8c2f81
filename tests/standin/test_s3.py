"""Shows objects to boto3: found, fetched, with their versions."""

import botocore.exceptions

from .case import Case


class Objects(Case):
    def put(self, **given):
        return self.standin.control("POST", "objects", {"bucket": "build", "key": "web/web 1.deb", **given})

    def test_versions(self):
        s3 = self.standin.client("s3")
        old = self.put(text="old")
        new = self.put(text="new")
        self.assertNotEqual(old["version"], new["version"])
        shown = s3.head_object(Bucket="build", Key="web/web 1.deb")
        self.assertEqual((shown["VersionId"], shown["ETag"], shown["ContentLength"]), (new["version"], new["etag"], 3))
        got = s3.get_object(Bucket="build", Key="web/web 1.deb", VersionId=old["version"])
        self.assertEqual((got["Body"].read(), got["ETag"]), (b"old", old["etag"]))
        self.refused("NoSuchVersion", s3.get_object, Bucket="build", Key="web/web 1.deb", VersionId="0")
        self.refused("PreconditionFailed", s3.get_object, Bucket="build", Key="web/web 1.deb", IfMatch=old["etag"])

    def test_what_is_not_there(self):
        s3 = self.standin.client("s3")
        self.put(text="x", bucket="plain", versioned=False)
        self.assertNotIn("VersionId", s3.head_object(Bucket="plain", Key="web/web 1.deb"))
        self.refused("NoSuchKey", s3.get_object, Bucket="plain", Key="none")
        self.refused("404", s3.head_object, Bucket="plain", Key="none")
        self.refused("NoSuchBucket", s3.get_object, Bucket="nobody", Key="none")
        self.put(text="x", bucket="far", region="us-east-1")
        with self.assertRaises(botocore.exceptions.ClientError):
            s3.head_object(Bucket="far", Key="none")
