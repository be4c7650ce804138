"""What several engine tests share."""

import time


def wait_for(condition, seconds: float = 60) -> None:
    """Until ``condition()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
