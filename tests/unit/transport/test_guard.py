"""Which addresses are public."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from ssrfguard import DEFAULT_DENIED, Policy

from anomaly.transport.guard import is_allowed

if TYPE_CHECKING:
    from ssrfguard import Block

NOT_PUBLIC = (
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 224.0.1.1 255.255.255.255 240.0.0.1"
    " 192.0.0.192 192.88.99.1 198.18.0.1 :: ::1 ::7f00:1 ::ffff:127.0.0.1 fe80::1%lo fc00::1 fec0::1 ff02::1 2002:7f00:1:: 2001:0:7f00:1::"
    " 3fff::1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1"
)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, ())


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_that_are_not_public_are_not(address: str) -> None:
    assert not is_allowed(address, ())


@pytest.mark.parametrize("block", DEFAULT_DENIED.blocks, ids=lambda block: str(block.network))
def test_an_address_that_another_guards_table_refuses_is_refused(block: Block) -> None:
    size, policy, rng = block.network.num_addresses, Policy(), Random(1)
    for offset in (0, size - 1, *(rng.randrange(size) for _ in range(50))):
        address = block.network.network_address + offset
        assert policy.permits_address(address) or not is_allowed(str(address), ())
