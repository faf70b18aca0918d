"""A StatsD server that records all measurements."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from typing import Self

LINE = re.compile(r"(?P<name>[^,:]+)(?P<tags>(?:,[^:]*)?):(?P<value>[^|]+)\|(?P<kind>c|g|ms)")
END = b"end"
WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One measurement. Times are in milliseconds."""

    name: str
    kind: str
    """c, g or ms: counter, gauge, timer."""
    value: float
    tags: dict[str, str]


class Statsd:
    """Listens on 127.0.0.1 between enter and exit, or until `close`. Reads tags in InfluxDB's format."""

    def __enter__(self) -> Self:
        self.sent: list[Sent] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._address = self._socket.getsockname()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def env(self) -> dict[str, str]:
        """Environment with which Airflow sends its statistics to this server."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": self._address[0],
            "AIRFLOW__METRICS__STATSD_PORT": str(self._address[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def close(self) -> list[Sent]:
        """Stop; return all measurements sent before this call."""
        if self._thread.is_alive():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.sendto(END, self._address)  # datagrams on one machine keep their order
            self._thread.join(WITHIN_S)
            assert not self._thread.is_alive()
            self._socket.close()
        return self.sent

    def _listen(self) -> None:
        while (datagram := self._socket.recv(65536)) != END:
            for line in datagram.decode().splitlines():
                if found := LINE.fullmatch(line):
                    tags = dict(tag.split("=", 1) for tag in found["tags"].split(",") if tag)
                    self.sent.append(Sent(name=found["name"], kind=found["kind"], value=float(found["value"]), tags=tags))
