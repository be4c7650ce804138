"""Make the embedded data set: a WebVid-like listing with mp4 files, a UCF101-like tree and ImageBench-like pictures.

Real encoded files, so that every later stage runs as on real data; made from the seed alone.
"""


def add_arguments(parser):
    pass


def run(stage):
    import functools

    from tqdm import tqdm

    from pipeline.data.workers import LOST, map_in_order
    from pipeline.data.world import lay_out, make_video
    from pipeline.errors import PipelineError

    folder, settings = stage.outputs[0], stage.params.world
    folder.mkdir(parents=True)
    videos = lay_out(folder, settings)
    work = functools.partial(make_video, folder=folder, settings=settings)
    for video, answer in tqdm(
        map_in_order(work, videos, stage.workers, 60), total=len(videos), unit="video", disable=None
    ):
        if answer is LOST:
            raise PipelineError(f"{video.path}: the encoder crashed; run again with runtime.log_level DEBUG")
    stage.log.info("%d videos, %d pictures", len(videos), settings.pictures)
    stage.record.metrics({"videos": len(videos), "pictures": settings.pictures})
