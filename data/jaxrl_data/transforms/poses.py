"""Actions told in another frame or another form, and told back to the robot.

What a robot's pose was when an action was told relative to it is left in the sample under "reference/...", where no normalisation reaches
it: training ignores it, serving hands it back beside the chunk.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from jaxrl.types import ArraySpec
from jaxrl_data.rotations import NAMES, UNIT, convert, read, width, wrapped, write
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, MASK, needed, spliced, within


def _referred(sample: Sample, reference: str, state: str, what: str) -> Sample:
    """The sample with its last observation of `state` [D] under `reference`."""
    if state not in sample:
        raise ValueError(f"{what}: needs {state}, which the sample lacks")
    if reference in sample:
        raise ValueError(f"{what}: {reference} is there already: two of these cannot share one state")
    return {**sample, reference: np.asarray(sample[state])[-1].astype(np.float32)}


def _reference(sample: Sample, reference: str, what: str) -> np.ndarray:
    if reference not in sample:
        raise ValueError(f"{what}: needs {reference}, which the call left in the observation; hand it back beside the action")
    return np.asarray(sample[reference])


@dataclass(frozen=True)
class DeltaAction:
    """Actions of the chunk less the state at its start, for pairs of columns; the inverse gives what a robot is commanded.

    All steps of the chunk are told from the one state that is known when it is made.
    """

    state: str  # the key, such as "observation/state/joint"
    pairs: tuple[tuple[int, int], ...]  # column of the action, column of the state
    angles: tuple[int, ...] = ()  # of those columns of the action, the ones that go round: told and given back within [-pi, pi)

    def __post_init__(self) -> None:
        if not set(self.angles) <= {action for action, _ in self.pairs}:
            raise ValueError("DeltaAction: angles names a column that is in no pair")

    def _moved(self, action: np.ndarray, reference: np.ndarray, sign: float) -> np.ndarray:
        """`reference` [..., D], `action` [..., horizon, A]."""
        moved = np.array(action, np.float32)
        for column, source in self.pairs:
            moved[..., column] += sign * reference[..., None, source]
        columns = list(self.angles)
        moved[..., columns] = wrapped(moved[..., columns])
        return moved

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        sample = _referred(sample, f"reference/delta/{self.state}", self.state, "DeltaAction")
        if ACTION not in sample:
            return sample
        return {**sample, ACTION: self._moved(sample[ACTION], sample[f"reference/delta/{self.state}"], -1.0)}

    def inverse(self, sample: Sample) -> Sample:
        if ACTION not in sample:
            return sample
        reference = _reference(sample, f"reference/delta/{self.state}", "DeltaAction")
        return {**sample, ACTION: self._moved(sample[ACTION], reference, 1.0)}

    def spec(self, before: Spec) -> Spec:
        state, action = needed(before, self.state, "DeltaAction"), needed(before, ACTION, "DeltaAction")
        within(tuple(column for column, _ in self.pairs), action, ACTION, "DeltaAction")
        within(tuple(column for _, column in self.pairs), state, self.state, "DeltaAction")
        told = {f"reference/delta/{self.state}": ArraySpec(state.shape[1:], names=state.names, unit=state.unit)}
        return {**before, ACTION: replace(action, low=None, high=None), **told}


Pose = tuple[np.ndarray, Rotation]


@dataclass(frozen=True)
class RelativePose:
    """Poses of the chunk as seen from the gripper where it is at the chunk's start; inverse: in the frame of the robot's base.

    The position becomes R^T (p' - p) and the rotation R^T R', with p, R of the last observation. Chi et al. 2024, "Universal Manipulation
    Interface", section 3.2. A pose is x, y, z and a rotation behind it. Two arms take two of these.
    """

    state: str  # the key, such as "observation/state/eef"
    action_first: int = 0  # column of x
    state_first: int = 0
    rotation: str = "euler"  # how the action writes it; a form of `rotations`
    state_rotation: str = "euler"
    history_too: bool = False  # whether the observations of the state are told from there as well

    def __post_init__(self) -> None:
        width(self.rotation)
        width(self.state_rotation)
        if self.action_first < 0 or self.state_first < 0:
            raise ValueError("RelativePose: action_first and state_first are columns, counted from 0")

    @property
    def _key(self) -> str:
        return f"reference/pose/{self.action_first}/{self.state}"

    def _pose(self, values: np.ndarray, first: int, form: str) -> Pose:
        return values[..., first : first + 3].astype(float), read(values[..., first + 3 : first + 3 + width(form)], form)

    def _told(self, values: np.ndarray, first: int, form: str, reference: np.ndarray, back: bool) -> np.ndarray:
        """`values` [..., N, D] from or to the frame of `reference` [..., D']."""
        steps = np.broadcast_to(reference[..., None, :], (*values.shape[:-1], reference.shape[-1]))
        origin, frame = self._pose(steps, self.state_first, self.state_rotation)
        position, rotation = self._pose(values, first, form)
        flat, start = position.reshape(-1, 3), origin.reshape(-1, 3)
        moved = frame.apply(flat) + start if back else frame.apply(flat - start, inverse=True)
        turned = frame * rotation if back else frame.inv() * rotation
        changed = np.array(values, np.float32)
        changed[..., first : first + 3] = moved.reshape(position.shape)
        changed[..., first + 3 : first + 3 + width(form)] = write(turned, form, values.shape[:-1])
        return changed

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        sample = _referred(sample, self._key, self.state, "RelativePose")
        reference = sample[self._key]
        if self.history_too:
            sample[self.state] = self._told(sample[self.state], self.state_first, self.state_rotation, reference, back=False)
        if ACTION in sample:
            sample[ACTION] = self._told(sample[ACTION], self.action_first, self.rotation, reference, back=False)
        return sample

    def inverse(self, sample: Sample) -> Sample:
        if ACTION not in sample:
            return sample
        reference = _reference(sample, self._key, "RelativePose")
        return {**sample, ACTION: self._told(np.asarray(sample[ACTION]), self.action_first, self.rotation, reference, back=True)}

    def spec(self, before: Spec) -> Spec:
        state, action = needed(before, self.state, "RelativePose"), needed(before, ACTION, "RelativePose")
        within((self.action_first + 2 + width(self.rotation),), action, ACTION, "RelativePose")
        within((self.state_first + 2 + width(self.state_rotation),), state, self.state, "RelativePose")
        told = {self._key: ArraySpec(state.shape[1:], names=state.names, unit=state.unit)}
        return {**before, ACTION: replace(action, low=None, high=None), **told}


@dataclass(frozen=True)
class ConvertRotation:
    """The rotation in the columns from `first` on, written in another form; of an action, its mask too."""

    key: str
    first: int
    before: str  # forms of `rotations`
    after: str

    def __post_init__(self) -> None:
        width(self.before)
        width(self.after)
        if self.first < 0:
            raise ValueError(f"ConvertRotation: first is {self.first}, but is a column, counted from 0")

    def _converted(self, values: np.ndarray, before: str, after: str) -> np.ndarray:
        end = self.first + width(before)
        if values.shape[-1] < end:
            raise ValueError(f"ConvertRotation: {self.key} has {values.shape[-1]} dimensions, but its {before} ends at {end}")
        rotation = convert(values[..., self.first : end], before, after)
        return np.concatenate((values[..., : self.first], rotation, values[..., end:]), axis=-1).astype(np.float32)

    def _masked(self, mask: np.ndarray, before: str, after: str) -> np.ndarray:
        end = self.first + width(before)
        rotation = np.repeat(mask[..., self.first : end].min(axis=-1, keepdims=True), width(after), axis=-1)
        return np.concatenate((mask[..., : self.first], rotation, mask[..., end:]), axis=-1)

    def _changed(self, sample: Sample, before: str, after: str) -> Sample:
        changed = {**sample, self.key: self._converted(np.asarray(sample[self.key]), before, after)}
        if self.key == ACTION and MASK in sample:
            changed[MASK] = self._masked(sample[MASK], before, after)
        return changed

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        return self._changed(sample, self.before, self.after) if self.key in sample else sample

    def inverse(self, sample: Sample) -> Sample:
        return self._changed(sample, self.after, self.before) if self.key == ACTION and ACTION in sample else sample

    def spec(self, before: Spec) -> Spec:
        spec = needed(before, self.key, "ConvertRotation")
        within((self.first + width(self.before) - 1,), spec, self.key, "ConvertRotation")
        changed = {self.key: spliced(spec, self.first, width(self.before), NAMES[self.after], UNIT[self.after])}
        if self.key == ACTION and MASK in before:
            changed[MASK] = replace(before[MASK], shape=changed[ACTION].shape)
        return {**before, **changed}
