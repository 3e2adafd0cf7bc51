"""Consistency distillation: chunks in one step, learnt from a trained `diffusion` or `flow` (Song et al. 2023,
https://arxiv.org/abs/2303.01469, algorithm 2; for policies Prasad et al. 2024, https://arxiv.org/abs/2405.07503).

The teacher is what the run `config.pretrained` deploys: of the same network, and with the same numbers. It is no parameter but a statistic,
so nothing moves it. A student begins as a copy, and learns to say the same at both ends of a step that the teacher takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.generative import consistency as process
from jaxrl.generative import rows, schedules
from jaxrl.losses.denoising import Prediction, converted, flow_ends
from jaxrl.losses.regression import absolute_error, pseudo_huber_distance
from jaxrl.networks.interface import Denoiser
from jaxrl.ops.padding import masked_mean
from jaxrl.ops.paths import flatten_names, merge
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree

_OF_DIFFUSION = ("num_steps", "schedule", "prediction")


@dataclass(frozen=True)
class Config:
    """The teacher takes a step of first order, DDIM's or Euler's, from each of `points` to the next. More of them follow its way more
    closely, and what is learnt at the chunk's end takes longer to reach the other.

    `num_steps`, `schedule` and `prediction` are those of a diffusion that teaches. Its student says v: where the teacher does so too, it
    begins with the teacher's own chunks. `clip_sample` bounds chunks as there; a flow's have no bound.

    `target_decay` is that of the average of the student which tells what is right at the later end of a step. Of `inference_steps`, all but
    the first begin with the chunk under noise again.
    """

    teacher: Literal["diffusion", "flow"] = "diffusion"
    points: int = 40
    num_steps: int = 100
    schedule: schedules.Name = "squaredcos_cap_v2"
    prediction: Prediction = "epsilon"
    clip_sample: float = 5.0
    target_decay: float = 0.95
    inference_steps: int = 1

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points is {self.points}, but must be at least 1")
        if self.teacher == "diffusion" and self.points >= self.num_steps:
            raise ValueError(f"points is {self.points}, but must be below num_steps, {self.num_steps}")
        if not 1 <= self.inference_steps <= self.points:
            raise ValueError(f"inference_steps is {self.inference_steps}, but must be from 1 to points, {self.points}")
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"target_decay is {self.target_decay}, but must be in [0, 1); 0 takes the student as it is")
        if self.clip_sample < 0:
            raise ValueError(f"clip_sample is {self.clip_sample}, but must be 0 (do not clip) or above")

    def way(self) -> process.Way:
        if self.teacher == "flow":
            return process.straight(self.points)
        return process.diffused(schedules.schedule(self.schedule, self.num_steps), self.points)


def taught(config: Config, learnt: Mapping[str, Array], objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """What a run has learnt, by flat name, with the student that begins as its copy; `objectives` are the sections of its config.

    A run of `consistency` has a student of its own, which goes on.

    Raises:
        ValueError: the run holds no such teacher, or one of other numbers.
    """
    if any(name.startswith("consistency/") for name in learnt):
        return dict(learnt)
    here, who = f"{config.teacher}/", f"jaxrl.objectives.{config.teacher}"
    found = [section for section in objectives.values() if section["name"] == who]
    if not found or not any(name.startswith(here) for name in learnt):
        raise ValueError(f"consistency learns from {who}, but that run has {', '.join(s['name'] for s in objectives.values())}")
    for field in _OF_DIFFUSION if config.teacher == "diffusion" else ():
        if (own := getattr(config, field)) != found[0][field]:
            raise ValueError(f"{field} is {own!r}, but that of the teacher is {found[0][field]!r}; make it the same")
    return dict(learnt) | {f"consistency/{name.removeprefix(here)}": x for name, x in learnt.items() if name.startswith(here)}


def ends(config: Config, way: process.Way, say: rows.Denoise, x: Array, i: Array) -> tuple[Array, Array]:
    """The chunk and the noise, both [B, H, A], that a teacher makes out of x at points i [B]."""
    output = say(x, process.times(way, i))
    if config.teacher == "flow":
        return flow_ends(output, x, process.times(way, i))
    alpha_bar = jnp.square(jnp.asarray(way.signal, jnp.float32))[i]
    chunk, noise = (converted(output, x, alpha_bar, config.prediction, wanted) for wanted in ("sample", "epsilon"))
    return (jnp.clip(chunk, -config.clip_sample, config.clip_sample) if config.clip_sample else chunk), noise


def _like(template: PyTree, tree: PyTree) -> PyTree:
    """The part of nested dicts that has the names of `template`."""
    return {name: _like(part, tree[name]) if isinstance(part, Mapping) else tree[name] for name, part in template.items()}


def consistency(config: Config, spec: PolicySpec, network: Denoiser) -> Objective:
    """A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding.

    Padding is 0 before noise is added, and the networks see that noise; whatever it held reaches neither network, loss nor gradient. The
    distance is one of whole chunks, which each of their elements has. `sample` takes in a `prefix` of the chunk in flight by inpainting.

    Raises:
        ValueError: actions are no vectors; in `sample`, there is a chunk in flight, but a single step to fit another to it.
    """
    check_continuous(spec.action, "consistency", "the policy")
    shape, way, teacher = (spec.horizon, int(spec.action.shape[0])), config.way(), config.teacher
    templates = jax.eval_shape(network.init, jax.random.key(0))
    if both := sorted(flatten_names(templates[0]).keys() & flatten_names(templates[1]).keys()):
        raise ValueError(f"consistency keeps parameters and statistics of its teacher in one tree, but both have {both[0]}; rename one")

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        target = {"params": jax.tree.map(jnp.copy, params), "updates": jnp.zeros((), jnp.int32)}
        first = network.init(jax.random.fold_in(key, 1))  # until `taught` is laid over it
        return {"consistency": params}, {"consistency": statistics, "consistency_target": target, teacher: merge(*first)}

    def moved(target: PyTree, params: Params) -> PyTree:
        """The average, with what the parameters are now in it; before that it is worth nothing."""
        decay = jnp.where(target["updates"] == 0, 0.0, config.target_decay)
        average = jax.tree.map(lambda a, b: a + (1.0 - decay) * (b - a), target["params"], jax.lax.stop_gradient(params))
        return {"params": average, "updates": target["updates"] + 1}

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        own, action = params["consistency"], batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        chunk = jnp.where(mask > 0, action, 0.0)
        of_point, of_noise, of_encoder, of_network = jax.random.split(key, 4)
        target = moved(statistics["consistency_target"], own)

        def saying(params: Params, statistics: PyTree, train: bool = True) -> tuple[rows.Denoise, PyTree]:
            # The same key for all three: they look at the same pictures.
            condition, kept = network.encode(params, statistics, batch["observation"], of_encoder, train=True)
            return (lambda x, time: network.denoise(params, x, time, condition, of_network, train=train)), kept

        student, kept = saying(own, statistics["consistency"])
        average, _ = saying(target["params"], statistics["consistency"])
        teaching, beside = (_like(template, statistics[teacher]) for template in templates)
        known, _ = saying(teaching, beside, train=False)
        i = jax.random.randint(of_point, action.shape[:1], 0, config.points)
        x = process.level(way, chunk, jax.random.normal(of_noise, action.shape), i)
        made_out, noise = ends(config, way, known, x, i)
        after = process.level(way, made_out, noise, i + 1)
        goal = jax.lax.stop_gradient(process.end(way, average, after, i + 1))
        found = process.end(way, student, x, i)
        elements = jnp.broadcast_to(pseudo_huber_distance(found, goal, mask)[:, None, None], mask.shape)
        # Of a teacher that was forgotten, or was taught by other numbers, this is far from what it was there.
        metrics = {
            "distance": masked_mean(absolute_error(found, chunk), mask),
            "teacher": masked_mean(absolute_error(made_out, chunk), mask),
        }
        return elements, mask, statistics | {"consistency": kept, "consistency_target": target}, metrics

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        if context is not None and config.inference_steps == 1:
            raise ValueError("consistency: a single step cannot fit a chunk to the one in flight; set inference_steps to 2 or more")
        own = params["consistency"]
        condition, _ = network.encode(own, statistics["consistency"], observation)
        return process.sample(
            way,
            config.inference_steps,
            lambda x, time: network.denoise(own, x, time, condition),
            rows.normal(rows.numbered(key, 0), shape),
            lambda step: rows.normal(rows.numbered(key, step), shape),
            config.clip_sample if teacher == "diffusion" else 0.0,
            rows.prefix(context, spec.horizon),
        )

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
