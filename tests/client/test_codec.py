"""Every message is what it says, within the caps, or refused by the name of the field."""

import io
import tracemalloc

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from jaxrl_client import codec
from jaxrl_client.codec import CAPS, WireError
from jaxrl_client.protos import policy_pb2, robot_pb2, values_pb2

DTYPES = ("bool", "uint8", "uint16", "int32", "int64", "float16", "float32", "float64")
KINDS = [
    kind
    for module in (values_pb2, policy_pb2, robot_pb2)
    for kind in vars(module).values()
    if isinstance(kind, type) and hasattr(kind, "DESCRIPTOR")
]


@hypothesis.given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=5))))
def test_arrays_come_back_as_they_were(array):
    hypothesis.assume(array.dtype.kind != "f" or np.isfinite(array).all())
    message = codec.encode("a", array)
    found = codec.decode(values_pb2.Tensor.FromString(message.SerializeToString()))
    assert found.dtype == array.dtype and not found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_arrays_of_other_memory_layouts_come_back():
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    np.testing.assert_array_equal(codec.decode(codec.encode("a", array)), array)
    np.testing.assert_array_equal(codec.decode(codec.encode("a", np.asarray(3.0, np.float32))), np.float32(3.0))


def _tensor(**changed):
    fields = dict(name="state/q", dtype=values_pb2.FLOAT32, shape=(2, 3), data=bytes(24)) | changed
    return values_pb2.Tensor(**{name: value for name, value in fields.items() if value is not None})


MALFORMED = [
    (dict(name=""), "name"),
    (dict(name="a" * 200), "name"),
    (dict(name="a\n"), "name"),
    (dict(dtype=0), "dtype"),
    (dict(dtype=99), "dtype"),
    (dict(shape=(2, 4)), "data: has 24 bytes"),
    (dict(shape=(2, 0)), "no entries"),
    (dict(shape=(1,) * 9), "axes"),
    (dict(shape=(50000, 50000)), "shape: .* 10000000000 bytes"),
    (dict(shape=(2**32 - 1,) * 8), "shape"),
    (dict(data=bytes(23)), "data: has 23 bytes"),
    (dict(data=None), "data: has 0 bytes"),
    (dict(dtype=values_pb2.FLOAT64), "48"),
    (dict(dtype=values_pb2.BOOL, shape=(2,), data=b"\x01\x02"), "bool is 0 or 1"),
    (dict(data=np.array([[0, 0, np.nan], [0, 0, 0]], "f4").tobytes()), r"nan at \(0, 2\)"),
    (dict(data=np.array([[0, 0, 0], [np.inf, 0, 0]], "f4").tobytes()), r"inf at \(1, 0\)"),
    (dict(data=None, jpeg=b"\xff\xd8\xff\xc0"), "jpeg"),
    (dict(data=None, jpeg=b"no"), "jpeg"),
]


@pytest.mark.parametrize("changed, said", MALFORMED)
def test_what_is_malformed_is_refused_by_the_name_of_the_field(changed, said):
    with pytest.raises(WireError, match=said) as raised:
        codec.decode(_tensor(**changed))
    assert changed.get("name") is not None or str(raised.value).startswith("state/q: ")


def test_what_is_not_finite_is_neither_sent_nor_passed_unless_it_is_asked_for():
    with pytest.raises(WireError, match=r"^action: data: is not finite, nan at \(1,\)"):
        codec.encode("action", np.array([0, np.nan]))
    found = codec.decode(_tensor(shape=(1,), data=np.float32(np.nan).tobytes()), finite=False)
    assert np.isnan(found).all()


def test_dtypes_that_cannot_be_sent_are_named():
    for value, name in ((np.array(["a"]), "str"), (np.array([None]), "object"), (np.zeros(1, complex), "complex128")):
        with pytest.raises(WireError, match=f"^a: dtype {name}.*expected one of bool"):
            codec.encode("a", value)


def _jpeg(height, width, mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "JPEG")
    return file.getvalue()


def test_images_travel_encoded_and_their_size_is_read_of_themselves():
    image = codec.jpeg(_jpeg(48, 64))
    assert (image.height, image.width) == (48, 64)
    assert codec.decode(codec.encode("image/wrist", image)) == image
    bomb = codec.encode("image/wrist", image)
    bomb.shape[0] = 47
    with pytest.raises(WireError, match=r"image/wrist: jpeg: is uint8 \(48, 64, 3\), but .* \(47, 64, 3\)"):
        codec.decode(bomb)
    with pytest.raises(WireError, match="three colours"):
        codec.jpeg(_jpeg(8, 8, "L"))


def test_observations():
    seen = {"state/q": np.arange(3.0), "image/wrist": np.zeros((4, 5, 3), np.uint8), "task/instruction": "lift the cube"}
    message = codec.encode_observation(seen)
    found = codec.decode_observation(message)
    assert list(found) == list(seen) and found["task/instruction"] == "lift the cube"
    np.testing.assert_array_equal(found["state/q"], seen["state/q"])
    message.texts.add(name="state/q")
    with pytest.raises(WireError, match="state/q: is there twice"):
        codec.decode_observation(message)
    message.texts[-1].name, message.texts[-1].value = "task/other", "a" * (CAPS.text + 1)
    with pytest.raises(WireError, match="task/other: has 16385 characters"):
        codec.decode_observation(message)
    for _ in range(CAPS.tensors):
        message.texts.add(name="more")
    with pytest.raises(WireError, match=f"at most {CAPS.tensors}"):
        codec.decode_observation(message)


@hypothesis.given(st.dictionaries(st.text("abc/", min_size=1, max_size=9), st.sampled_from(["text", "jpeg", *DTYPES]), max_size=5))
def test_bytes_that_are_put_together_are_those_of_the_message(kinds):
    rng = np.random.default_rng(0)
    others = {"text": "lift the cube" * 40, "jpeg": codec.jpeg(SMALL)}
    seen = {name: others[kind] if kind in others else rng.random((3, 2, 5))[:, :, ::2].astype(kind) for name, kind in kinds.items()}
    whole = policy_pb2.InferRequest(epoch=3, step=7)
    whole.header.session, whole.header.sequence = "a", 1
    data = codec.serialize_with(whole, "observation", seen)
    codec.encode_observation(seen, whole.observation)
    whole.observation.SetInParent()
    assert codec.parse(policy_pb2.InferRequest, data) == whole


def test_headers():
    good = dict(session="a", sequence=1, model_hash=bytes(32), spec_hash=b"")
    codec.check_header(values_pb2.Header(**good))
    for changed, said in ((dict(session=""), "session"), (dict(session="a" * 65), "session"), (dict(sequence=0), "sequence")):
        with pytest.raises(WireError, match=said):
            codec.check_header(values_pb2.Header(**good | changed))
    with pytest.raises(WireError, match=r"header.spec_hash: has 31 bytes"):
        codec.check_header(values_pb2.Header(**good | dict(spec_hash=bytes(31))))


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_no_bytes_bring_about_anything_but_a_message_or_an_error(kind, data):
    try:
        message = codec.parse(kind, data)
    except WireError:
        return
    _decode_all(message)


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(st.data())
def test_no_damage_to_a_good_message_does_either(data):
    seen = {"state/q": np.arange(6.0).reshape(2, 3), "image/wrist": codec.jpeg(SMALL), "task/instruction": "go"}
    good = policy_pb2.InferRequest(epoch=1, step=2, observation=codec.encode_observation(seen))
    good.header.session, good.header.sequence = "a", 1
    damaged = bytearray(good.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        hypothesis.assume(damaged)
    try:
        message = codec.parse(policy_pb2.InferRequest, bytes(damaged))
    except WireError:
        return
    _decode_all(message)


SMALL = _jpeg(8, 8)


def _decode_all(message):
    """Decodes each array and observation in a message: either they are well, or a WireError says what is not."""
    for field, value in message.ListFields():
        for part in value if field.message_type and not hasattr(value, "DESCRIPTOR") else [value]:
            if isinstance(part, (values_pb2.Tensor, values_pb2.Observation)):
                try:
                    (codec.decode if isinstance(part, values_pb2.Tensor) else codec.decode_observation)(part)
                except WireError as error:
                    assert str(error)
            elif isinstance(part, values_pb2.Header):
                try:
                    codec.check_header(part)
                except WireError as error:
                    assert str(error).startswith("header.")
            elif field.message_type:
                _decode_all(part)


def _field(number, data):
    """A field of bytes as it is on the wire."""
    length, varint = len(data), b""
    while length > 127:
        varint, length = varint + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + varint + bytes([length]) + data


HUNGRY = {  # messages that are small on the wire and, if somebody believed them, a hundred times as large in memory
    "a million empty tensors": _field(5, b"\n\0" * 10**6),
    "a million texts": _field(5, b"\x12\0" * 10**6),
    "four million sizes": _field(5, _field(1, _field(3, bytes(4 * 10**6)))),
    "a million headers": b"\n\0" * 10**6,
    "a million unknown fields": b"\xf8\x7f\x01" * 10**6,
    "groups in groups": b"\x73" * 10**5,
}


@pytest.mark.parametrize("name", HUNGRY)
def test_messages_that_would_be_large_in_memory_are_refused_before_they_are(name):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(WireError, match="more than 4096 fields|kind 3"):
        codec.parse(policy_pb2.InferRequest, HUNGRY[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**13  # KiB: what protobuf itself allocates


def test_messages_that_are_too_long_or_break_off_are_refused():
    with pytest.raises(WireError, match=f"InferReply: has {CAPS.message_bytes + 1} bytes, at most {CAPS.message_bytes}"):
        codec.parse(policy_pb2.InferReply, bytes(CAPS.message_bytes + 1))
    long = policy_pb2.InferReply(actions=codec.encode("action", np.zeros((100, 100, 4)))).SerializeToString()
    codec.parse(policy_pb2.InferReply, long)
    for data in (long[:-1], long + b"\n", long + b"\xff" * 11):
        with pytest.raises(WireError, match="breaks off"):
            codec.parse(policy_pb2.InferReply, data)
    with pytest.raises(WireError, match="InferReply: these 2 bytes"):
        codec.parse(policy_pb2.InferReply, b"\n\x05")
