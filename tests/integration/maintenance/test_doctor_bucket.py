"""The doctor and buckets that demand or forbid something, by policies that SeaweedFS enforces."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from embedded.s3 import S3
    from tests.parts.doctor_patient import Patient


def a_bucket(s3: S3, *statements: dict[str, Any], **options: Any) -> str:
    """Make a bucket whose policy denies something."""
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, **options)
    if statements:
        here = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
        denied = [{"Effect": "Deny", "Principal": "*", "Resource": here, **each} for each in statements]
        s3.client().put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": denied}))
    return name


UNENCRYPTED = {"Action": "s3:PutObject", "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}}


def test_a_policy_that_demands_encryption_is_met_by_the_extra(patient: Patient, s3: S3) -> None:
    bucket = a_bucket(s3, UNENCRYPTED)
    patient.set_bucket(bucket=bucket)
    [line] = patient.bad()
    assert line.startswith("BAD anomaly_s3: cannot write bucket")
    assert "a policy may also demand the extra server_side_encryption" in line
    patient.set_bucket(bucket=bucket, server_side_encryption="AES256")
    assert patient.bad() == []


def test_an_encryption_that_there_is_not_is_named(patient: Patient) -> None:
    patient.set_bucket(server_side_encryption="AES-256")
    [line] = patient.bad()
    assert line.endswith("server_side_encryption must be one of AES256, aws:kms, aws:kms:dsse, not 'AES-256'")


def test_a_bucket_with_object_lock_passes(patient: Patient, s3: S3) -> None:
    bucket = a_bucket(s3, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.client().put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    patient.set_bucket(bucket=bucket)
    said = patient.said()
    assert [line for line in said if not line.startswith("ok")] == []
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("action", "begin"),
    [
        ("s3:PutObject", "BAD anomaly_s3: cannot write bucket"),
        ("s3:GetObject", "BAD anomaly_s3: cannot read bucket"),
        ("s3:ListBucket", "BAD anomaly_s3: cannot list bucket"),
    ],
)
def test_a_right_that_is_missing_is_named(patient: Patient, s3: S3, action: str, begin: str) -> None:
    patient.set_bucket(bucket=a_bucket(s3, {"Action": action}))
    bad = patient.bad()
    assert any(line.startswith(begin) and "s3:ListBucket" in line for line in bad), bad
    assert all(line.startswith("BAD anomaly_s3: ") for line in bad)


@pytest.mark.parametrize("bucket", ["arn:aws:s3:::photos", "s3://photos", "photos/2026"])
def test_a_name_that_is_no_buckets_is_named(patient: Patient, bucket: str) -> None:
    patient.set_bucket(bucket=bucket)
    [line] = patient.bad()
    assert "the bucket's name is not valid: it has neither s3:// nor a path" in line


def test_an_address_with_the_bucket_in_it_or_without_a_scheme_is_bad_and_a_slash_at_its_end_is_not(patient: Patient, s3: S3) -> None:
    for wrong in (f"{s3.endpoint_url}/{s3.bucket}", s3.endpoint_url.removeprefix("http://"), s3.endpoint_url.replace("http:", "https:")):
        patient.set_bucket(endpoint_url=wrong)
        [line] = patient.bad()
        assert line.startswith("BAD anomaly_s3: ")
    patient.set_bucket(endpoint_url=f"{s3.endpoint_url}/")
    assert patient.bad() == []


@pytest.mark.parametrize("style", ["path", "virtual", "auto"])
def test_any_style_of_addresses_and_any_region_that_the_service_accepts_pass(patient: Patient, style: str) -> None:
    patient.set_bucket(config_kwargs={"s3": {"addressing_style": style}}, region_name="eu-west-9")
    assert patient.bad() == []
