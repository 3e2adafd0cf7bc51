"""What LeRobot's residual quantiser does in a few steps: run by a Python that has LeRobot (0.4.4), which the tests have not.

    python tests/golden/residual_vq.py [FILE]       # writes residual_vq.json beside itself

`tests/tokenizers/test_residual_vq.py` compares.
"""

import json
import sys
from pathlib import Path

import torch
from torch import library as operators

library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
    try:
        library.define(signature)
    except RuntimeError:  # it does fit
        pass

from lerobot.policies.vqbet.vqbet_utils import ResidualVQ  # noqa: E402

QUANTIZERS, CODES, SIZE, ROWS, STEPS = 2, 5, 4, 12, 6
COMMITMENT = 3.0  # weight in the loss whose gradient is told


def plain(x: torch.Tensor) -> list:
    return json.loads(json.dumps(x.detach().tolist()), parse_float=lambda text: float(f"{float(text):.8g}"))


def main() -> None:
    torch.manual_seed(0)
    vq = ResidualVQ(dim=SIZE, num_quantizers=QUANTIZERS, codebook_size=CODES).train()
    told: dict = {"quantizers": QUANTIZERS, "codes": CODES, "size": SIZE, "commitment": COMMITMENT}
    told |= {"vectors": plain(vq.codebooks), "steps": []}
    centres = torch.randn(CODES, SIZE)
    for _ in range(STEPS):
        x = (centres[torch.randint(CODES, (ROWS,))] + 0.3 * torch.randn(ROWS, SIZE)).requires_grad_()
        slope = torch.randn(ROWS, SIZE)
        vector, codes, losses = vq(x)
        ((vector * slope).sum() + COMMITMENT * losses.sum()).backward()
        books = [layer._codebook for layer in vq.layers]
        told["steps"].append(
            {"x": plain(x), "slope": plain(slope), "vector": plain(vector), "codes": codes.tolist(), "losses": plain(losses.sum(0))}
            | {"gradient": plain(x.grad), "vectors": plain(vq.codebooks)}
            | {"uses": plain(torch.stack([book.cluster_size[0] for book in books]))}
            | {"total": plain(torch.stack([book.embed_avg[0] for book in books]))}
        )
    vq.eval()
    codes = torch.tensor(told["steps"][-1]["codes"])
    told["read"] = plain(vq.get_codebook_vector_from_indices(codes).sum(0))
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".json")
    file.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
