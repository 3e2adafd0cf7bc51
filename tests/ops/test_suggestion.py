import pytest

from jaxrl.ops.suggestion import suggestion


@pytest.mark.parametrize(
    ("words", "told"), [(["adamw", "adam", "sgd"], "did you mean adam?"), (["sgd", "lion"], "there are sgd, lion"), ([], "there are none")]
)
def test_nearest_or_all(words, told):
    assert suggestion("adm", words) == told
