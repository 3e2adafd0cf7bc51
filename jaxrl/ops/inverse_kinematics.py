"""Joint velocities and configurations that bring a site to a pose: damped least squares.

Nakamura and Hanafusa 1986, "Inverse Kinematic Solutions With Singularity Robustness"; Buss 2004, "Introduction to Inverse Kinematics with
Jacobian Transpose, Pseudoinverse and Damped Least Squares methods". All functions are of one configuration; `vmap` gives them rows.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops import rotations
from jaxrl.ops.kinematics import Chain, advance, difference, like, site_motion
from jaxrl.ops.rotations import length
from jaxrl.types import Array

_LOCKING = 4  # rounds in which joints that would leave their ranges are held and the others take over
_BEND = 0.25  # see _step; twice what two links of any lengths need, stretched out


@dataclass(frozen=True)
class Config:
    """`rows` are those parts of a pose that count: 0 to 2 the position along x, y, z of the world, 3 to 5 turning about them.

    `damping` is told in the unit of singular values, m: directions in which a radian of all joints moves the site by less are damped. So
    velocities are at most the velocity that is asked for over `damping`, also where the arm is singular.
    """

    dt: float = 0.02  # s, the time that a velocity is held
    gain: float = 5.0  # 1/s, of the error
    damping: float = 0.02  # m
    length: float = 0.25  # m that count as much as a radian
    reach: float = 0.2  # m, errors that are larger count as this much
    speed: float | tuple[float, ...] = np.inf  # rad/s or m/s, of each velocity [V] or of all
    posture_gain: float = 1.0  # 1/s, towards the posture as far as the site does not move
    rows: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    velocities: tuple[int, ...] = ()  # the numbers of those that may move, all where there is none

    def __post_init__(self) -> None:
        for name in ("dt", "damping", "length", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        if not 0 < self.gain * self.dt <= 1:
            raise ValueError(
                f"gain {self.gain} times dt {self.dt} is {self.gain * self.dt}: a step removes a share of the error, above 0 and up to 1"
            )
        if not 0 <= self.posture_gain * self.dt <= 1:
            raise ValueError(f"posture_gain {self.posture_gain} times dt {self.dt} must be a share, from 0 to 1")
        if not np.all(np.asarray(self.speed) > 0):
            raise ValueError(f"speed is {self.speed}, but must be positive")
        if not self.rows or sorted(set(self.rows)) != list(self.rows) or not set(self.rows) <= set(range(6)):
            raise ValueError(f"rows is {self.rows}, but names numbers from 0 to 5, in their order")
        if sorted(set(self.velocities)) != list(self.velocities):
            raise ValueError(f"velocities is {self.velocities}, but names numbers in their order, each once")


class Solution(NamedTuple):
    """Of `solve`. Errors are of the rows that count."""

    qpos: Array  # [nq]
    converged: Array  # [] bool
    position_error: Array  # [] m
    rotation_error: Array  # [] rad
    iterations: Array  # [] int32


Settings = tuple[Config, int, float, float]


def error(pose: Array, target: Array) -> Array:
    """The way from one pose [7] to another as a twist [6] in the frame of the world: m, and rad about an axis through the pose."""
    turn = rotations.multiply(target[:4], rotations.inverse(pose[:4]))
    return jnp.concatenate((target[4:] - pose[4:], rotations.write(turn, "vector")))


def velocity(
    chain: Chain,
    qpos: Array,
    site: Array | int,
    target: Array,
    config: Config = Config(),
    posture: Array | None = None,
    twist: Array | None = None,
) -> Array:
    """The velocity [V] for the next `dt` that brings a site towards `target` [7], which itself moves at `twist` [6] in m/s and rad/s.

    Joints stay within their ranges: what one of them cannot do is asked of the others. One that is found outside comes back as errors do,
    at most at its speed. Where one would be too fast, all are slowed alike, so that the site keeps its direction. What the task leaves
    free goes to the configuration `posture` [nq].

    Raises:
        ValueError: speed or velocities do not fit the chain.
    """
    return _step(config, chain, qpos, site, target, posture, twist)[0]


def solve(
    chain: Chain,
    qpos: Array,
    site: Array | int,
    target: Array,
    config: Config = Config(),
    posture: Array | None = None,
    iterations: int = 100,
    position_tolerance: float = 1e-4,
    rotation_tolerance: float = 1e-3,
    step: float = 0.5,
) -> Solution:
    """A configuration whose site is at `target` [7], found from `qpos` [nq]; if there is none, one that is as close as possible nearby.

    Steps of `velocity` that remove the whole error, each of at most `step` rad and m in any joint; gain, dt and speed of `config` do not
    count. It ends at the tolerances [m, rad], where nothing moves any more, or after `iterations`. From one start it may end in a local
    minimum: try several by `vmap`.

    The gradient is that of one more step (Bolte et al. 2023, https://arxiv.org/abs/2305.13768): with respect to `target` and `chain` that
    of the implicit function, as far as the target is reached, by the shortest change of the configuration. It is 0 with respect to
    `qpos` and `posture`.
    """
    whole = replace(config, dt=1.0, gain=1.0, speed=step, posture_gain=min(config.posture_gain, 1.0))
    found, count = _search((whole, iterations, position_tolerance, rotation_tolerance), chain, qpos, site, target, posture)
    position, rotation = _errors(error(site_motion(chain, found, site)[0], target), config)
    return Solution(found, (position <= position_tolerance) & (rotation <= rotation_tolerance), position, rotation, count)


def _errors(off: Array, config: Config) -> tuple[Array, Array]:
    """[m], [rad] of an error [6], in the rows that count."""
    rows = list(config.rows)
    counted = jnp.zeros(6, off.dtype).at[jnp.array(rows)].set(1) * off
    return length(counted[:3]), length(counted[3:])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _search(settings: Settings, chain: Chain, qpos: Array, site: Array | int, target: Array, posture: Array | None) -> tuple[Array, Array]:
    """The configuration in which `solve` ends, and the number of steps to it."""
    config, iterations, position_tolerance, rotation_tolerance = settings

    def go_on(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] < iterations) & ~state[2]

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        qpos, count, _ = state
        change, off = _step(config, chain, qpos, site, target, posture, None)
        position, rotation = _errors(off, config)
        there = (position <= position_tolerance) & (rotation <= rotation_tolerance)
        ended = there | (jnp.max(jnp.abs(change)) < 1e-5)
        return jnp.where(ended, qpos, _moved(chain, qpos, change)), count + jnp.where(ended, 0, 1), ended

    start = _moved(chain, qpos, jnp.zeros(chain.moves.shape[0], qpos.dtype))
    end, count, _ = jax.lax.while_loop(go_on, body, (start, jnp.zeros((), jnp.int32), jnp.zeros((), bool)))
    return end, count


@_search.defjvp
def _search_jvp(settings: Settings, primals: tuple, tangents: tuple) -> tuple:
    chain, _, site, target, posture = primals
    end, count = _search(settings, *primals)

    def once_more(chain: Chain, target: Array) -> Array:
        return _moved(chain, end, _step(settings[0], chain, end, site, target, posture, None)[0])

    _, changed = jax.jvp(once_more, (chain, target), (tangents[0], tangents[3]))
    return (end, count), (changed, np.zeros((), jax.dtypes.float0))


def _moved(chain: Chain, qpos: Array, change: Array) -> Array:
    """`advance`, and not past a limit: by rounding, or where a joint was found outside."""
    limits = like(chain, qpos).range
    return jnp.clip(advance(chain, qpos, change), limits[:, 0], limits[:, 1])


def _step(
    config: Config, chain: Chain, qpos: Array, site: Array | int, target: Array, posture: Array | None, twist: Array | None
) -> tuple[Array, Array]:
    """The velocity [V], and the error [6] that it is an answer to."""
    chosen = _chosen(chain, config)
    pose, jacobian = site_motion(chain, qpos, site)
    off = error(pose, target)
    rows = np.array(config.rows)
    weight = jnp.asarray(np.where(rows < 3, 1.0, config.length), qpos.dtype)
    wanted = config.gain * _clipped(weight * off[rows], config.reach)
    matrix = weight[:, None] * jacobian[rows][:, chosen]
    # Paths bend: a step that is right by the Jacobian misses by its square times a lever times what is left of the error. Stretched out
    # towards what is out of reach an arm would swing to and fro for ever, so large errors are damped as well (Chan and Lawrence 1988,
    # "General inverse kinematics with the error damped pseudoinverse").
    lever = jnp.max(length(matrix.T))
    bend = _BEND * config.dt * length(wanted) * lever
    if twist is not None:
        wanted = wanted + weight * twist[rows]
    leisure = jnp.zeros(len(chosen), qpos.dtype)
    if posture is not None:
        leisure = config.posture_gain * difference(chain, qpos, posture)[chosen]
    size = chain.moves.shape[0]
    speed = jnp.broadcast_to(jnp.asarray(config.speed, qpos.dtype), (size,))
    bounds = _bounds(chain, qpos, config, speed)[chosen]
    found = _within(matrix, wanted, leisure, bounds, speed[chosen], config.damping, bend)
    return jnp.zeros(size, qpos.dtype).at[chosen].set(found), off


def _chosen(chain: Chain, config: Config) -> np.ndarray:
    """The numbers of the velocities that may move."""
    size = chain.moves.shape[0]
    if isinstance(config.speed, tuple) and len(config.speed) != size:
        raise ValueError(f"speed has {len(config.speed)} numbers, but the chain has {size} velocities")
    if config.velocities and not (0 <= config.velocities[0] and config.velocities[-1] < size):
        raise ValueError(f"velocities is {config.velocities}, but the chain has {size}, counted from 0")
    return np.array(config.velocities or range(size))


def _clipped(vector: Array, longest: float) -> Array:
    return vector * longest * jax.lax.rsqrt(jnp.maximum(jnp.sum(vector * vector), longest**2))


def _bounds(chain: Chain, qpos: Array, config: Config, speed: Array) -> Array:
    """[V, 2] the velocities with which joints come to their limits in `dt`; those that are outside come back as errors do."""
    bounds = ((like(chain, qpos).range - qpos[:, None]) / config.dt)[chain.velocity_coordinate]
    back = config.gain * config.dt * bounds
    low = jnp.where(bounds[:, 0] > 0, jnp.minimum(back[:, 0], speed), bounds[:, 0])
    high = jnp.where(bounds[:, 1] < 0, jnp.maximum(back[:, 1], -speed), bounds[:, 1])
    return jnp.stack((low, high), -1)


def _within(matrix: Array, wanted: Array, leisure: Array, bounds: Array, speed: Array, damping: float, least: Array) -> Array:
    """`_damped`, slowed down to `speed` [n], within bounds [n, 2]: what exceeds one stays there, and the rest is solved anew without it.

    Baerlocher and Boulic 2004, "An inverse kinematics architecture enforcing an arbitrary number of strict priority levels", section 5.
    """
    low, high = bounds[:, 0], bounds[:, 1]

    def again(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], Array]:
        held, at, share = state
        rest = share * wanted - _product(matrix, at)
        found = jnp.where(held, at, _damped(jnp.where(held[None], 0, matrix), rest, share * leisure, damping, least))
        slower = 1 / jnp.maximum(jnp.max(jnp.abs(found) / speed), 1)
        found = slower * found
        held = held | (found < low) | (found > high)
        return (held, jnp.where(held, jnp.clip(found, low, high), 0), share * slower), found

    start = (jnp.zeros(len(leisure), bool), jnp.zeros_like(leisure), jnp.ones((), leisure.dtype))
    _, found = jax.lax.scan(again, start, length=_LOCKING)
    return jnp.clip(found[-1], low, high)


def _damped(matrix: Array, wanted: Array, leisure: Array, damping: float, least: Array) -> Array:
    """The shortest x [n] for which matrix [m, n] x is `wanted` [m], damped where the matrix nearly loses rank, and `leisure` [n] within
    the directions that the matrix takes to 0.

    The squared damping is what the square of the smallest singular value lacks to `damping` squared, or `least`: Nakamura and Hanafusa 1986
    with the singular value in place of the manipulability. So no singular value s asks for more than 1 / damping of the joints, which is
    the most that s / (s^2 + damping^2 - smallest^2) can be.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    square = _product(matrix, matrix.T) if wide else _product(matrix.T, matrix)
    unit = jnp.eye(len(square), dtype=square.dtype)

    def answer(inverse: Array, task: Array) -> Array:
        return _product(matrix.T, _product(inverse, task)) if wide else _product(inverse, _product(matrix.T, task))

    # A trace of damping, without which there might be no inverse. Leisure needs no more to be bounded, and with more would move the site.
    trace = jnp.maximum((damping / 10) ** 2, 16 * jnp.finfo(square.dtype).eps * jnp.trace(square))
    almost = _inverse(square + trace * unit)
    missing = jnp.maximum(damping**2 - (_smallest(almost) - trace), least)
    aside = leisure - answer(almost, _product(matrix, leisure))
    return answer(_inverse(square + missing * unit), wanted) + aside


def _inverse(square: Array) -> Array:
    """Of a symmetric positive definite matrix [m, m], by sweeping one pivot after the other.

    Goodnight 1979, "A tutorial on the SWEEP operator".
    Not LAPACK's: where two batched calls of it run at once, each waits on all threads of XLA's pool for parts that no thread is left to
    do, and a program on two cores stops for ever (jaxlib 0.10.2).
    """
    at = jnp.arange(len(square))

    def sweep(swept: Array, pivot: Array) -> tuple[Array, None]:
        here = at == pivot
        column = swept[:, pivot]
        scaled = column / column[pivot]
        row_or_column = here[:, None] != here[None]
        changed = jnp.where(row_or_column, jnp.where(here[None], scaled[:, None], scaled[None]), swept - scaled[:, None] * column[None])
        return jnp.where(here[:, None] & here[None], -1 / column[pivot], changed), None

    return -jax.lax.scan(sweep, square, at)[0]


def _smallest(inverse: Array) -> Array:
    """Nearly the smallest eigenvalue of a positive definite matrix [m, m], told by its inverse: the 8-norm of eigenvalues.

    It is at most m^(1/8) times less, and has a gradient where eigenvalues are equal.
    """
    size = jnp.trace(inverse)
    square = _product(inverse / size, inverse / size)
    fourth = _product(square, square)
    return jnp.sum(fourth * fourth) ** (-1 / 8) / size


def _product(first: Array, second: Array) -> Array:
    """In full precision, of which accelerators give away three digits by default."""
    return jnp.matmul(first, second, precision="highest")
