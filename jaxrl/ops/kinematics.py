"""Where the bodies and sites of a tree of joints are, and how they move: forward kinematics, Jacobians, configurations along velocities.

All functions are of one configuration; `vmap` gives them rows. Conventions are MuJoCo's: qpos [nq] with quaternions for balls, velocities
[V] with rotations of balls in the frame that the joint turns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import poses, rotations
from jaxrl.types import Array


class Chain(NamedTuple):
    """A tree of rigid bodies as arrays, JAX's or numpy's: an argument like any other, to be mapped over or differentiated by.

    It has N bodies, M sites, V velocities and L links. A link is what one coordinate moves: a body with two joints is two links, a free
    joint is three slides and a ball. Link 0 is the world.
    """

    ancestors: Array  # [K, L] int, the link 2^k steps closer to the world
    place: Array  # [L, 7] pose in the frame of the link before it, where its coordinate is at `reference`
    hinge: Array  # [L, 3] axis of length 1, 0 of links that are no hinge
    slide: Array  # [L, 3] likewise
    pivot: Array  # [L, 3] m, the point that hinge or ball turns about
    coordinate: Array  # [L] int, where in qpos a hinge or slide is; anywhere of other links
    reference: Array  # [L] rad or m
    ball: Array  # [Q] int, the links that are balls
    ball_coordinate: Array  # [Q] int, the first of their four numbers in qpos
    ball_velocity: Array  # [Q] int, the first of their three velocities
    body_link: Array  # [N] int
    site_link: Array  # [M] int
    site_place: Array  # [M, 7] pose in the frame of the link
    velocity_link: Array  # [V] int
    velocity_hinge: Array  # [V, 3] axis in the frame of the link, 0 of slides
    velocity_slide: Array  # [V, 3] likewise
    velocity_coordinate: Array  # [V] int, where in qpos a hinge or slide is; within the quaternion of a ball
    moves: Array  # [V, L] bool, whether the velocity moves the link
    range: Array  # [nq, 2] rad or m, infinite where there is no limit and of balls


def link_poses(chain: Chain, qpos: Array) -> Array:
    """[L, 7] in the frame of the world.

    Each round joins paths that are twice as long, K in all, by a scan: the program has one composition however deep the tree is. Written
    out level by level, XLA on a CPU computes each level anew for every use by the next, in a time that is exponential in the depth.
    """
    chain = like(chain, qpos)
    moved = qpos[chain.coordinate] - chain.reference
    turn = rotations.read(chain.hinge * moved[:, None], "vector")
    if len(chain.ball):
        turn = turn.at[chain.ball].set(_ball_rotations(chain, qpos))
    shift = chain.slide * moved[:, None] + chain.pivot - rotations.rotate(turn, chain.pivot)
    local = poses.compose(chain.place, jnp.concatenate((turn, shift), -1))
    ended, _ = jax.lax.scan(lambda pose, before: (poses.compose(pose[before], pose), None), local, chain.ancestors)
    return ended


def body_poses(chain: Chain, qpos: Array) -> Array:
    """[N, 7] in the frame of the world; bodies count as in the model, the world is body 0."""
    return link_poses(chain, qpos)[chain.body_link]


def site_poses(chain: Chain, qpos: Array) -> Array:
    """[M, 7] in the frame of the world."""
    return poses.compose(link_poses(chain, qpos)[chain.site_link], like(chain, qpos).site_place)


def jacobian(chain: Chain, links: Array, link: Array | int, point: Array) -> Array:
    """[6, V] what velocities do to a point [3] of the world that moves with a link: its velocity [m/s] above the turning rate [rad/s].

    `links` [L, 7] are the `link_poses`. Geometric: both in the frame of the world, and no derivative of any way to write a rotation.
    """
    chain = like(chain, links)
    frame = links[chain.velocity_link]
    axis = rotations.rotate(frame[:, :4], chain.velocity_hinge)
    along = rotations.rotate(frame[:, :4], chain.velocity_slide)
    arm = point[None] - poses.apply(frame, chain.pivot[chain.velocity_link])
    columns = jnp.concatenate((jnp.cross(axis, arm) + along, axis), -1)
    return jnp.where(chain.moves[:, link][:, None], columns, 0).T


def site_motion(chain: Chain, qpos: Array, site: Array | int) -> tuple[Array, Array]:
    """The pose of a site [7] and its `jacobian` [6, V]."""
    chain = like(chain, qpos)
    links = link_poses(chain, qpos)
    link = chain.site_link[site]
    pose = poses.compose(links[link], chain.site_place[site])
    return pose, jacobian(chain, links, link, pose[4:])


def site_jacobian(chain: Chain, qpos: Array, site: Array | int) -> Array:
    """`jacobian` [6, V] of a site."""
    return site_motion(chain, qpos, site)[1]


def body_jacobian(chain: Chain, qpos: Array, body: Array | int) -> Array:
    """`jacobian` [6, V] of a body's origin."""
    chain = like(chain, qpos)
    links = link_poses(chain, qpos)
    link = chain.body_link[body]
    return jacobian(chain, links, link, links[link, 4:])


def advance(chain: Chain, qpos: Array, change: Array) -> Array:
    """The configuration [nq] after moving by `change` [V], a velocity times a time."""
    chain = like(chain, qpos)
    moved = qpos.at[chain.velocity_coordinate].add(change)  # numbers of balls too, which are overwritten
    if len(chain.ball):
        turned = rotations.multiply(_ball_rotations(chain, qpos), rotations.read(change[_after(chain.ball_velocity, 3)], "vector"))
        moved = moved.at[_after(chain.ball_coordinate, 4)].set(turned)
    return moved


def difference(chain: Chain, qpos: Array, other: Array) -> Array:
    """The shortest change [V] by which `advance` comes from `qpos` [nq] to `other` [nq]."""
    chain = like(chain, qpos)
    change = (other - qpos)[chain.velocity_coordinate]
    if len(chain.ball):
        between = rotations.multiply(rotations.inverse(_ball_rotations(chain, qpos)), _ball_rotations(chain, other))
        change = change.at[_after(chain.ball_velocity, 3)].set(rotations.write(between, "vector"))
    return change


def like(chain: Chain, values: Array) -> Chain:
    """The chain as JAX's arrays, its numbers in the precision of `values`."""
    return jax.tree.map(lambda x: jnp.asarray(x, values.dtype if jnp.issubdtype(x.dtype, jnp.floating) else None), chain)


def _after(first: Array, size: int) -> Array:
    """[Q] indices to [Q, size], each with those that follow."""
    return first[:, None] + jnp.arange(size)[None]


def _ball_rotations(chain: Chain, qpos: Array) -> Array:
    """[Q, 4] of length 1."""
    return rotations.normalised(qpos[_after(chain.ball_coordinate, 4)])
