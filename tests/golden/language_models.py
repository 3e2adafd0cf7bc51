"""What transformers 4.57 makes of Gemma, Llama and PaliGemma, small ones: run by a Python that has it, as the tests have not.

    python tests/golden/language_models.py [FILE]        # writes language_models.npz beside itself

Weights follow from their names in files of safetensors (`named.py`). `tests/networks/transformer/test_language_models.py` compares: what is
said of the next token, slopes of the sum of it with random factors, and tokens written one after the other from a cache. The numbers of
parameters of the published sizes are those of models without memory.
"""

import tempfile
from pathlib import Path
from typing import Any

import named
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import library as operators

library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
    try:
        library.define(signature)
    except RuntimeError:  # it does fit
        pass

from transformers import (  # noqa: E402
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
)

TEXT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "head_dim": 8, "pad_token_id": 0, "eos_token_id": None}
GEMMA = GemmaConfig(**TEXT, num_attention_heads=4, num_key_value_heads=1, intermediate_size=40, hidden_activation="gelu_pytorch_tanh")
GROUPED: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "rms_norm_eps": 1e-5}
LLAMA = LlamaConfig(**TEXT, **GROUPED, rope_theta=1e5, tie_word_embeddings=False)
SIGLIP: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
IMAGE = 49  # the token that pictures take the place of
PALIGEMMA = PaliGemmaConfig(
    vision_config=SIGLIP | {"model_type": "siglip_vision_model", "intermediate_size": 32, "projection_dim": 24, "vision_use_head": False},
    text_config=GEMMA.to_dict(),
    image_token_index=IMAGE,
    projection_dim=24,
    hidden_size=24,
)
# Of config.json on the hub. Gemma has 256 000 tokens there, PaliGemma 257 216 with the 64 that fill its table up.
WIDE: dict[str, Any] = {"hidden_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256}
SMOL: dict[str, Any] = {"hidden_size": 960, "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5}
PUBLISHED = {
    "gemma_2b": (GemmaForCausalLM, GemmaConfig(vocab_size=256_000, intermediate_size=16384, **WIDE)),
    "gemma_300m": (GemmaForCausalLM, GemmaConfig(vocab_size=1, intermediate_size=4096, **WIDE | {"hidden_size": 1024})),
    "llama2_7b": (LlamaForCausalLM, LlamaConfig()),
    "smollm2_360m": (LlamaForCausalLM, LlamaConfig(vocab_size=49_152, intermediate_size=2560, tie_word_embeddings=True, **SMOL)),
    "paligemma_3b_224": (
        PaliGemmaForConditionalGeneration,
        PaliGemmaConfig(
            vision_config={
                "model_type": "siglip_vision_model",
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "patch_size": 14,
                "image_size": 224,
                "projection_dim": 2048,
                "vision_use_head": False,
            },
            text_config={"model_type": "gemma", "vocab_size": 257_216, "intermediate_size": 16384, **WIDE},
            projection_dim=2048,
            hidden_size=2048,
        ),
    ),
}


def filled(model: Any, prefix: str) -> tuple[Any, np.ndarray]:
    """With the weights of the names that its file has, and these names with their shapes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = str(Path(folder) / "model.safetensors")
        shapes = {name: tuple(value.shape) for name, value in load_file(file).items()}
        weights = named.weights(shapes, prefix)
        save_file(weights if prefix == "llama/" else named.centred(weights), file, {"format": "pt"})
        read = type(model).from_pretrained(folder, attn_implementation="eager").eval()
    return read, np.array([f"{name} {' '.join(map(str, shape))}" for name, shape in sorted(shapes.items())])


def slopes(model: Any, output: torch.Tensor, name: str) -> dict[str, np.ndarray]:
    """Of the sum of `output` with factors that are called after `name`, by the names in files."""
    factors = torch.from_numpy(named.draws(f"{name} factors", tuple(output.shape)))
    seen = name == "paligemma"
    in_file = lambda own: own.removeprefix("model." * seen).replace("language_model.", "language_model.model." if seen else "")  # noqa: E731
    learnt = {in_file(own): x for own, x in model.named_parameters()}
    found = torch.autograd.grad((output * factors).sum(), list(learnt.values()))
    told = {n: slope.numpy() for n, slope in zip(learnt, found, strict=True)}
    return {"names": np.array(sorted(told)), "slopes": named.told(told)}


def text(name: str, model: Any) -> dict[str, np.ndarray]:
    """Two rows, of which the second begins with padding; then six tokens that follow each, the likeliest ones."""
    model, state = filled(model, f"{name}/")
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 49, (2, 7)))
    valid = torch.tensor([[1] * 7, [0, 0, *[1] * 5]])
    output = model(ids, attention_mask=valid, position_ids=(valid.cumsum(-1) - 1).clip(0)).logits
    counted = output * valid[..., None]
    settings: dict[str, Any] = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True, "use_cache": True}
    written = model.generate(ids, attention_mask=valid, max_new_tokens=6, **settings)
    said = torch.stack(written.logits, 1)
    found = {"state": state, "ids": ids, "valid": valid, "logits": counted.detach(), "written": written.sequences[:, 7:], "said": said}
    return {f"{name}/{part}": np.asarray(x) for part, x in (found | slopes(model, counted, name)).items()}


def seeing(name: str) -> dict[str, np.ndarray]:
    """A picture and three tokens that see each other, then four of text; the last of the second row are padding."""
    model, state = filled(PaliGemmaForConditionalGeneration(PALIGEMMA), f"{name}/")
    ids = torch.from_numpy(np.random.default_rng(1).integers(1, 49, (2, 11)))
    ids[:, :4] = IMAGE
    valid = torch.tensor([[1] * 11, [*[1] * 9, 0, 0]])
    kinds = torch.tensor([[0] * 7 + [1] * 4] * 2)
    pictures = torch.from_numpy(named.draws("paligemma pictures", (2, 3, 16, 16)))
    output = model(ids, pictures, attention_mask=valid, token_type_ids=kinds, labels=ids).logits
    counted = output * valid[..., None]
    found = {"state": state, "ids": ids, "valid": valid, "kinds": kinds, "logits": counted.detach()}
    return {f"{name}/{part}": np.asarray(x) for part, x in (found | slopes(model, counted, name)).items()}


def main() -> None:
    torch.manual_seed(0)
    found = text("gemma", GemmaForCausalLM(GEMMA)) | text("llama", LlamaForCausalLM(LLAMA)) | seeing("paligemma")
    with torch.device("meta"):
        counts = {name: make(config).num_parameters() for name, (make, config) in PUBLISHED.items()}
    found["published"], found["counts"] = np.array(list(counts)), np.array(list(counts.values()))
    named.write(__file__, found, "torch", "transformers")


if __name__ == "__main__":
    main()
