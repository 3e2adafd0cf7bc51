import pytest

from jaxrl.ops.specs import from_json, to_json
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec(
    observation={"state/joint": ArraySpec((2,), names=("hip", "knee"), unit="rad", low=-1.0), "image/wrist": ArraySpec((8, 8, 3), "uint8")},
    action=ArraySpec((2,), low=(-1.0, -2.0), high=(1.0, 2.0)),
    horizon=4,
    rate=50.0,
    extras={"log_prob": ArraySpec(())},
)


def test_round_trip():
    assert from_json(to_json(SPEC)) == SPEC


@pytest.mark.parametrize("text", ["", "{}", "[]", to_json(SPEC).replace('"rate"', '"pace"'), to_json(SPEC)[:-9]])
def test_garbage_is_no_spec(text):
    with pytest.raises(ValueError, match="this is no policy spec"):
        from_json(text)
