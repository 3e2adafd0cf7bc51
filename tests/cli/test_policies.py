"""What `config.policies` puts around a policy that reads the past."""

import pytest

from jaxrl.cli.imitation import with_policies
from jaxrl.cli.settings import Settings
from jaxrl.policies.constant import constant
from jaxrl.types import Algorithm, ArraySpec, PolicySpec

POLICY = constant(PolicySpec({"state/eef": ArraySpec((2, 6))}, ArraySpec((9,)), 4, rate=10.0), 0.1)
RELATIVE = {"name": "relative_pose", "history_too": True}


def put_around(*sections: dict) -> Algorithm:
    settings = Settings(algorithm={}, source={"name": "jaxrl_data.dataset_source", "history": 2}, policies=sections)
    return with_policies(settings, Algorithm(*7 * (None,))._replace(policy=POLICY))


def test_the_past_is_kept_around_what_tells_it_from_the_present():
    for sections in ((), (RELATIVE,), (RELATIVE, {"name": "temporal_ensemble"}), ({"name": "receding_horizon", "executed_steps": 2},)):
        policy = put_around(*sections).policy
        assert policy.spec.observation["state/eef"].shape == (6,)
        remembered = policy.init(3)
        while "seen" not in remembered:
            remembered = remembered["inner"]
        assert remembered["seen"]["state/eef"].shape == (3, 2, 6)


def test_another_order_is_refused_by_its_place():
    with pytest.raises(ValueError, match=r"config.policies\[1\], relative_pose: .* mixed with earlier ones"):
        put_around({"name": "temporal_ensemble"}, RELATIVE)
