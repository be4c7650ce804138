"""Parameters of the video world, of clips and of the clip sets made from listings."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.params.base import Group, Positive, PositiveFloat
from pipeline.urls import why_not_recorded


class World(Group):
    seed: int
    size: Positive  # pixels
    frames: Positive  # frames of a source video
    fps: Positive
    webvid_clips: Positive
    ucf101_train: Positive  # videos
    ucf101_test: Positive
    pictures: Positive


class Codec(Group):
    format: Literal["png", "jpeg"]
    quality: Annotated[int, Field(ge=1, le=100)]  # jpeg only


class Clips(Group):
    seed: int
    frames: Positive
    height: Positive  # pixels
    width: Positive
    codec: Codec
    check: Literal["whole", "window"]  # which frames of a source must decode: all, or those of the clip
    rows_per_part: Positive  # rows of the listing in one file of clips


class UniformStride(Group):
    kind: Literal["uniform_stride"]
    min: Positive  # source frames
    max: Positive


class FixedFps(Group):
    kind: Literal["fixed_fps"]
    fps: PositiveFloat


class Columns(Group):
    """Which column of the listing holds what; ``folder`` may be null where videos lie in one folder."""

    id: str
    caption: str
    folder: str | None


def _recorded(place: str) -> str:
    if problem := why_not_recorded(place):
        raise ValueError(problem)
    return place


Place = Annotated[str, AfterValidator(_recorded)]  # a local path, or a URL of which DVC can keep a record


class ClipSet(Group):
    layout: Literal["webvid", "ucf101", "imagebench"]
    listing: Place  # of the csv or split file
    videos: Place  # of the folder
    columns: Columns
    frame_rule: Annotated[UniformStride | FixedFps, Field(discriminator="kind")]
    windows: Positive  # clips a video
    limit: Positive | None  # rows of the listing; null: all
