"""Addresses and names of clusters."""

import ipaddress
from itertools import combinations

import pytest

from localcluster.addresses import MAX_CLUSTERS, Addresses, check_name, free_index
from localcluster.errors import ClusterError


def networks(at: Addresses) -> list[ipaddress.IPv4Network]:
    link = ipaddress.ip_interface(f"{at.host_ip}/30").network
    return [link, ipaddress.IPv4Network(at.pod_cidr), ipaddress.IPv4Network(at.service_cidr)]


def test_no_two_clusters_share_an_address() -> None:
    every = [n for index in range(MAX_CLUSTERS) for n in networks(Addresses("a", index))]
    assert not any(one.overlaps(other) for one, other in combinations(every, 2))


def test_the_addresses_of_a_cluster_lie_in_its_networks() -> None:
    at = Addresses("dev", 3)
    link, pods, services = networks(at)
    assert ipaddress.ip_address(at.node_ip) in link
    assert ipaddress.ip_address(at.dns_ip) in pods
    assert ipaddress.ip_address(at.api_service_ip) in services
    assert at.server == "https://10.243.3.2:6443"


def test_link_names_fit_the_kernel_and_differ() -> None:
    names = [n for index in range(MAX_CLUSTERS) for at in [Addresses("a", index)] for n in (at.host_veth, at.node_veth)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15


@pytest.mark.parametrize("name", ["dev", "a", "x-1", "a" * 20, "0"])
def test_accepts_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "../x", "a" * 21, ".locks", "a b", "ä"])
def test_refuses_a_name_that_is_no_safe_file_or_node_name(name: str) -> None:
    with pytest.raises(ClusterError, match="is not allowed: use 1 to 20 lower-case letters"):
        check_name(name)


def test_the_lowest_free_index_is_taken() -> None:
    assert free_index(set()) == 0
    assert free_index({0, 1, 3}) == 2


def test_says_so_when_no_index_is_free() -> None:
    with pytest.raises(ClusterError, match="down --name"):
        free_index(set(range(MAX_CLUSTERS)))


def test_refuses_an_index_outside_of_the_plan() -> None:
    with pytest.raises(ClusterError, match="index 100"):
        Addresses("a", MAX_CLUSTERS)
