"""Put on PYTHONPATH by test_smoke: notes every module of ours that a stage imports and every file it opens."""

import os
import sys

if "TRACE_FILE" in os.environ:
    if sys.orig_argv[1:3] == ["-m", "pipeline"]:
        os.environ["TRACE_STAGE"] = " ".join(sys.orig_argv[3:])

    if "TRACE_STAGE" in os.environ:
        _trace = os.open(os.environ["TRACE_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        _seen = set()

        def _note(event, args):
            if event == "import":
                what = args[0] if args[0] == "pipeline" or args[0].startswith("pipeline.") else None
            elif event == "open" and isinstance(args[0], str):
                what = os.path.abspath(args[0])  # noqa: PTH100 - resolve() would follow links
            else:
                return
            if what and (event, what) not in _seen:
                _seen.add((event, what))
                os.write(_trace, f"{os.environ['TRACE_STAGE']}\t{event}\t{what}\n".encode())

        sys.addaudithook(_note)
