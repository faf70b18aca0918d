"""The page on a socket that its parent listens on, so that connections wait for the next process when one is killed."""

from __future__ import annotations

import socket
import sys

import uvicorn

from anomaly.page.access import local_access
from anomaly.page.app import create_app

if __name__ == "__main__":
    listener = socket.socket(fileno=int(sys.argv[1]))
    uvicorn.Server(uvicorn.Config(create_app(local_access()), log_level="warning", access_log=False)).run(sockets=[listener])
