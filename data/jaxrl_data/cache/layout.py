"""The names of a cache's files, and its plan: which episodes each shard holds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Features

VERSION = 1
PLAN, CACHE, INDEX, EPISODES = "plan.json", "cache.json", "index.npz", "episodes.json"
LENGTHS, HASHES = "lengths.npy", "hashes.npy"


@dataclass(frozen=True)
class Plan:
    """What is prepared. `without` are columns that are left out."""

    path: str
    name: str
    split: str
    fingerprint: str
    size: int  # episodes of the source
    episodes_per_shard: int
    features: Features
    without: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.size // self.episodes_per_shard)

    def episodes(self, shard: int) -> tuple[int, int]:
        """The first of a shard, and the one behind its last."""
        first = shard * self.episodes_per_shard
        return first, min(first + self.episodes_per_shard, self.size)


def shard_folder(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{shard:05d}"


def column_file(kind: str, name: str, end: str = "npy") -> str:
    """That of a column; `kind` is "array", "image" or "text"."""
    return f"{kind}.{quote(name, safe='')}.{end}"


def to_json(plan: Plan) -> str:
    """A plan as text."""
    return json.dumps({"version": VERSION, **asdict(plan)}, indent=1)


def _specs(table: Mapping[str, Any]) -> dict[str, ArraySpec]:
    def plain(one: Mapping[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}

    return {name: ArraySpec(**plain(one)) for name, one in table.items()}


def from_json(text: str, where: str) -> Plan:
    """The inverse of `to_json`. Raises ValueError, which begins with `where`: this is no plan, or one of another version."""
    try:
        fields = json.loads(text)
        version = fields.pop("version")
        if version != VERSION:
            raise ValueError(f"its version is {version}, and this code reads {VERSION}; prepare the data again")
        told = fields.pop("features")
        features = Features(_specs(told["arrays"]), _specs(told["images"]), tuple(told["texts"]), told["rate"])
        return Plan(**fields | {"without": tuple(fields["without"])}, features=features)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where}: is no plan of a cache ({error})") from error
