"""The embedded video world: one soft sprite moving over a still background, as real encoded files in real layouts.

Direction and speed are drawn independently of the first frame and of the caption, so neither tells the motion.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.video_file import write_video
from pipeline.seeding import numpy_generator

SHAPES = ("Disc", "Square", "Diamond", "Ring")
COLOURS = {"Red": (0.95, 0.25, 0.2), "Blue": (0.2, 0.35, 0.95), "Green": (0.2, 0.8, 0.3), "Yellow": (0.95, 0.85, 0.2)}
CLASS_COLOURS = ("Red", "Blue")  # UCF101's classes: a shape in one of these
BACKGROUNDS = ("plain", "hazy", "dusky", "bright")
SPEED = (0.4 / 3, 1.2 / 3)  # px a source frame, at 32 px: 0.4 to 1.2 at a stride of three
RADIUS = (6.0, 8.0)  # px at 32 px
CLIPS_PER_FOLDER = 50


@dataclass(frozen=True)
class Look:
    """All that the first frame shows."""

    shape: str
    colour: str
    background: str
    radius: float
    x: float
    y: float

    @property
    def caption(self) -> str:
        return f"A {self.colour.lower()} {self.shape.lower()} over a {self.background} background."

    @property
    def label(self) -> str:
        return f"{self.colour}{self.shape}"


def draw_look(generator: np.random.Generator, size: int, colours=tuple(COLOURS)) -> Look:
    """A look for one video."""
    centre = size / 2 + generator.uniform(-0.12, 0.12, 2) * size
    return Look(
        shape=str(generator.choice(SHAPES)),
        colour=str(generator.choice(colours)),
        background=str(generator.choice(BACKGROUNDS)),
        radius=float(generator.uniform(*RADIUS)) * size / 32,
        x=float(centre[0]),
        y=float(centre[1]),
    )


def draw_motion(generator: np.random.Generator, size: int) -> tuple[float, float]:
    """Velocity in px a source frame; from a generator of its own."""
    angle, speed = generator.uniform(0, 2 * np.pi), generator.uniform(*SPEED) * size / 32
    return float(speed * np.cos(angle)), float(speed * np.sin(angle))


def _reflect(position: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions folded back between two walls."""
    span = high - low
    folded = np.mod(position - low, 2 * span)
    return low + np.where(folded > span, 2 * span - folded, folded)


def render(
    look: Look, velocity: tuple[float, float], frames: int, size: int, generator: np.random.Generator
) -> np.ndarray:
    """uint8 RGB (frames, size, size, 3); ``generator`` draws textures only."""
    grid = (np.arange(size) + 0.5).astype(np.float64)
    background = _background(look.background, size, generator)
    phase, angle = generator.uniform(0, 2 * np.pi, 2)
    time = np.arange(frames)
    margin = 0.6 * look.radius
    x = _reflect(look.x + velocity[0] * time, margin, size - margin)[:, None, None]
    y = _reflect(look.y + velocity[1] * time, margin, size - margin)[:, None, None]
    dx, dy = grid[None, None, :] - x, grid[None, :, None] - y
    distance = {
        "Disc": np.hypot(dx, dy) - look.radius,
        "Square": np.maximum(abs(dx), abs(dy)) - 0.85 * look.radius,
        "Diamond": (abs(dx) + abs(dy)) / np.sqrt(2) - 0.85 * look.radius,
        "Ring": abs(np.hypot(dx, dy) - 0.75 * look.radius) - 0.35 * look.radius,
    }[look.shape]
    cover = np.clip(0.5 - distance / 1.5, 0, 1)[..., None]  # a soft edge of 1.5 px
    stripes = 0.8 + 0.2 * np.sin(2 * np.pi * (dx * np.cos(angle) + dy * np.sin(angle)) / (0.9 * look.radius) + phase)
    sprite = np.asarray(COLOURS[look.colour]) * stripes[..., None]
    picture = background * (1 - cover) + sprite * cover
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _background(kind: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Sky-to-ground gradient, a random base colour and a plane wave; (size, size, 3) in [0, 1]."""
    level = {"plain": 0.5, "hazy": 0.6, "dusky": 0.35, "bright": 0.72}[kind]
    base = level + generator.uniform(-0.12, 0.12, 3)
    down = np.linspace(1, 0, size)[:, None, None]
    sky, ground = np.asarray([0.02, 0.06, 0.16]), np.asarray([0.08, 0.02, -0.10])
    wave = generator.uniform(-1, 1, 2) * 2 * np.pi * 2 / size
    grid = np.arange(size)
    ripple = np.sin(wave[0] * grid[None, :] + wave[1] * grid[:, None] + generator.uniform(0, 2 * np.pi))
    return base + down * sky + (1 - down) * ground + 0.06 * ripple[..., None]


@dataclass(frozen=True)
class Video:
    """One file to write: where, and from which name it is drawn."""

    path: str
    name: str
    look: Look
    velocity: tuple[float, float]


def plan_videos(settings, part: str, count: int, colours=tuple(COLOURS)) -> list[Video]:
    """Look and motion of ``count`` videos of ``part``, each from generators of its name."""
    videos = []
    for number in range(count):
        name = f"{part}{number:06d}"
        look = draw_look(numpy_generator(settings.seed, "look", name), settings.size, colours)
        velocity = draw_motion(numpy_generator(settings.seed, "motion", name), settings.size)
        videos.append(Video("", name, look, velocity))
    return videos


def make_video(video: Video, folder: Path, settings) -> None:
    """Render and write one video below ``folder``."""
    textures = numpy_generator(settings.seed, "texture", video.name)
    frames = render(video.look, video.velocity, settings.frames, settings.size, textures)
    write_video(folder / video.path, frames, settings.fps, {"crf": "10", "preset": "veryfast"})


def lay_out(folder: Path, settings) -> list[Video]:
    """Write listings, split files and pictures; returns the videos to be made, with their paths below ``folder``."""
    webvid = _webvid(folder / "webvid", settings)
    ucf101 = _ucf101(folder / "ucf101", settings)
    _imagebench(folder / "imagebench", settings)
    videos = webvid + ucf101
    with (folder / "motion.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "vx_px_per_source_frame", "vy_px_per_source_frame"])
        writer.writerows([video.path, f"{video.velocity[0]:.6f}", f"{video.velocity[1]:.6f}"] for video in videos)
    return videos


def _webvid(folder: Path, settings) -> list[Video]:
    folder.mkdir(parents=True)
    videos = []
    seconds = max(1, settings.frames // settings.fps)
    with (folder / "results_2M_train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "contentUrl", "duration", "page_dir", "name"])
        for number, video in enumerate(plan_videos(settings, "webvid", settings.webvid_clips)):
            first = number // CLIPS_PER_FOLDER * CLIPS_PER_FOLDER
            page, id = f"{first:06d}_{first + CLIPS_PER_FOLDER - 1:06d}", str(1_000_000 + number)
            writer.writerow([id, "", f"PT00H00M{seconds:02d}S", page, video.look.caption])
            videos.append(Video(f"webvid/videos/{page}/{id}.mp4", video.name, video.look, video.velocity))
    return videos


def _ucf101(folder: Path, settings) -> list[Video]:
    lists = folder / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    classes = sorted(f"{colour}{shape}" for colour in CLASS_COLOURS for shape in SHAPES)
    (lists / "classInd.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(classes, 1)))
    videos = []
    for part, count in (("train", settings.ucf101_train), ("test", settings.ucf101_test)):
        lines = []
        for number, video in enumerate(plan_videos(settings, f"ucf101{part}", count, CLASS_COLOURS)):
            group = number // 7 + (1 if part == "test" else 1000)
            source = f"{video.look.label}/v_{video.look.label}_g{group:04d}_c{number % 7 + 1:02d}.avi"
            lines.append(f"{source} {classes.index(video.look.label) + 1}\n" if part == "train" else f"{source}\n")
            videos.append(Video(f"ucf101/UCF-101/{source}", video.name, video.look, video.velocity))
        (lists / f"{part}list01.txt").write_text("".join(lines))
    return videos


def _imagebench(folder: Path, settings) -> None:
    (folder / "images").mkdir(parents=True)
    with (folder / "prompts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "category", "prompt"])
        for number, video in enumerate(plan_videos(settings, "picture", settings.pictures), 1):
            textures = numpy_generator(settings.seed, "texture", video.name)
            picture = render(video.look, (0.0, 0.0), 1, settings.size, textures)[0]
            cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            writer.writerow([f"{number:03d}.png", video.look.shape.lower(), video.look.caption])
