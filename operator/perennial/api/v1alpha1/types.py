"""The small bounded values that fields are made of: names, references, decimals, quantities, times.

Every string has a length, every number a range: without them CEL cannot bound its cost and a client can fill etcd.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from perennial.api.names import MAX_NAME_LENGTH, MAX_SHORT_NAME_LENGTH, NAME_PATTERN, RESERVED_NAMES
from perennial.api.v1alpha1.base import ATOMIC_LIST, FREE_OBJECT, SET_LIST, Rule, with_rules

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DECIMAL = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
POSITIVE_DECIMAL = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
SHARE = r"^(0(\.[0-9]+)?|1(\.0+)?)$"
QUANTITY = r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
READABLE_URI = r"^((s3|gs|abfs|abfss|pvc)://[^\s]+|https?://[^\s/@]+(/[^\s]*)?)$"
"""No user or password in a web address: it would end up in lineage and in Git. Credentials belong into spec.storage."""
WRITABLE_PREFIX = r"^(s3|gs|abfs|abfss|pvc)://[^\s]+/$"

MAX_INTEGER = 2**53 - 1
THIRTY_DAYS = 2_592_000
ONE_YEAR = 31_536_000

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]
"""The name of one of our objects."""
MODEL_NAME_RULE = Rule(
    f"!self.matches('{RESERVED_NAMES}')",
    "a model's name may not start with 'perennial-', contain '-rev-' or '-run-', or end with '-rev' or '-run', "
    "because its versions are named after it",
)
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SHORT_NAME_LENGTH,
        pattern=NAME_PATTERN,
        json_schema_extra=with_rules(MODEL_NAME_RULE),
    ),
]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN)]
"""The name of a foreign object, such as a Secret."""
RevisionName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Label = Annotated[str, Field(max_length=63)]
Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
"""An id that a person or the operator gives: a run, a request, a command."""
MetricName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][-A-Za-z0-9_.:/]*$")]
FeatureName = Annotated[str, Field(min_length=1, max_length=128)]
SourceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Format = Annotated[str, Field(min_length=1, max_length=30, pattern=NAME_PATTERN)]
HeaderName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$")]
Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$")]
Digest = Annotated[str, Field(max_length=71, pattern=DIGEST)]
Uri = Annotated[str, Field(max_length=1024, pattern=READABLE_URI)]
OutputUri = Annotated[str, Field(max_length=1024, pattern=WRITABLE_PREFIX)]
Query = Annotated[str, Field(min_length=1, max_length=4096)]

Decimal = Annotated[str, Field(min_length=1, max_length=48, pattern=DECIMAL)]
PositiveDecimal = Annotated[str, Field(min_length=1, max_length=48, pattern=POSITIVE_DECIMAL)]
"""A decimal that is not negative."""
Share = Annotated[str, Field(min_length=1, max_length=20, pattern=SHARE)]
"""A decimal from 0 to 1."""

Sentence = Annotated[str, Field(max_length=1000)]
"""What happened, why, and what to do next."""
PersonName = Annotated[str, Field(max_length=256)]
"""A user name, or several with commas between them."""
Reason = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
Timestamp = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
Commit = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{7,64}$")]
GitRevision = Annotated[str, Field(max_length=320)]

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Percent = Annotated[int, Field(ge=0, le=100)]
Generation = Annotated[int, Field(ge=-1, le=MAX_INTEGER)]

Quantity = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": QUANTITY, "maxLength": 32}),
]
"""A Kubernetes quantity such as `500m`, `2Gi` or 1."""

FreeObject = Annotated[dict[str, Any], WithJsonSchema(FREE_OBJECT)]
"""A fragment of a pod that Kubernetes itself checks when the pod is dry-run."""
FreeList = Annotated[tuple[FreeObject, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)]

Argument = Annotated[str, Field(max_length=8192)]
Command = Annotated[tuple[Argument, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)]
CommandIds = Annotated[tuple[Identifier, ...], Field(max_length=32, json_schema_extra=ATOMIC_LIST)]
NameSet = Annotated[tuple[FeatureName, ...], Field(max_length=256, json_schema_extra=SET_LIST)]
StringMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
Metrics = Annotated[dict[str, Decimal], Field(max_length=64, json_schema_extra={"x-kubernetes-map-type": "atomic"})]
