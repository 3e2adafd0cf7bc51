import pytest

from jaxrl.ops.paths import check_patterns, map_with_path, matching, merge, split

TREE = {"backbone": {"layer": {"kernel": 1, "bias": 2}}, "head": {"kernel": 3}}


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
