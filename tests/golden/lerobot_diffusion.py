"""What the Diffusion Policy of LeRobot (0.4.4) and the schedulers of diffusers compute, with all that they are given.

    python tests/golden/lerobot_diffusion.py [FILE]         # run by a Python that has LeRobot; writes lerobot_diffusion.npz beside itself

The tests of U-Net, samplers and objective compare. Parameters are under their names in torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import named
import numpy as np
import torch
from torch import library as operators

library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
    try:
        library.define(signature)
    except RuntimeError:  # it does fit
        pass

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler  # noqa: E402
from diffusers.schedulers import scheduling_ddpm  # noqa: E402
from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig  # noqa: E402
from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel  # noqa: E402

BATCH, OBSERVED, STATE, ENVIRONMENT, ACTION, HORIZON = 3, 2, 3, 2, 2, 16
WIDTHS = (8, 16, 16)
GRADIENTS = (
    "down_modules.0.0.conv1.block.0.weight",
    "down_modules.1.2.weight",
    "mid_modules.0.cond_encoder.1.weight",
    "mid_modules.1.conv2.block.1.weight",
    "up_modules.0.0.residual_conv.weight",
    "up_modules.1.2.weight",
    "diffusion_step_encoder.1.bias",
    "final_conv.1.weight",
)
found: dict[str, np.ndarray] = {}


def keep(name: str, value: torch.Tensor) -> torch.Tensor:
    found[name] = value.detach().numpy().copy()
    return value


def model(scheduler: str) -> DiffusionModel:
    return DiffusionModel(
        DiffusionConfig(
            n_obs_steps=OBSERVED,
            horizon=HORIZON,
            n_action_steps=8,
            down_dims=WIDTHS,
            diffusion_step_embed_dim=16,
            noise_scheduler_type=scheduler,
            input_features={
                "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
                "observation.environment_state": PolicyFeature(FeatureType.ENV, (ENVIRONMENT,)),
            },
            output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        )
    )


class Fed:
    """Hands out what was drawn before in place of what a module would draw."""

    def __init__(self, *draws: torch.Tensor) -> None:
        self.draws = list(draws)

    def __call__(self, *_: object, **__: object) -> torch.Tensor:
        return self.draws.pop(0)


def training(policy: DiffusionModel, batch: dict[str, torch.Tensor]) -> None:
    """The loss with noise and steps that are kept, and some gradients."""
    noise, step = keep("loss/noise", torch.randn(BATCH, HORIZON, ACTION)), keep("loss/step", torch.tensor([0, 37, 99]))
    drawn = torch.randn, torch.randint
    torch.randn, torch.randint = Fed(noise), Fed(step)
    loss = policy.compute_loss(batch)
    torch.randn, torch.randint = drawn
    keep("loss/value", loss)
    loss.backward()
    parameters = dict(policy.unet.named_parameters())
    for name in GRADIENTS:
        keep(f"gradient/{name}", parameters[name].grad)


def from_start(policy: DiffusionModel, condition: torch.Tensor) -> None:
    """Chunks of all three samplers; what DDPM adds at each step is kept.

    Without noise added, a hundred steps of a network that was not trained make a number in ten thousand out of the last bit of one, so
    that no two programs agree; 25 do not.
    """
    start = keep("sample/start", torch.randn(BATCH, HORIZON, ACTION))
    added = keep("sample/added", torch.randn(99, BATCH, HORIZON, ACTION))
    with torch.no_grad(), feeding(*added):
        keep("sample/ddpm_100", policy.conditional_sample(BATCH, condition, noise=start))
    for name, number, scheduler in (
        ("ddim", 25, model("DDIM").noise_scheduler),
        ("dpm_solver", 20, DPMSolverMultistepScheduler(100, beta_schedule="squaredcos_cap_v2")),
    ):
        policy.noise_scheduler, policy.num_inference_steps = scheduler, number
        with torch.no_grad():
            keep(f"sample/{name}_{number}", policy.conditional_sample(BATCH, condition, noise=start))


@contextmanager
def feeding(*draws: torch.Tensor) -> Iterator[None]:
    """What DDPM's scheduler draws."""
    drawn, scheduling_ddpm.randn_tensor = scheduling_ddpm.randn_tensor, Fed(*draws)
    yield
    scheduling_ddpm.randn_tensor = drawn


def predictions() -> None:
    """Schedulers under an answer that never changes, for all that networks may predict; 7 of 10 steps leave some over."""
    noisy, output = keep("step/noisy", torch.randn(1, 4, 2)), keep("step/output", torch.randn(1, 4, 2))
    added = keep("step/added", torch.randn(9, 1, 4, 2))
    options = {"num_train_timesteps": 10, "beta_schedule": "squaredcos_cap_v2"}
    kinds = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpm_solver": DPMSolverMultistepScheduler}
    for ours, theirs in (("epsilon", "epsilon"), ("sample", "sample"), ("v", "v_prediction")):
        for name, kind in kinds.items():
            for number in (4, 7):
                scheduler, x = kind(prediction_type=theirs, **options), noisy
                scheduler.set_timesteps(number)
                with feeding(*added):
                    for time in scheduler.timesteps:
                        x = scheduler.step(output, time, x).prev_sample
                keep(f"step/{name}/{ours}/{number}", x)


def main() -> None:
    torch.manual_seed(0)
    policy = model("DDPM")
    for name, value in policy.unet.state_dict().items():
        keep(f"parameter/{name}", value)
    batch = {
        "observation.state": keep("state", torch.randn(BATCH, OBSERVED, STATE)),
        "observation.environment_state": keep("environment", torch.randn(BATCH, OBSERVED, ENVIRONMENT)),
        "action": keep("action", torch.randn(BATCH, HORIZON, ACTION).clamp(-1, 1)),
        "action_is_pad": torch.zeros(BATCH, HORIZON, dtype=torch.bool),
    }
    condition = policy._prepare_global_conditioning(batch)
    noisy, step = keep("forward/noisy", torch.randn(BATCH, HORIZON, ACTION)), keep("forward/step", torch.tensor([3, 50, 98]))
    keep("forward/output", policy.unet(noisy, step, global_cond=condition))
    training(policy, batch)
    from_start(policy, condition)
    predictions()
    for name in ("squaredcos_cap_v2", "linear"):
        scheduler = DDPMScheduler(100, beta_schedule=name)
        keep(f"schedule/{name}/betas", scheduler.betas)
        keep(f"schedule/{name}/alpha_bar", scheduler.alphas_cumprod)
    named.write(__file__, found, "lerobot", "diffusers", "torch")


if __name__ == "__main__":
    main()
