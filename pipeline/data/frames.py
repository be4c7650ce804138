"""Frames of a video file by number, in the order in which they are shown, decoded with PyAV on one thread.

In H.264 in MP4 every packet tells the time of its picture. There the decoder starts at the last picture before what is
wanted that nothing earlier can matter to, and passes over those that no other refers to; what it returns is found by
its time. Wherever that does not give every wanted picture undamaged, and in all other files, frames are read and
counted from the first. The pictures are the same either way; only the work differs.
"""

from bisect import bisect_right
from collections.abc import Iterable
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.errors import one_line

DECODER = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"

PROBE_NOTHING = {"skip_frame": "all"}  # an option of the decoder that ffmpeg opens to learn about a stream


class NotAVideo(Exception):
    """The file cannot be opened, or holds no video."""


class Undecodable(Exception):
    """The file ends early or is damaged where it was read."""


class Video:
    """An open video file; a context manager.

    ``total``: its frames; ``rate``: frames a second, None where the file does not tell. Raises NotAVideo, Undecodable.
    """

    def __init__(self, path: Path):
        self._path = str(path)
        self._convert = VideoReformatter()
        self._open(PROBE_NOTHING)
        if not self._tells_times():
            self.close()
            self._open()
        try:
            self._index()
        except av.error.FFmpegError as error:
            self.close()
            raise Undecodable(one_line(error)) from None
        except BaseException:
            self.close()
            raise

    def _open(self, options: dict[str, str] | None = None) -> None:
        try:
            self._file = av.open(self._path, options=options or {})
        except (av.error.FFmpegError, OSError, UnicodeError) as error:
            raise NotAVideo(one_line(error)) from None
        self._stream = self._file.streams.best("video")
        if self._stream is None or self._stream.codec_context is None:
            self.close()
            raise NotAVideo("it holds no video that can be decoded")
        if self._file.format.name.endswith("_pipe"):  # ffmpeg's word for loose pictures
            self.close()
            raise NotAVideo("it is a picture")
        self._stream.codec_context.thread_count = 1

    def _tells_times(self) -> bool:
        """Whether its container says all that ffmpeg would otherwise learn by decoding some frames."""
        one = len(self._file.streams.video) == 1
        return one and "mp4" in self._file.format.name and self._stream.codec_context.name == "h264"

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; frames that were read stay."""
        self._file.close()

    def _index(self) -> None:
        """Read the packets once without decoding: how many frames, their times, where a decoder can start."""
        prefix = _length_bytes(self._stream.codec_context.extradata) if self._tells_times() else 0
        there, times, starts = 0, [], []
        for packet in self._file.demux(self._stream):
            if not packet.size:
                continue
            there += 1
            if packet.is_discard:  # an edit list hides its picture
                continue
            times.append(packet.pts)
            if prefix and packet.is_keyframe and packet.pts is not None and _starts_afresh(bytes(packet), prefix):
                starts.append(packet.pts)
        mp4 = "mp4" in self._file.format.name
        indexed = sum(entry.size > 0 for entry in self._stream.index_entries) if mp4 else 0
        if there < indexed:
            raise Undecodable(f"it ends early: {there} of {indexed} frames are there")
        self.total = len(times)
        self.rate: Fraction | None = self._stream.average_rate
        self._timed = bool(starts) and None not in times and len(set(times)) == len(times)
        self._times = sorted(times) if self._timed else []
        self._starts = sorted(starts)

    def read(self, numbers: Iterable[int], whole: bool = False) -> dict[int, np.ndarray]:
        """uint8 RGB (H, W, 3) of each frame. ``whole``: every frame of the file must decode. Raises Undecodable."""
        wanted = sorted(set(numbers))
        if self._timed and not whole:
            found = self._read_timed(wanted)
            if found is not None:
                return found
        return self._read_from_start(wanted, whole)

    def _read_timed(self, wanted: list[int]) -> dict[int, np.ndarray] | None:
        """None where a frame is damaged or does not come: then only reading from the start can tell."""
        found: dict[int, np.ndarray] = {}
        try:
            for start, group in groupby(wanted, lambda number: bisect_right(self._starts, self._times[number]) - 1):
                if start < 0:
                    return None
                self._read_after(self._starts[start], {self._times[number]: number for number in group}, found)
        except (av.error.FFmpegError, Undecodable):
            return None
        return found if len(found) == len(wanted) else None

    def _read_after(self, start: int, wanted: dict[int, int], found: dict[int, np.ndarray]) -> None:
        """Add frames, numbers by time; ``start``: the time of the keyframe before them."""
        self._file.seek(start, stream=self._stream, backward=True)
        codec, left = self._stream.codec_context, len(wanted)
        for packet in self._file.demux(self._stream):
            codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            for frame in packet.decode():
                _require_sound(frame)
                if frame.pts in wanted:
                    found[wanted[frame.pts]] = self._pixels(frame)
                    left -= 1
            if not left:
                return

    def _read_from_start(self, wanted: list[int], whole: bool) -> dict[int, np.ndarray]:
        self.close()
        self._open()  # a seek to the start is not exact in every container
        keep, found, count = set(wanted), {}, 0
        numbers = {pts: number for number, pts in enumerate(self._times)} if self._timed else {}
        try:
            for frame in self._file.decode(self._stream):
                _require_sound(frame)
                number = numbers.get(frame.pts, count)
                count += 1
                if number in keep:
                    found[number] = self._pixels(frame)
                if len(found) == len(keep) and not whole:
                    break
        except av.error.FFmpegError as error:
            raise Undecodable(one_line(error)) from None
        if len(found) < len(keep):
            raise Undecodable(f"frame {min(keep - set(found))} of {self.total} does not come out of the decoder")
        return found

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        """RGB, turned as the file says that it is to be shown."""
        picture = self._convert.reformat(frame, format="rgb24").to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.rot90(picture, turns) if turns else picture


def _require_sound(frame: av.VideoFrame) -> None:
    if frame.is_corrupt:
        raise Undecodable(f"the frame at {frame.time:.3f} s is damaged" if frame.time else "a frame is damaged")


def _length_bytes(extradata: bytes | None) -> int:
    """How many bytes tell the length of a unit in H.264 as MP4 holds it; 0 where it is held otherwise."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def _starts_afresh(packet: bytes, prefix: int) -> bool:
    """Whether nothing after this picture refers to what was before (IDR); a keyframe by name alone need not be so."""
    position = 0
    while position + prefix < len(packet):
        kind = packet[position + prefix] & 31
        if 1 <= kind <= 5:  # the first slice
            return kind == 5
        position += prefix + int.from_bytes(packet[position : position + prefix], "big")
    return False
