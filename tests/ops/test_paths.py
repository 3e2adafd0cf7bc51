import numpy as np
import pytest

from jaxrl.ops.paths import check_patterns, flatten_names, map_with_path, matching, merge, overlay, split
from jaxrl.types import Transition

TREE = {"backbone": {"layer": {"kernel": 1, "bias": 2}}, "head": {"kernel": 3}}


def test_flat_names_join_keys_fields_and_indices():
    step = Transition({"state/x": 1}, 2, 3, 4, 5, {"state/x": 6}, {"log_prob": (7, 8)})
    names = flatten_names({"step": step})
    assert names["step/observation/state/x"] == 1 and names["step/next_observation/state/x"] == 6
    assert names["step/extras/log_prob/0"] == 7 and names["step/extras/log_prob/1"] == 8 and len(names) == 8


def test_paths_are_joined_by_slashes():
    assert map_with_path(lambda path, leaf: f"{path}={leaf}", {"a": {"b": 1}, "c": 2}) == {"a": {"b": "a/b=1"}, "c": "c=2"}


def test_matching_is_a_search():
    assert matching(["^backbone", "nothing"], TREE) == {"backbone": {"layer": {"kernel": True, "bias": True}}, "head": {"kernel": False}}


@pytest.mark.parametrize("patterns", [(), ("kernel$",), ("^backbone/",), (".",)])
def test_merge_undoes_split(patterns):
    chosen, rest = split(patterns, TREE)
    assert merge(chosen, rest) == merge(rest, chosen) == TREE


def test_split_takes_whole_leaves_and_leaves_no_empty_branches():
    chosen, rest = split(("^backbone/",), TREE)
    assert chosen == {"backbone": TREE["backbone"]} and rest == {"head": {"kernel": 3}}


def test_merge_prefers_the_second():
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}


def test_unmatched_pattern_is_named():
    with pytest.raises(ValueError, match="frozen: the pattern 'siglip' matches no parameter; there are backbone/layer/"):
        check_patterns(("head", "siglip"), TREE, "frozen")


FRESH = {"actor": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "critic": np.zeros(1)}


def test_overlay_takes_what_is_given_and_keeps_the_rest():
    laid = overlay(FRESH, {"actor": {"bias": np.ones(3)}})
    assert laid["actor"]["bias"].all() and laid["actor"]["kernel"] is FRESH["actor"]["kernel"] and laid["critic"] is FRESH["critic"]
    assert flatten_names(overlay(FRESH, {"critic": {}})).keys() == flatten_names(FRESH).keys()


@pytest.mark.parametrize(
    ("pretrained", "message"),
    [
        ({"actor": {"bias": np.ones(4)}}, r"pretrained actor/bias has the shape \(4,\), but this model has \(3,\)"),
        (
            {"actr": {"bias": np.ones(3)}},
            r"pretrained actr/bias has the shape \(3,\), but this model has no such parameter; there are actor/",
        ),
        ({"actor": np.ones(3)}, r"pretrained actor has the shape \(3,\), but this model has no such parameter"),
    ],
)
def test_overlay_refuses_what_does_not_fit(pretrained, message):
    with pytest.raises(ValueError, match=message):
        overlay(FRESH, pretrained)
