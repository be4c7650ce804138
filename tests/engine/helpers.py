"""What several engine tests share."""

import os
import signal
import time


def wait_for(condition, seconds: float = 60) -> None:
    """Until ``condition()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def stop_after(workspace, address: str) -> None:
    """Start a run and kill it, jobs included, when the receipt of ``address`` is there."""
    receipt = workspace.path / f".state/receipts/{address}.json"
    old = receipt.read_bytes() if receipt.exists() else b""
    process = workspace.popen("snakemake", "--cores", "1", "reports/table3.csv", start_new_session=True)
    wait_for(lambda: receipt.exists() and receipt.read_bytes() != old)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
