"""numpy to messages and back. Whatever bytes come in: either what they say, within the caps, or a `WireError` that names the field.

Nothing is unpickled, and nothing is allocated before what a message declares has been compared with the bytes that are there.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from jaxrl_client.protos import values_pb2

M = TypeVar("M", bound=Message)


class WireError(ValueError):
    """A message that is not as it has to be. Its text names the field."""


class Caps(NamedTuple):
    """How much a message may hold."""

    message_bytes: int = 16 * 2**20
    tensors: int = 64
    rank: int = 8
    name: int = 128  # characters
    text: int = 16384  # characters
    fields: int = 4096  # in all of a message: a field of two bytes takes a hundred in memory


CAPS = Caps()
SESSION = 64  # characters of a session's name
HASH = 32  # bytes

_DTYPES = {  # in the order of the enum
    name: np.dtype(code)
    for name, code in dict(
        BOOL="?", UINT8="u1", UINT16="<u2", INT32="<i4", INT64="<i8", FLOAT16="<f2", FLOAT32="<f4", FLOAT64="<f8"
    ).items()
}
_BY_NUMBER = {values_pb2.DType.Value(name): dtype for name, dtype in _DTYPES.items()}
_BY_NAME = {dtype.name: values_pb2.DType.Value(name) for name, dtype in _DTYPES.items()}
_SMALL = 65536  # bytes below which a message cannot take much memory, whatever its fields


class Jpeg(NamedTuple):
    """An image [height, width, 3] uint8 that is still encoded. Who has a decoder decodes it; its size is checked here."""

    data: bytes
    height: int
    width: int


Value = np.ndarray | Jpeg


def jpeg(data: bytes) -> Jpeg:
    """An encoded image with the size that its own header tells.

    Raises:
        WireError: it is no JPEG, or has other than three colours of 8 bits.
    """
    at = 2
    if data[:2] != b"\xff\xd8":
        raise WireError("jpeg: does not begin as a JPEG does")
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's header
            frame = data[at + 4 : at + 10]
            if len(frame) < 6 or frame[0] != 8 or frame[5] != 3:
                raise WireError("jpeg: is not of three colours of 8 bits")
            height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            if not height or not width:
                raise WireError("jpeg: its header tells no size")
            return Jpeg(bytes(data), height, width)
        at += 2 + max(length, 2)
    raise WireError("jpeg: its header tells no size")


def dtype_number(name: str) -> Any:
    """The number of a dtype by numpy's name of it.

    Raises:
        WireError: it cannot be sent.
    """
    if name not in _BY_NAME:
        raise WireError(f"dtype {name} cannot be sent; expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def dtype_name(number: int) -> str:
    """numpy's name of a dtype by its number; raises WireError."""
    if number not in _BY_NUMBER:
        raise WireError(f"dtype: {number} is none of {', '.join(_DTYPES)}")
    return _BY_NUMBER[number].name


def encode(name: str, value: Value, into: values_pb2.Tensor | None = None) -> values_pb2.Tensor:
    """An array or encoded image as a message: `into`, where there is one. A message that is handed to another's constructor is copied.

    Raises:
        WireError: its dtype cannot be sent, or it is not finite.
    """
    message, array = _without_data(name, value, values_pb2.Tensor() if into is None else into)
    if array is not None:
        message.data = array.tobytes()
    return message


def _without_data(name: str, value: Value, message: values_pb2.Tensor) -> tuple[values_pb2.Tensor, np.ndarray | None]:
    """All but the data of an array, and the array as its bytes are to be; an image has them already."""
    message.name = name
    if isinstance(value, Jpeg):
        message.dtype, message.jpeg = values_pb2.UINT8, value.data
        message.shape.extend((value.height, value.width, 3))
        return message, None
    array = np.asarray(value)
    try:
        message.dtype = dtype_number(array.dtype.name)
        _check_finite(array)
    except WireError as error:
        raise WireError(f"{name}: {error}") from None
    message.shape.extend(array.shape)
    return message, array.astype(_BY_NUMBER[message.dtype], copy=False)


def decode(message: values_pb2.Tensor, caps: Caps = CAPS, finite: bool = True) -> Value:
    """What a message holds; arrays are read-only views of its bytes.

    Raises:
        WireError: name, dtype, shape and bytes do not agree, are beyond the caps, or, if `finite`, some number is not.
    """
    name = _checked_name(message.name, caps)
    try:
        return _decode(message, caps, finite)
    except WireError as error:
        raise WireError(f"{name}: {error}") from None


def _decode(message: values_pb2.Tensor, caps: Caps, finite: bool) -> Value:
    dtype_name(message.dtype)  # or it raises
    dtype = _BY_NUMBER[message.dtype]
    if len(message.shape) > caps.rank:
        raise WireError(f"shape: has {len(message.shape)} axes, at most {caps.rank} are allowed")
    shape = tuple(message.shape)
    if 0 in shape:
        raise WireError(f"shape: {shape} has no entries")
    needed = math.prod(shape) * dtype.itemsize
    if needed > caps.message_bytes:
        raise WireError(f"shape: {shape} of {dtype.name} are {needed} bytes, at most {caps.message_bytes} are allowed")
    if message.WhichOneof("content") == "jpeg":
        image = jpeg(message.jpeg)
        if dtype != np.uint8 or shape != (image.height, image.width, 3):
            raise WireError(f"jpeg: is uint8 {(image.height, image.width, 3)}, but dtype and shape say {dtype.name} {shape}")
        return image
    data = message.data
    if len(data) != needed:
        raise WireError(f"data: has {len(data)} bytes, but {dtype.name} {shape} are {needed}")
    if dtype == np.bool_ and any(np.frombuffer(data, np.uint8) > 1):
        raise WireError("data: a bool is 0 or 1")
    array = np.frombuffer(data, dtype).reshape(shape)
    if finite:
        _check_finite(array)
    return array


def encode_observation(seen: Mapping[str, Value | str], into: values_pb2.Observation | None = None) -> values_pb2.Observation:
    """Arrays, encoded images and texts by their names; raises WireError."""
    message = values_pb2.Observation() if into is None else into
    for name, value in seen.items():
        if isinstance(value, str):
            message.texts.add(name=name, value=value)
        else:
            encode(name, value, message.tensors.add())
    return message


def serialize_with(message: Message, field: str, seen: Mapping[str, Value | str]) -> bytes:
    """The bytes of `message`, with an observation in its `field`, which it does not have yet.

    They are those of protobuf, but large arrays are copied once and not four times: fields of a message may stand behind each other.
    """
    parts: list[Any] = []
    for name, value in seen.items():
        if isinstance(value, str):
            parts += _field(values_pb2.Observation.TEXTS_FIELD_NUMBER, [values_pb2.Text(name=name, value=value).SerializeToString()])
            continue
        head, array = _without_data(name, value, values_pb2.Tensor())
        tensor: list[Any] = [head.SerializeToString()]
        if array is not None:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            tensor += _field(values_pb2.Tensor.DATA_FIELD_NUMBER, [data])
        parts += _field(values_pb2.Observation.TENSORS_FIELD_NUMBER, tensor)
    number = message.DESCRIPTOR.fields_by_name[field].number
    return b"".join([message.SerializeToString(), *_field(number, parts)])


def _field(number: int, parts: list[Any]) -> list[Any]:
    """Parts of bytes as a field of that number, below 16."""
    length, prefix = sum(map(len, parts)), bytearray([number << 3 | 2])
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return [bytes(prefix), *parts]


def decode_observation(message: values_pb2.Observation, caps: Caps = CAPS) -> dict[str, Value | str]:
    """The other way round.

    Raises:
        WireError: as `decode`; a name is there twice, or there are too many.
    """
    if len(message.tensors) + len(message.texts) > caps.tensors:
        raise WireError(f"observation: has {len(message.tensors) + len(message.texts)} entries, at most {caps.tensors} are allowed")
    seen: dict[str, Value | str] = {}
    for tensor in message.tensors:
        _once(tensor.name, seen)
        seen[tensor.name] = decode(tensor, caps)
    for name, value in decode_texts(message.texts, caps).items():
        _once(name, seen)
        seen[name] = value
    return seen


def decode_texts(texts: Iterable[values_pb2.Text], caps: Caps = CAPS) -> dict[str, str]:
    """Texts by their names; raises WireError."""
    found: dict[str, str] = {}
    for text in texts:
        _once(_checked_name(text.name, caps), found)
        if len(text.value) > caps.text:
            raise WireError(f"{text.name}: has {len(text.value)} characters, at most {caps.text} are allowed")
        found[text.name] = text.value
    return found


def parse(kind: type[M], data: bytes, caps: Caps = CAPS) -> M:
    """A message of its bytes. What it takes in memory is bounded by the caps.

    Raises:
        WireError: it is too long, has too many fields, or is no message of this kind.
    """
    name = kind.DESCRIPTOR.name
    if len(data) > caps.message_bytes:
        raise WireError(f"{name}: has {len(data)} bytes, at most {caps.message_bytes} are allowed")
    if len(data) > _SMALL:
        _count(kind.DESCRIPTOR, memoryview(data), 0, caps.fields)
    try:
        return kind.FromString(data)
    except DecodeError:
        raise WireError(f"{name}: these {len(data)} bytes are no such message") from None


def check_header(header: values_pb2.Header) -> None:
    """Raises WireError: session, sequence or a hash is not one."""
    if not 0 < len(header.session) <= SESSION:
        raise WireError(f"header.session: has {len(header.session)} characters, expected 1 to {SESSION}")
    if not header.sequence:
        raise WireError("header.sequence: is 0, but counts from 1")
    for name in ("model_hash", "spec_hash"):
        if len(getattr(header, name)) not in (0, HASH):
            raise WireError(f"header.{name}: has {len(getattr(header, name))} bytes, expected {HASH}, or none")


def _check_finite(array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise WireError(f"data: is not finite, {array[where]} at {where}")


def _checked_name(name: str, caps: Caps) -> str:
    if not 0 < len(name) <= caps.name or not name.isprintable():
        raise WireError(f"name: {name[: caps.name]!r} is not 1 to {caps.name} printable characters")
    return name


def _once(name: str, found: Mapping[str, Any]) -> None:
    if name in found:
        raise WireError(f"{name}: is there twice")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 0x80:  # most are of one byte
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError("message: breaks off, or has a number of more than 64 bits")


def _count(descriptor: Any, data: memoryview, count: int, most: int) -> int:
    """`count` and the fields of a message, those of the messages in it and the numbers of its lists; raises WireError above `most`."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            length, at = _varint(data, at)
            field = descriptor.fields_by_number.get(tag >> 3)
            if at + length > len(data):
                raise WireError("message: breaks off")
            if field is not None and field.message_type is not None:
                count = _count(field.message_type, data[at : at + length], count, most)
            elif field is not None and field.type not in (field.TYPE_BYTES, field.TYPE_STRING):
                count += length  # a list of numbers, of at least one byte each
            at += length
        else:
            raise WireError(f"message: has a field of the kind {kind}, which there is not")
        count += 1
        if count > most:
            raise WireError(f"message: has more than {most} fields")
    return count
