"""Small tokenizers of text, trained where they are needed."""

from pathlib import Path

import pytest

TEXTS = [
    "Task: lift the red block, State: 127 3 255 0 18;\nAction: lift it",
    "Task: put the carrot on the plate, State: 64 200 5 99;\nAction: open the drawer",
    "Task: fold the towel, State: 31 47 86 250;\nAction: turn left",
]


def tokenizers_file(folder: Path, vocabulary: int = 290) -> str:
    """One of the package tokenizers, whose digits are tokens of their own."""
    library = pytest.importorskip("tokenizers", reason='needs pip install "jaxrl[vla]"')
    bpe = library.Tokenizer(library.models.BPE())
    parts = [library.pre_tokenizers.Digits(individual_digits=True), library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = library.pre_tokenizers.Sequence(parts)
    bpe.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(TEXTS * 4, trainer)
    path = folder / "words.json"
    bpe.save(str(path))
    return str(path)


def sentencepiece_file(folder: Path, **fields: bool) -> str:
    """One of sentencepiece, set up as Gemma's."""
    library = pytest.importorskip("sentencepiece", reason='needs pip install "jaxrl[vla]"')
    texts = folder / "texts.txt"
    texts.write_text("\n".join(line for text in TEXTS for line in text.split("\n")))
    setting = {"split_digits": True, "add_dummy_prefix": False, "remove_extra_whitespaces": False, "byte_fallback": True} | fields
    library.SentencePieceTrainer.train(
        input=str(texts),
        model_prefix=str(folder / "words"),
        model_type="bpe",
        vocab_size=360,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
        **setting,
    )
    return str(folder / "words.model")
