"""The messages of the Open Inference Protocol's gRPC ModelInfer, as far as the router reads them.

Field numbers are those of the protocol's `grpc_predict_v2.proto`; fields that are not declared here are skipped by
protobuf. The descriptor is built in code, so that no compiler is needed and no generated file is kept.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "perennial.inference"
_TYPES = descriptor_pb2.FieldDescriptorProto
_CONTENTS = (
    ("bool_contents", 1, _TYPES.TYPE_BOOL),
    ("int_contents", 2, _TYPES.TYPE_INT32),
    ("int64_contents", 3, _TYPES.TYPE_INT64),
    ("uint_contents", 4, _TYPES.TYPE_UINT32),
    ("uint64_contents", 5, _TYPES.TYPE_UINT64),
    ("fp32_contents", 6, _TYPES.TYPE_FLOAT),
    ("fp64_contents", 7, _TYPES.TYPE_DOUBLE),
    ("bytes_contents", 8, _TYPES.TYPE_BYTES),
)


def _field(message: Any, name: str, number: int, kind: int, type_name: str = "", *, repeated: bool = True) -> None:
    label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
    message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name or None)


def _describe() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="perennial/inference.proto", package=_PACKAGE, syntax="proto3")
    contents = file.message_type.add(name="Contents")
    for name, number, kind in _CONTENTS:
        _field(contents, name, number, kind)
    tensor = file.message_type.add(name="Tensor")
    _field(tensor, "name", 1, _TYPES.TYPE_STRING, repeated=False)
    _field(tensor, "datatype", 2, _TYPES.TYPE_STRING, repeated=False)
    _field(tensor, "shape", 3, _TYPES.TYPE_INT64)
    _field(tensor, "contents", 5, _TYPES.TYPE_MESSAGE, f".{_PACKAGE}.Contents", repeated=False)
    for message, name, number, raw in (
        ("ModelInferRequest", "inputs", 5, ("raw_input_contents", 7)),
        ("ModelInferResponse", "outputs", 5, ("raw_output_contents", 6)),
    ):
        described = file.message_type.add(name=message)
        _field(described, name, number, _TYPES.TYPE_MESSAGE, f".{_PACKAGE}.Tensor")
        _field(described, raw[0], raw[1], _TYPES.TYPE_BYTES)
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_describe())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ModelInferRequest = _class("ModelInferRequest")
ModelInferResponse = _class("ModelInferResponse")


def contents_of(tensor: Any) -> Sequence[Any]:
    """The values of a tensor that carries them in its typed contents; text for bytes."""
    for name, _, kind in _CONTENTS:
        values = getattr(tensor.contents, name)
        if values:
            return [v.decode(errors="replace") for v in values] if kind == _TYPES.TYPE_BYTES else list(values)
    return []
