"""What the metrics ask of a detector: a name, the hash of its weights, the protocol it reads clips by, two outputs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Identity:
    """Recorded beside every number: two numbers compare only where all three agree."""

    name: str  # names beginning with "demo-" mark numbers that stand beside no published one
    hash: str  # sha256 of the weights
    protocol: str  # how a clip becomes the detector's input


class Detector(ABC):
    """A frozen network that looks at whole clips (B, 3, F, H, W), float32 in [-1, 1], of any size."""

    identity: Identity

    @abstractmethod
    def features(self, video: "Tensor") -> "Tensor":
        """Embedding (B, D) for Frechet distances."""

    @abstractmethod
    def logits(self, video: "Tensor") -> "Tensor":
        """Class logits (B, K) for the inception score; raises PipelineError where the detector has no classes."""

    @abstractmethod
    def to(self, device: str) -> "Detector":
        """The same detector on another device."""

    @abstractmethod
    def save(self, folder) -> None:
        """Write weights and config into ``folder`` (pathlib.Path, created)."""
