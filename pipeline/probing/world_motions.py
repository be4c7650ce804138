"""The same scene of the embedded world with other motions: what may follow a first frame that tells no motion."""

import numpy as np

from pipeline.data.world import CLASS_COLOURS, draw_motion, plan_videos, render
from pipeline.seeding import numpy_generator


def scene_with_motions(world, number: int, motions: int, frames: int, stride: int, seed: int) -> np.ndarray:
    """uint8 RGB (motions + 1, frames, size, size, 3): the scene's own motion first, then draws from the world's.

    ``world``: the group of params.yaml; ``number``: of the UCF101 test video. All share the first frame.
    """
    video = plan_videos(world, "ucf101test", number + 1, CLASS_COLOURS)[number]
    generator = numpy_generator(seed, "other motions", video.name)
    velocities = [video.velocity, *(draw_motion(generator, world.size) for _ in range(motions))]
    return np.stack([
        render(
            video.look,
            (stride * velocity[0], stride * velocity[1]),
            frames,
            world.size,
            numpy_generator(world.seed, "texture", video.name),
        )
        for velocity in velocities
    ])  # fmt: skip
