"""`anomaly page`."""

from __future__ import annotations

import contextlib
import socket

import click

from anomaly.commands.output import examples, json_option, print_json, print_line

LOOPBACK = "127.0.0.1"


@click.command(epilog=examples("anomaly page", "anomaly page --port 8091 --json"))
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@json_option
def command(*, port: int, as_json: bool) -> None:
    """Serve the page without Airflow, to this machine only.

    It has no login: who can open it may decide and requeue, in your name. In Airflow, Airflow's rights apply.
    """
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from anomaly.page.access import local_access
    from anomaly.page.app import create_app

    try:
        listener = socket.create_server((LOOPBACK, port))
    except OSError as exc:
        raise click.ClickException(f"cannot listen on port {port}: {exc.strerror}") from exc
    app = create_app(local_access())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])  # no name that another site has pointed here
    address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
    if as_json:
        print_json({"address": address})
    else:
        print_line(f"the page is at {address}; Ctrl-C ends it")
    with listener, contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again after it has ended
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
