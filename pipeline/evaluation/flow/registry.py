"""Which optical flow motion is measured with."""

from pipeline.evaluation.motion import Flow


def make_flow(settings, device: str) -> Flow:
    """The flow of a ``motion.flow`` group of params.yaml."""
    if settings.kind == "dis":
        from pipeline.evaluation.flow.dis import DisFlow

        return DisFlow()
    from pipeline.evaluation.flow.raft_flow import RaftFlow

    return RaftFlow(settings.weights, settings.updates, device)
