"""I3D, the resize protocols, Frechet distances and the inception score."""

import re

import numpy as np
import torch

from pipeline.evaluation.frechet import frechet_distance
from pipeline.evaluation.inception import inception_score
from tests.golden_kinds.core import ELSEWHERE, Case, Comparison, Document, draw


def i3d_manifest(document: Document) -> list[Case]:
    """Names and shapes of the Kinetics-400 I3D."""
    if "logits.conv3d.weight" not in document.content.get("state_dict", {}):
        return []
    from pipeline.evaluation.detectors.i3d import I3dNet

    def compare() -> list[Comparison]:
        net = I3dNet()
        assert {key: list(value.shape) for key, value in net.state_dict().items()} == document.content["state_dict"]
        count = sum(value.numel() for value in net.parameters())
        return [Comparison(torch.tensor(count), torch.tensor(document.content["parameters"]), 0.0)]

    return [Case(document.name, "every name and shape", compare)]


def metrics(document: Document) -> list[Case]:
    """Numbers of the JSON and tensors beside it, by their names."""
    found = []
    for name, values in document.content.get("frechet", {}).items() if "frechet" in document.content else ():
        found.append(Case(document.name, f"frechet {name}", lambda name=name, values=values: _frechet(name, values)))
    for key, value in document.content.items():
        if match := re.fullmatch(r"inception_score_(\d+)x(\d+)", key):
            found.append(Case(document.name, key, lambda match=match, value=value: _inception(match, value)))
    for key in sorted(document.tensors):
        if key == "i3d.logits":
            found.append(Case(document.name, key, lambda: _i3d(document)))
        elif key.startswith("preprocess."):
            found.append(Case(document.name, key, lambda key=key: _preprocess(document, key)))
    return found


def _frechet(name: str, values: dict[str, float]) -> list[Comparison]:
    n, m, d = map(int, re.match(r"(\d+)x(\d+) samples, (\d+) features", name).groups())
    a, b = (draw(f"feat.{key}", shape).double().numpy() for key, shape in (("a", (n, d)), ("b", (m, d))))
    if min(n, m) < d:  # the case of fewer samples than features has its own recipe
        mix = draw("feat.mix", (d, d)).double().numpy()
        a, b = 0.7 * a + 0.1, b @ (np.eye(d) + 0.05 * mix) - 0.05
    else:
        a, b = 0.7 * a + 0.1, 0.9 * b - 0.2
    found = torch.tensor(frechet_distance(a, b), dtype=torch.float64)
    return [Comparison(found, torch.tensor(value, dtype=torch.float64), ELSEWHERE) for value in values.values()]


def _inception(match: re.Match, value: float) -> list[Comparison]:
    logits = 3 * draw("is.logits", (int(match[1]), int(match[2]))).numpy()
    found, expected = (torch.tensor(each, dtype=torch.float64) for each in (inception_score(logits), value))
    return [Comparison(found, expected, ELSEWHERE)]


def _i3d(document: Document) -> list[Comparison]:
    from pipeline.evaluation.detectors.i3d import I3dNet

    net, expected = I3dNet().eval(), document.tensors["i3d.logits"]
    net.load_state_dict({key: i3d_weight(key, value) for key, value in net.state_dict().items()})
    found = net(torch.tanh(draw("input.video", (len(expected), 3, 16, 224, 224))))
    return [Comparison(found, expected, ELSEWHERE)]


def i3d_weight(key: str, value: torch.Tensor) -> torch.Tensor:
    """The folder's own recipe, see its README."""
    if key.endswith("num_batches_tracked"):
        return value
    drawn = draw(key, value.shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * drawn.abs()
    if key.endswith(("running_mean", "bias")):
        return 0.1 * drawn
    return 1 + 0.1 * drawn if key.endswith("bn.weight") else drawn * (2 / value[0].numel()) ** 0.5


def _preprocess(document: Document, key: str) -> list[Comparison]:
    from pipeline.evaluation.detectors.resize import PROTOCOLS
    from pipeline.evaluation.video import to_video

    clip = (draw("clip.uint8", (16, 48, 80, 3)).abs() * 90).clamp(0, 255).to(torch.uint8).numpy()
    found = PROTOCOLS[key.removeprefix("preprocess.")](to_video(clip[None]))[0, :, ::5, ::8, ::8]
    return [Comparison(found, document.tensors[key], ELSEWHERE)]
