"""Networks that are no part of the public internet, and the services of clouds that have public addresses.

`python -m anomaly.transport.special_addresses FILE…` compares the table with IANA's registries of special-purpose addresses, the files
`iana-ipv4-special-registry-1.csv` and `iana-ipv6-special-registry-1.csv`. It prints each block that is not globally reachable by the
registry and not refused here, and exits with 1 if there is one.
"""

from __future__ import annotations

import csv
import re
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has allocated of IPv6 for hosts. Other IPv6 addresses are refused, apart from those that hold an IPv4 address."""
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The third quarter of an IPv6 address whose last one is the IPv4 address of a tunnel's end (RFC 5214)."""
SPECIAL = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private use",
    "100.64.0.0/10": "shared address space, and Alibaba's metadata service 100.100.100.200",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local, and most clouds' metadata services",
    "172.16.0.0/12": "private use",
    "192.0.0.0/24": "protocol assignments, and Oracle's metadata service 192.0.0.192",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private use",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and limited broadcast",
    "2001::/23": "protocol assignments, Teredo among them",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3ffe::/16": "the former 6bone",
    "3fff::/20": "documentation",
    # Public by the registries, but answered inside a cloud only:
    "168.63.129.16/32": "Azure's platform services",
    "161.26.0.0/16": "IBM Cloud's platform services",
    "166.8.0.0/14": "IBM Cloud's private endpoints",
    "199.36.153.4/30": "Google Cloud's restricted APIs",
    "199.36.153.8/30": "Google Cloud's private APIs",
}
_REFUSED = {version: tuple(net for net in map(ip_network, SPECIAL) if net.version == version) for version in (4, 6)}
_NOTE = re.compile(r"\s*\[\d+\]")


def effective(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that is embedded in an IPv6 address, else the address itself."""
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Return whether an *effective* address is one of a host on the public internet."""
    if isinstance(ip, IPv6Address):
        if ip not in GLOBAL_UNICAST:
            return False
        if int(ip) >> 32 & 0xFFFFFFFF in ISATAP and not is_public(IPv4Address(int(ip) & 0xFFFFFFFF)):
            return False
    return not any(ip in network for network in _REFUSED[ip.version])


def missing_blocks(registry: Iterable[str]) -> list[str]:
    """Return the blocks of a registry's CSV text that it does not call globally reachable, and that are not refused entirely."""
    missing = []
    for row in csv.DictReader(registry):
        if _NOTE.sub("", row["Globally Reachable"] or "").strip() == "True":
            continue
        blocks = [block.strip() for block in _NOTE.sub("", row["Address Block"]).split(",")]
        missing += [f"{block} ({row['Name']})" for block in blocks if not _is_refused(ip_network(block))]
    return missing


def _is_refused(network: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv6Network):
        if network.subnet_of(IPv6Network("::ffff:0:0/96")):  # judged by the IPv4 address
            return True
        if not network.overlaps(GLOBAL_UNICAST):
            return not network.overlaps(NAT64)
    first, last = network.network_address, network.broadcast_address
    return any(first in refused and last in refused for refused in _REFUSED[network.version])


def main(paths: Sequence[str]) -> int:
    """Print the missing blocks of each registry; return the exit status."""
    missing = []
    for path in paths:
        with Path(path).open(newline="", encoding="utf-8") as registry:
            missing += missing_blocks(registry)
    sys.stdout.writelines(f"{block}\n" for block in missing)
    return 1 if missing or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
