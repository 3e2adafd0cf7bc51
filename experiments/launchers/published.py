"""Returns that others have published, and which of our experiments stand beside them."""

from collections.abc import Mapping
from typing import NamedTuple

Return = tuple[float, float | None]  # mean and standard deviation over seeds


class Table(NamedTuple):
    """One table of docs/results.md."""

    config: str  # the experiment file, which takes a task behind its colon
    published: Mapping[str, Return]
    seeds: int  # that the published deviations are of
    chosen: tuple[str, ...]  # tasks that are trained unless others are named, the quick ones first
    margin: float  # how many standard errors of the difference ours may be below theirs


# CleanRL, ppo_continuous_action.py through shimmy, 8 million steps without action repeat, last training returns
# (https://docs.cleanrl.dev/rl-algorithms/ppo/).
PPO: dict[str, Return] = {
    "acrobot_swingup": (27.84, 9.25),
    "ball_in_cup_catch": (900.78, 5.26),
    "cartpole_balance": (855.47, 22.06),
    "cartpole_balance_sparse": (999.93, 0.10),
    "cartpole_swingup": (640.86, 11.44),
    "cartpole_swingup_sparse": (51.34, 58.35),
    "cheetah_run": (432.56, 82.54),
    "finger_spin": (590.49, 171.09),
    "finger_turn_easy": (180.42, 44.91),
    "finger_turn_hard": (61.40, 9.59),
    "fish_swim": (87.91, 6.83),
    "fish_upright": (516.21, 59.52),
    "hopper_hop": (0.52, 0.48),
    "hopper_stand": (2.72, 1.72),
    "humanoid_run": (1.11, None),
    "humanoid_stand": (6.59, None),
    "humanoid_walk": (1.73, None),
    "pendulum_swingup": (242.81, 245.95),
    "quadruped_run": (180.44, 32.91),
    "quadruped_walk": (239.03, 66.17),
    "reacher_easy": (626.28, 15.51),
    "reacher_hard": (443.80, 9.64),
    "walker_run": (125.92, 10.01),
    "walker_stand": (564.46, 235.22),
    "walker_walk": (392.51, 56.25),
}

# SAC as the authors of SimbaV2 ran it, at 100,000 frames (https://github.com/dojeon-ai/SimbaV2, results/baseline): each action repeated
# twice, two updates for each decision, two or three seeds.
SAC: dict[str, Return] = {
    "acrobot_swingup": (45, 5),
    "ball_in_cup_catch": (972, 1),
    "cartpole_balance": (995, 3),
    "cartpole_swingup": (861, 4),
    "cartpole_swingup_sparse": (266, 352),
    "cheetah_run": (178, 30),
    "finger_spin": (475, 15),
    "finger_turn_easy": (284, 126),
    "finger_turn_hard": (165, 121),
    "fish_swim": (80, 12),
    "hopper_hop": (0, 1),
    "hopper_stand": (31, 40),
    "humanoid_run": (1, 0),
    "humanoid_stand": (6, 0),
    "humanoid_walk": (2, 0),
    "pendulum_swingup": (818, 14),
    "quadruped_run": (74, 60),
    "quadruped_walk": (114, 51),
    "reacher_easy": (931, 43),
    "reacher_hard": (602, 91),
    "walker_run": (111, 4),
    "walker_stand": (884, 15),
    "walker_walk": (449, 83),
}
THREE = ("cartpole_swingup", "ball_in_cup_catch", "walker_walk")

TABLES = {
    "ppo": Table(
        config="ppo_control_suite.py",
        published=PPO,
        seeds=10,
        chosen=("cartpole_swingup", "finger_spin", "reacher_easy", "cheetah_run", "ball_in_cup_catch", "walker_walk"),
        margin=1.0,
    ),
    "sac": Table("sac_control_suite.py", SAC, seeds=3, chosen=THREE, margin=1.0),
    "simba": Table("simba_control_suite.py", SAC, seeds=3, chosen=THREE, margin=0.0),  # which is to do better than SAC
}
