"""Runs the reference detector: `python -m reference_detector --host 127.0.0.1 --port 8600 --data .state/detector`."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from reference_detector.dataset import DatasetMissing, data_folder, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_detector.detector import Detector
    from reference_detector.fitting import Progress

USAGE = 2
FAILED = 1
GRACE_S = 5


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        data_folder()
        args.data.mkdir(parents=True, exist_ok=True)
        listener = _listen(args.host, args.port)
    except (DatasetMissing, OSError) as exc:
        print(f"reference detector: {_sentence(exc, args)}", file=sys.stderr)  # noqa: T201 - a command's answer
        return USAGE
    logging.basicConfig(level=logging.INFO, format="reference detector: %(message)s", stream=sys.stderr)
    return _serve(args, listener)


def _serve(args: argparse.Namespace, listener: socket.socket) -> int:
    """Serve until a signal; the libraries are imported here, so that a wrong argument is reported at once."""
    import uvicorn  # noqa: PLC0415

    from reference_detector.fitting import detector_for  # noqa: PLC0415
    from reference_detector.service import Limits, Service  # noqa: PLC0415

    def load(progress: Progress) -> Detector:
        return detector_for(split(), args.data, progress=progress)

    failed = False

    def fail() -> None:
        nonlocal failed
        failed, server.should_exit = True, True

    limits = Limits(workers=args.workers, queue=args.queue, max_bytes=args.max_bytes, max_px=args.max_pixels)
    app = Service(load, limits, on_failure=fail).app()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S))
    logging.getLogger(__name__).info("listening on http://%s:%d", args.host, listener.getsockname()[1])
    server.run(sockets=[listener])
    return FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference_detector", description="Detects anomalies in photos of solar cells.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8600)
    parser.add_argument("--data", type=Path, required=True, help="folder for the fitted state")
    parser.add_argument("--workers", type=_positive, default=2, help="images processed in parallel")
    parser.add_argument("--queue", type=_positive, default=256, help="images that may wait; further ones get 503")
    parser.add_argument("--max-bytes", type=_positive, default=20 * 1024 * 1024, help="largest image")
    parser.add_argument("--max-pixels", type=_positive, default=50_000_000, help="largest image")
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:  # noqa: PLR2004 - TCP's range of ports
        raise argparse.ArgumentTypeError("must be from 1 to 65535")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def _sentence(exc: Exception, args: argparse.Namespace) -> str:
    if not isinstance(exc, OSError):
        return str(exc)
    if exc.filename is None:
        return f"cannot listen on {args.host}:{args.port}: {exc.strerror or exc}; choose another --port"
    return f"cannot write its state to {args.data}: {exc.strerror}; choose another --data"


def _leave(_number: int, _frame: object) -> NoReturn:
    """Exit on a signal before the server runs, and after it, because uvicorn raises the signal again once it has shut down."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
