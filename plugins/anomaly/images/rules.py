"""The rules for images: the options of the connection `anomaly_images`."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Self

from anomaly.errors import AddressBlocked, Misconfigured
from anomaly.images import address as addresses
from anomaly.images.address import DEFAULT_PORTS, Address
from anomaly.transport.guard import is_forbidden_literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

_EXTRAS = {"headers": dict, "hosts": list, "allow_networks": list, "allow_ports": list, "buckets": list, "proxy": str}
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """The options of the connection `anomaly_images`."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: frozenset[str] = frozenset()
    """scheme://host:port of the hosts that receive the headers. No other host does, nor one of these over another scheme."""
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are allowed although they are not public."""
    allow_ports: tuple[range, ...] = ()
    """Ports that are allowed beside 80, 443 and those of the origins."""
    buckets: frozenset[str] = frozenset()
    """Buckets from which images are allowed beside the archive's own."""
    proxy: str | None = field(default=None, repr=False)
    """Behind a proxy, the proxy has to guard addresses: it resolves the names of image hosts. Only hosts that are no names are checked."""

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], *, host: str | None = None) -> Self:
        """Return the rules in a connection's extra. *host* and each of its `hosts` is https unless it starts with http://.

        Raises:
            Misconfigured: an extra is unknown or of a wrong kind.
        """
        for name, value in extra.items():
            if name not in _EXTRAS or not isinstance(value, _EXTRAS[name]):
                raise Misconfigured(f"connection anomaly_images: the extra {name!r} is unknown or of a wrong kind; there are {_kinds()}")
        try:
            networks = tuple(ip_network(network) for network in extra.get("allow_networks", ()))
            hosts = (*extra.get("hosts", ()), *([host] if host else ()))
            if "proxy" in extra:
                addresses.parse(extra["proxy"])
            origins = frozenset(addresses.parse(name if "://" in name else f"https://{name}").origin for name in hosts)
            ports = tuple(_port_range(str(each)) for each in extra.get("allow_ports", ()))
        except (ValueError, TypeError, AddressBlocked) as exc:
            raise Misconfigured(f"connection anomaly_images: {exc}") from exc
        headers = {str(name): str(value) for name, value in extra.get("headers", {}).items()}
        return cls(
            headers=headers,
            origins=origins,
            allow_networks=networks,
            allow_ports=ports,
            buckets=frozenset(map(str, extra.get("buckets", ()))),
            proxy=extra.get("proxy"),
        )

    def check(self, address: Address) -> None:
        """Raise AddressBlocked if images may not come from the port. Behind a proxy, the host is checked too if it is no name."""
        port, host = address.port, address.origin.partition("://")[2].rpartition(":")[0]
        if port not in DEFAULT_PORTS.values() and address.origin not in self.origins and not any(port in each for each in self.allow_ports):
            raise AddressBlocked(f"{address}: images may not come from port {port} (see allow_ports)", by_network=True)
        if self.proxy and is_forbidden_literal(host, self.allow_networks):
            raise AddressBlocked(f"{address}: images may not come from this address (see allow_networks)", by_network=True)


def _port_range(text: str) -> range:
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports.start < 1 or ports.stop - 1 > _PORT_MAX:
        raise ValueError(f"{text!r} is neither a port nor a range such as 8000-8999")
    return ports


def _kinds() -> str:
    return ", ".join(f"{name} ({kind.__name__})" for name, kind in _EXTRAS.items())
