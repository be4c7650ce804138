"""Videos of WebVid's usual kind, made here: 596 x 336, 25 to 30 frames a second, 10 to 20 s, H.264 with B-frames.

Their pictures have the spectrum of natural ones (1/f), a slow camera, three things that move, and grain, so that the
bits a second (about 0.6 to 1.5 Mbit/s) and the work of a decoder are those of stock footage.
"""

import csv
import os
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 336, 596
RATES = (Fraction(25), Fraction(30_000, 1001), Fraction(30))
ENCODER = {
    "preset": "fast",
    "crf": "23",
    "g": "250",
    "bf": "3",
    "threads": "1",
}  # a keyframe every 250 frames or at a cut
MARGIN = 1.3  # the still scene is this much larger than what the camera sees


def natural_texture(generator: np.random.Generator, height: int, width: int, falloff: float = 1.1) -> np.ndarray:
    """uint8 (height, width, 3) with a 1/f spectrum, its channels correlated as in photographs."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** falloff
    layers = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * generator.random(amplitude.shape))
        layer = np.fft.irfft2(amplitude * phase, s=(height, width))
        layers.append(layer / layer.std())
    grey, *colour = layers
    channels = [grey + 0.35 * tint for tint in (colour[0], colour[1], -colour[0])]
    return np.stack([np.clip(120 + 48 * channel, 0, 255) for channel in channels], axis=-1).astype(np.uint8)


def scene(generator: np.random.Generator, frames: int):
    """Yields ``frames`` pictures, uint8 RGB (HEIGHT, WIDTH, 3)."""
    far = natural_texture(generator, int(HEIGHT * MARGIN), int(WIDTH * MARGIN))
    things = [natural_texture(generator, 128, 128, 0.9) for _ in range(3)]
    masks = [
        cv2.circle(np.zeros((128, 128), np.uint8), (64, 64), int(generator.uniform(25, 60)), 1, -1) for _ in things
    ]
    grain = generator.normal(0, 2.0, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    angle, zoom = generator.uniform(0, 2 * np.pi), generator.uniform(-0.05, 0.05)
    speed = generator.uniform(0.05, 0.25) * HEIGHT * (MARGIN - 1) / frames
    drift = speed * np.asarray([np.cos(angle), np.sin(angle)])
    places, moves = generator.uniform(0.1, 0.7, (3, 2)) * (WIDTH, HEIGHT), generator.uniform(-2, 2, (3, 2))
    for number in range(frames):
        scale = 1 + zoom * number / frames
        x, y = (WIDTH, HEIGHT) * np.asarray(MARGIN - 1) / 2 + drift * number
        camera = np.asarray([[scale, 0, -x], [0, scale, -y]])
        picture = cv2.warpAffine(far, camera, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for thing, mask, place, move in zip(things, masks, places, moves, strict=True):
            left, top = (place + move * number).astype(int) % (WIDTH - 128, HEIGHT - 128)
            part = picture[top : top + 128, left : left + 128]
            np.copyto(part, thing, where=mask[..., None].astype(bool))
        yield np.clip(picture + grain[number % 8], 0, 255).astype(np.uint8)


def make_video(path: Path, number: int) -> None:
    """Write one video, drawn from its number alone; nothing is done where it is there."""
    import av

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([number, 596])
    rate = RATES[number % len(RATES)]
    frames = round(generator.uniform(10, 20) * float(rate))
    unfinished = path.with_suffix(f".{os.getpid()}.part.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=ENCODER)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in scene(generator, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    unfinished.rename(path)


def make_set(folder: Path, count: int, workers: int) -> list[Path]:
    """``count`` videos in WebVid's layout below ``folder``, made where they lack, with a listing."""
    videos = folder / "videos"
    places = [
        videos / f"{number // 50 * 50:06d}_{number // 50 * 50 + 49:06d}" / f"{number}.mp4" for number in range(count)
    ]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(make_video, places, range(count), chunksize=1))
    listing = folder / f"results_{count}.csv"
    with listing.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "contentUrl", "duration", "page_dir", "name"])
        writer.writerows([path.stem, "", "", path.parent.name, f"made scene {path.stem}"] for path in places)
    return places
