"""The contract `clips`: Parquet shards of clips and a table of rejects. Its writer and its reader, both validating."""

from collections import OrderedDict
from collections.abc import Sequence
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
    """Writes shards of ``rows_per_shard`` clips in the order they come; holds one row group in memory."""

    def __init__(self, folder: Path, rows_per_shard: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._folder, self._rows = folder, rows_per_shard
        self._pending: list[dict] = []
        self._writer: pq.ParquetWriter | None = None
        self._in_shard = 0
        self._shards = 0

    def add(self, row: dict[str, Any]) -> None:
        """Append one clip; ``frames`` are encoded pictures."""
        self._pending.append(row)
        self.count += 1
        self._in_shard += 1
        if len(self._pending) == ROWS_PER_GROUP or self._in_shard == self._rows:
            self._flush()
        if self._in_shard == self._rows:
            self._end_shard()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._writer is None:
            path = self._folder / f"part-{self._shards:05d}.parquet"
            self._writer = pq.ParquetWriter(path, CLIPS, compression="zstd", use_dictionary=False)
        self._writer.write_table(pa.Table.from_pylist(self._pending, CLIPS))
        self._pending = []

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._in_shard = None, 0
            self._shards += 1

    def close(self) -> None:
        """Finish the last shard."""
        self._flush()
        self._end_shard()


class RejectWriter:
    """Writes the rejects table as it grows, and counts by reason."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(folder / REJECTS_FILE, REJECTS)
        self._pending: list[dict] = []
        self.reasons: dict[str, int] = {}

    @property
    def count(self) -> int:
        return sum(self.reasons.values())

    def add(self, row: int, id: str, source: str, reason: str, detail: str) -> None:
        """Append one row of the listing that gave no clip."""
        self._pending.append({"row": row, "id": id, "source": source, "reason": reason, "detail": detail})
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self._pending) == 1024:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, REJECTS))
            self._pending = []

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        self._writer.close()


class ClipSet:
    """A folder of clips: columns as lists, frames on demand. Raises PipelineError where the folder is not one."""

    _COLUMNS = ("id", "source", "caption", "label", "fps", "stride")
    _KEPT_GROUPS = 16

    def __init__(self, folder: Path):
        self.folder = folder
        self._files = sorted(folder.glob("part-*.parquet"))
        if not self._files:
            raise PipelineError(
                f"{folder} holds no part-*.parquet: it is not a clips folder; run the stage that makes it"
            )
        self._handles = [self._open(path) for path in self._files]
        columns: dict[str, list] = {name: [] for name in self._COLUMNS}
        self._places: list[tuple[int, int, int]] = []  # shard, row group, row in it
        for shard, handle in enumerate(self._handles):
            table = handle.read(columns=list(self._COLUMNS))
            for name in self._COLUMNS:
                columns[name] += table[name].to_pylist()
            for group in range(handle.num_row_groups):
                rows = handle.metadata.row_group(group).num_rows
                self._places += [(shard, group, row) for row in range(rows)]
        self.ids: list[str] = columns["id"]
        self.sources: list[str] = columns["source"]
        self.captions: list[str] = columns["caption"]
        self.labels: list[str] = columns["label"]
        self.fps: list[float] = columns["fps"]
        self.strides: list[int] = columns["stride"]
        self._groups: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()

    @staticmethod
    def _open(path: Path) -> pq.ParquetFile:
        try:
            handle = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise PipelineError(
                f"{path} is not a whole Parquet file ({error}); run the stage that makes it again"
            ) from None
        if not handle.schema_arrow.equals(CLIPS):
            lacking = [name for name in CLIPS.names if name not in handle.schema_arrow.names]
            raise PipelineError(
                f"{path} does not follow the clips schema {VERSION.decode()} "
                f"(missing: {lacking or 'none, types differ'}); "
                f"run the stage that makes it again"
            )
        return handle

    def __len__(self) -> int:
        return len(self.ids)

    def encoded(self, index: int) -> list[bytes]:
        """The encoded pictures of one clip."""
        shard, group, row = self._places[index]
        key = (shard, group)
        if key not in self._groups:
            self._groups[key] = self._handles[shard].read_row_group(group, columns=["frames"])["frames"]
            if len(self._groups) > self._KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key][row].as_py()

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
