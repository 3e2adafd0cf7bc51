"""States as text, written on the device, against plain Python; the tokenizers that they are written with."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.vla import _prefix, _words, pi05
from jaxrl.tokenizers import text
from jaxrl_data.transforms.instruction import Tokenise
from jaxrl_data.transforms.keys import INSTRUCTION
from tests.networks.vla.tokenizing import sentencepiece_file, tokenizers_file

FILES = {"tokenizers": tokenizers_file, "sentencepiece": sentencepiece_file}


def seen(path: str, instruction: str, length: int, form: str) -> np.ndarray:
    """As a data source makes it."""
    made = Tokenise("jaxrl.tokenizers.text.instructions", (path, form), length)({INSTRUCTION: instruction}, None)
    return made[INSTRUCTION]


def told(instruction: str, state, after: str) -> str:
    """As pi0.5 is told it."""
    bins = np.clip(np.digitize(state, np.linspace(-1, 1, 257)[:-1]) - 1, 0, None)
    return f"Task: {instruction}, State: {' '.join(map(str, bins))}{after}"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("after", [pi05.AFTER, ";\n"])
def test_a_state_is_what_python_writes(kind, after, tmp_path):
    path = FILES[kind](tmp_path)
    tokenizer = text.load(path)
    prompts = ["Lift the_red block ", "fold it"]
    state = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 5)).astype(np.float32)
    state[0, :3] = [-1.0, 1.0, 0.99999]
    tables = _words.tables(path, after, 400)
    rows = jnp.asarray(np.stack([seen(path, line, 20, "pi05") for line in prompts]))
    ids, outside = jax.jit(lambda tables, rows, state: _words.written(tables, rows, state, 1.0))(tables, rows, state)
    for row, instruction in enumerate(["Lift the red block", "fold it"]):
        whole = [tokenizer.bos, *tokenizer.encode(told(instruction, state[row], after))]
        assert [int(token) for token in ids[row] if token >= 0] == whole
        assert tokenizer.decode(whole[1:]) == told(instruction, state[row], after)
    np.testing.assert_array_equal(outside, np.abs(state) > 1)
    halved, _ = _words.written(tables, rows, jnp.asarray(state), 2.0)
    np.testing.assert_array_equal(halved, _words.written(tables, rows, jnp.asarray(state / 2), 1.0)[0])


def test_tables_are_read_where_init_runs(tmp_path):
    path = tokenizers_file(tmp_path)
    seen = _prefix.Layout((), ("state/a",), ("a",), 2)
    made = _words.words("text", path, 1.0, ";\n", 400, seen)
    shapes = jax.eval_shape(made.init)
    missing = _words.words("text", str(tmp_path / "none.json"), 1.0, ";\n", 400, seen)
    assert jax.eval_shape(missing.init) == shapes
    found = jax.jit(made.init)()["words"]
    for name, table in _words.tables(path, ";\n", 400).items():
        np.testing.assert_array_equal(found[name], table)


def test_instructions(tmp_path):
    tokenizer = text.load(tokenizers_file(tmp_path))
    own = tokenizer.encode
    assert text.words(tokenizer, " Pick_up\nit ") == [tokenizer.bos, *own("Pick up it"), *own("\n")]
    assert text.words(tokenizer, "Pick", "pi05") == [tokenizer.bos, *own("Task: Pick")]
    assert text.words(tokenizer, "Pick", "pi0_fast") == [tokenizer.bos, *own("Task: pick")]
    whole = text.words(tokenizer, "Pick it")
    path = tokenizers_file(tmp_path)
    padded = seen(path, "Pick it", len(whole) + 2, "pi0")
    assert padded.dtype == np.int32 and padded.tolist() == [*whole, -1, -1]
    with pytest.raises(ValueError, match="there is no form 'pi5' of instructions; did you mean pi05?"):
        text.words(tokenizer, "x", "pi5")


def test_sentencepiece(tmp_path):
    tokenizer = text.load(sentencepiece_file(tmp_path))
    assert (tokenizer.eos, tokenizer.bos) == (1, 2) and tokenizer.size > 260
    assert tokenizer.decode(tokenizer.encode("fold the 7 towels\n")) == "fold the 7 towels\n"


def test_other_tokenizers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="none.json: no such tokenizer"):
        text.load(tmp_path / "none.json")
    (tmp_path / "words.txt").write_text("x")
    with pytest.raises(ValueError, match="words.txt: a tokenizer is a file .model"):
        text.load(tmp_path / "words.txt")
    library = pytest.importorskip("tokenizers", reason='needs pip install "jaxrl[vla]"')
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match="broken.json: is no tokenizer"):
        text.load(tmp_path / "broken.json")
    joined = library.Tokenizer(library.models.BPE())
    joined.train_from_iterator(
        ["7;\nAction: ", "State: 7;\n"] * 9, library.trainers.BpeTrainer(show_progress=False, special_tokens=["<s>", "</s>"])
    )
    joined.save(str(tmp_path / "joined.json"))
    with pytest.raises(ValueError, match="this tokenizer has a token that joins"):
        text.continued(text.load(tmp_path / "joined.json"), "State: 7", ";\nAction: ")
    path = tokenizers_file(tmp_path)
    with pytest.raises(ValueError, match=r"words.json has 2\d\d tokens, but the language model 100; take the one"):
        _words.tables(path, ";\n", 100)


@pytest.mark.parametrize(("library", "name"), [("tokenizers", "words.json"), ("sentencepiece", "words.model")])
def test_a_library_that_is_missing_is_named(library, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).touch()
    with pytest.raises(ImportError, match=f'read with {library}: pip install "jaxrl\\[vla\\]"'):
        text.load(tmp_path / name)
