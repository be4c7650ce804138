"""The contract `clips`: Parquet files of clips and a table of rejects. Its writer and its reader, both validating."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError

VERSION = b"1"
CLIPS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # path inside the data folder
        pa.field("caption", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # UCF101 class, else empty
        pa.field("native_fps", pa.float64(), nullable=False),  # of the source; 0 for a picture
        pa.field("fps", pa.float64(), nullable=False),  # of the clip: native_fps / stride
        pa.field("stride", pa.int32(), nullable=False),  # source frames
        pa.field("requested_stride", pa.int32(), nullable=False),  # larger where the source was too short for it
        pa.field("start_frame", pa.int32(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("source_height", pa.int32(), nullable=False),
        pa.field("source_width", pa.int32(), nullable=False),
        pa.field("frames", pa.list_(pa.binary()), nullable=False),  # encoded pictures, in time order
        pa.field("decoder", pa.string(), nullable=False),
        pa.field("transform", pa.string(), nullable=False),
    ],
    metadata={"clips_schema": VERSION},
)
REJECTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the listing, from 0; pictures without a prompt follow
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
ROWS_PER_GROUP = 16  # a random read decodes one group
REJECTS_FILE = "rejects.parquet"


def encode_frames(frames: np.ndarray, format: str = "png", quality: int = 95) -> list[bytes]:
    """uint8 RGB (F, H, W, 3) -> encoded pictures."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    suffix = {"png": ".png", "jpeg": ".jpg"}[format]
    return [cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1].tobytes() for frame in frames]


def decode_frames(pictures: Sequence[bytes]) -> np.ndarray:
    """Encoded pictures -> uint8 RGB (F, H, W, 3)."""
    decoded = [cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) for picture in pictures]
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in decoded])


class ClipWriter:
    """Writes one part file of clips in the order they come; holds one row group in memory. A context manager."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._pending: list[dict] = []
        self._writer = pq.ParquetWriter(path, CLIPS, compression="zstd", use_dictionary=False)

    def add(self, row: dict[str, Any]) -> None:
        """Append one clip; ``frames`` are encoded pictures."""
        self._pending.append(row)
        self.count += 1
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, CLIPS))
            self._pending = []

    def __enter__(self) -> "ClipWriter":
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def part_file(number: int) -> str:
    """Name of a part of a clips folder."""
    return f"part-{number:05d}.parquet"


def write_rejects(path: Path, rejects: list[dict] | pa.Table) -> None:
    """Write a table of rows of a listing that gave no clip, each with the fields of ``REJECTS``."""
    table = rejects if isinstance(rejects, pa.Table) else pa.Table.from_pylist(rejects, REJECTS)
    pq.write_table(table, path)


def merge_rejects(paths: Sequence[Path], path: Path) -> dict[str, int]:
    """Join tables of rejects in this order into one; returns how many rows each reason has."""
    table = pa.concat_tables([pq.read_table(each) for each in paths]) if paths else REJECTS.empty_table()
    write_rejects(path, table.combine_chunks())
    counts = table["reason"].value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


class ClipSet:
    """A folder of clips: columns as lists, frames on demand. Raises PipelineError where the folder is not one.

    Opening it reads the files' footers alone; a column is read when it is asked for, a few files stay open.
    """

    _KEPT_GROUPS = 16
    _KEPT_FILES = 16

    def __init__(self, folder: Path):
        self.folder = folder
        self._files = sorted(folder.glob("part-*.parquet"))
        if not self._files:
            raise PipelineError(
                f"{folder} holds no part-*.parquet: it is not a clips folder; run the stage that makes it"
            )
        self._handles: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()
        self._places: list[tuple[int, int]] = []  # file, row group
        self._starts = [0]  # first row of each row group, then the number of rows
        for file in range(len(self._files)):
            metadata = self._handle(file).metadata
            for group in range(metadata.num_row_groups):
                self._places.append((file, group))
                self._starts.append(self._starts[-1] + metadata.row_group(group).num_rows)

    @cached_property
    def ids(self) -> list[str]:
        return self._column("id")

    @cached_property
    def sources(self) -> list[str]:
        return self._column("source")

    @cached_property
    def captions(self) -> list[str]:
        return self._column("caption")

    @cached_property
    def labels(self) -> list[str]:
        return self._column("label")

    @cached_property
    def fps(self) -> list[float]:
        return self._column("fps")

    @cached_property
    def strides(self) -> list[int]:
        return self._column("stride")

    def _column(self, name: str) -> list:
        parts = [self._handle(file).read(columns=[name])[name] for file in range(len(self._files))]
        return [value for part in parts for value in part.to_pylist()]

    def _handle(self, file: int) -> pq.ParquetFile:
        if file not in self._handles:
            self._handles[file] = self._open(self._files[file])
            if len(self._handles) > self._KEPT_FILES:
                self._handles.popitem(last=False)[1].close()
        self._handles.move_to_end(file)
        return self._handles[file]

    @staticmethod
    def _open(path: Path) -> pq.ParquetFile:
        try:
            handle = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise PipelineError(
                f"{path} is not a whole Parquet file ({error}); run the stage that makes it again"
            ) from None
        version = (handle.schema_arrow.metadata or {}).get(b"clips_schema")
        if version != VERSION or not handle.schema_arrow.equals(CLIPS):
            lacking = [name for name in CLIPS.names if name not in handle.schema_arrow.names]
            raise PipelineError(
                f"{path} does not follow the clips schema {VERSION.decode()} "
                f"(missing: {lacking or 'none, types or version differ'}); "
                f"run the stage that makes it again"
            )
        return handle

    def __len__(self) -> int:
        return self._starts[-1]

    def encoded(self, index: int) -> list[bytes]:
        """The encoded pictures of one clip."""
        group = bisect_right(self._starts, index) - 1
        key = self._places[group]
        if key not in self._groups:
            file, number = key
            self._groups[key] = self._handle(file).read_row_group(number, columns=["frames"])["frames"]
            if len(self._groups) > self._KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key][index - self._starts[group]].as_py()

    def fields(self, rows: range, names: Sequence[str]) -> dict[str, list]:
        """Columns of a range of clips, read from these clips' row groups alone."""
        first, last = (bisect_right(self._starts, row) - 1 for row in (rows.start, rows.stop - 1))
        places = self._places[first : last + 1]
        table = pa.concat_tables([self._handle(file).read_row_group(group, columns=names) for file, group in places])
        table = table.slice(rows.start - self._starts[first], len(rows))
        return {name: table[name].to_pylist() for name in names}

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 RGB (n, F, H, W, 3) of clips of one length."""
        return np.stack([decode_frames(self.encoded(index)) for index in indices])

    def pictures(self, indices: Sequence[int], numbers: Sequence[int]) -> np.ndarray:
        """uint8 RGB (n, H, W, 3): frame ``numbers[i]`` of clip ``indices[i]``; only these are decoded."""
        return np.stack([
            decode_frames([self.encoded(index)[number]])[0] for index, number in zip(indices, numbers, strict=True)
        ])  # fmt: skip


def read_rejects(folder: Path) -> list[dict]:
    """The rejects of a clips folder, as rows."""
    return pq.read_table(folder / REJECTS_FILE).to_pylist()
