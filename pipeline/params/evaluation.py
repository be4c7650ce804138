"""Parameters of rows, metrics, detectors, and of the study."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.params.base import Fraction, Group, Name, Positive, PositiveFloat, Sha256
from pipeline.params.released import KnownFile

PAIRS_A_PICTURE = 6  # of the four runs of a sheet


class Start(Group):
    ucf101: PositiveFloat  # VP: fraction of T; VE: sigma
    imagebench: PositiveFloat


class Run(Group):
    """One row of a table."""

    group: Literal["table3", "ucf101", "start_grid", "timenoise", "motion_error"]  # the table that it is made for
    backbone: Name
    training: Name  # <backbone>-initial or a key of trainings
    init: Literal["standard", "analytic"]
    start: Start
    motion_bucket: PositiveFloat | None  # asked of a model that is told one (SVD); null: its backbone's


class Evaluation(Group):
    seed: int
    conditions: Positive  # clips whose first frame conditions a sample
    reference: Positive  # other real clips
    minimum: Positive  # samples below which a cell stays empty
    allow_few: bool
    subsets: Annotated[int, Field(ge=2)]  # disjoint, for the spread
    is_splits: Positive
    seeds: list[int]  # replicate samplings of every condition


class TrainedDetectors(Group):
    """The demo's own stand-ins for I3D and C3D, trained on the world."""

    kind: Literal["trained"]
    seed: int
    steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    width: Positive
    features: Positive


class FrechetDetector(Group):
    """I3D of Kinetics-400: the common PyTorch checkpoint, or StyleGAN-V's TorchScript file."""

    weights: KnownFile
    protocol: Literal["tats", "styleganv"]  # how frames become 224 x 224
    allow_code: list[Sha256]  # TorchScript files that may run code, by hash; it runs once, in a process of its own


class InceptionDetector(Group):
    """C3D of UCF101 as TGANv2 has it."""

    weights: KnownFile
    mean: KnownFile | None  # null where the weights hold the mean volume
    mean_column: Annotated[int, Field(ge=0)] | None  # first column taken of it; null: 8


class PublishedDetectors(Group):
    """What papers report with; for what no publication names, ``features`` components of this project's clips."""

    kind: Literal["published"]
    fvd: FrechetDetector
    inception: InceptionDetector
    features: Positive


class DisFlow(Group):
    """OpenCV's, without weights."""

    kind: Literal["dis"]


class RaftFlow(Group):
    """RAFT (large), as torchvision or its authors publish it."""

    kind: Literal["raft"]
    weights: KnownFile
    updates: Positive  # refinements a pair; 12 in torchvision


class Motion(Group):
    height: Positive  # pixels that the flow is computed at
    width: Positive
    flow: Annotated[DisFlow | RaftFlow, Field(discriminator="kind")]


class PerfectDenoiser(Group):
    """The reference curve of the probe, on the embedded world alone."""

    scenes: Annotated[int, Field(ge=0)]  # 0 where the UCF101 clips are others
    motions: Positive  # a scene, drawn from the world's
    stride: Positive  # source frames, as the UCF101 clips have it


class ProbeSettings(Group):
    clips: Positive  # of the conditions of evaluation
    batch_size: Positive
    seed: int
    vp_times: list[Fraction]  # of T
    ve_times: list[PositiveFloat]  # sigmas; those above a process's sigma_max are left out
    perfect: PerfectDenoiser

    def times(self, process) -> list[float]:
        """The times at which a process is probed."""
        return self.vp_times if process.kind == "vp" else [s for s in self.ve_times if s <= process.sigma_max]


class ProbedWeights(Group):
    backbone: Name
    weights: Name  # <backbone>-initial or a key of trainings


class Sheet(Group):
    runs: Annotated[list[Name], Field(min_length=4, max_length=4)]


class Study(Group):
    seed: int
    height: Positive  # pixels of the videos shown
    fps: Positive


class Survey(Group):
    """How the study is held."""

    seed: int
    participants: Positive  # planned; each has a number
    pairs_per_participant: Positive  # of each backbone's sheet, attention checks not counted; whole pictures
    checks: Annotated[int, Field(ge=0)]  # attention checks a participant
    failed_checks_allowed: Annotated[int, Field(ge=0)]
    answers: str  # the folder of the files that participants send back

    @field_validator("pairs_per_participant")
    @classmethod
    def _whole_pictures(cls, pairs: int) -> int:
        if pairs % PAIRS_A_PICTURE:
            raise ValueError(
                f"must be a multiple of {PAIRS_A_PICTURE}, found {pairs}: who judges a picture judges all its pairs"
            )
        return pairs


class Shards(Group):
    """Into how many jobs Snakemake divides one job of these stages; DVC does them in one go."""

    preprocess: Positive
    latents: Positive
    moments: Positive
    sample: Positive
    features: Positive


class Runtime(Group):
    """Cannot change a result, but for rounding: readable by every stage, declared by none."""

    device: Literal["auto", "cpu", "cuda"]
    workers: Annotated[int, Field(ge=0)]  # 0: one a core
    log_level: Literal["DEBUG", "INFO", "WARNING"]
    accelerate_config: str  # its number of processes, as clips_per_device, changes sums by rounding
    clips_per_device: Positive | None  # of a training's batch, the most that pass a network at once; null: all
    shards: Shards
