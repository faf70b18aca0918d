"""The table of addresses that are not public, against the text of IANA's registries."""

from __future__ import annotations

import csv
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from anomaly.transport.guard import is_allowed
from anomaly.transport.special_addresses import SPECIAL, main

FOLDER = Path(__file__).parent
REGISTRIES = [FOLDER / f"ipv{version}_registry.csv" for version in (4, 6)]
"""Four columns of the registries, with all their rows."""
MAPPED = "::ffff:0:0/96"
"""Judged by the IPv4 address."""


def blocks() -> list[str]:
    rows = [row for path in REGISTRIES for row in csv.DictReader(path.read_text().splitlines())]
    cells = [re.sub(r" \[\d\]", "", row["Address Block"]) for row in rows if row["Globally Reachable"] != "True"]
    return [block.strip() for cell in cells for block in cell.split(",") if block != MAPPED]


@pytest.mark.parametrize("block", [*blocks(), *SPECIAL])
def test_the_ends_of_a_special_block_are_refused(block: str) -> None:
    network = ip_network(block)
    for address in (network[0], network[-1]):
        assert not is_allowed(str(address), ())
        assert is_allowed(str(address), (network,))
        if address.version == 4:
            assert not is_allowed(f"::ffff:{address}", ())


@pytest.mark.parametrize("prefix", ["2a00:1450::5efe", "2a00:1450::200:5efe"])
def test_the_end_of_a_tunnel_is_judged_by_its_ipv4_address(prefix: str) -> None:
    assert not is_allowed(f"{prefix}:169.254.169.254", ())
    assert is_allowed(f"{prefix}:8.8.8.8", ())


def test_the_table_has_every_block_of_the_registries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path) for path in REGISTRIES]) == 0
    assert capsys.readouterr().out == ""


def test_a_block_that_the_table_lacks_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = tmp_path / "newer.csv"
    rows = ['"45.0.0.0/24, 10.1.0.0/16",New,[RFC1],False [1]', "2a00::/32,Newer,[RFC2],N/A", "46.0.0.0/24,Reachable,[RFC3],True"]
    newer.write_text("\n".join(["Address Block,Name,RFC,Globally Reachable", *rows]))

    assert main([str(newer)]) == 1
    assert capsys.readouterr().out == "45.0.0.0/24 (New)\n2a00::/32 (Newer)\n"


def test_without_a_registry_nothing_is_compared() -> None:
    assert main([]) == 1
