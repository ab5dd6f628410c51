"""What containers are told, and their network, without an image: tests/image has the rest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dask_root_lambda.emulator.bundles import bundle, command_line
from dask_root_lambda.emulator.functions import FunctionVersion, describe
from dask_root_lambda.emulator.images import ContainerImage, ImageError, read_image
from dask_root_lambda.emulator.networks import PrivateNetwork
from dask_root_lambda.emulator.options import Image, Options, load_images
from dask_root_lambda.emulator.packages import Package

from .clouds import Cloud

IMAGE = ContainerImage(
    "a1",
    10,
    ("/top", "/base"),
    {"PATH": "/opt/bin"},
    ("python", "-m", "awslambdaric"),
    ("app.run",),
    "/var/task",
)


def version(**parameters: Any) -> FunctionVersion:
    parameters = {"PackageType": "Image", "Role": "arn:aws:iam::123456789012:role/tests", **parameters}
    return describe("f", parameters, "arn:f", Package("a1", image_uri="x:1", container=IMAGE))


def test_limits_of_the_function_become_those_of_the_container():
    """Memory, with /tmp beside it, the size of /tmp, and Lambda's numbers of processes and descriptors."""
    config = bundle(version(MemorySize=1769, EphemeralStorage={"Size": 700}), IMAGE, {"A": "b"}, "/net", ())
    assert config["linux"]["resources"]["memory"]["limit"] == (1769 + 700) * 2**20
    assert config["linux"]["resources"]["pids"]["limit"] == 1024
    assert config["process"]["env"] == ["A=b"]
    assert config["root"]["readonly"]
    tmp = next(mount for mount in config["mounts"] if mount["destination"] == "/tmp")
    assert "size=700m" in tmp["options"]


def test_a_container_has_no_rights_and_an_ordinary_user():
    """No capability, no new privileges, not root."""
    process = bundle(version(), IMAGE, {}, "/net", ())["process"]
    assert process["capabilities"] == {}
    assert process["noNewPrivileges"]
    assert process["user"]["uid"] != 0


def test_directories_of_the_machine_are_seen_read_only():
    """At the same path, with what is mounted below them."""
    mount = bundle(version(), IMAGE, {}, "/net", ("/data",))["mounts"][-1]
    assert mount["source"] == mount["destination"] == "/data"
    assert {"rbind", "ro", "nosuid", "nodev"} == set(mount["options"])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["python", "-m", "awslambdaric", "app.run"]),
        ({"Command": ["other.run"]}, ["python", "-m", "awslambdaric", "other.run"]),
        ({"EntryPoint": ["/bin/rie"]}, ["/bin/rie", "app.run"]),
    ],
)
def test_image_config_replaces_what_the_image_says(config: dict[str, Any], expected: list[str]):
    """Entry point and command each by themselves, as on AWS."""
    assert command_line(version(ImageConfig=config), IMAGE) == expected


def test_podmans_description_of_an_image_is_read():
    """The topmost layer comes first."""
    document = {
        "Id": "f00",
        "Size": 5,
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": "/3", "LowerDir": "/2:/1"}},
        "Config": {"Env": ["A=b=c"], "Cmd": ["x"], "WorkingDir": "/w"},
    }
    assert read_image(document) == ContainerImage(
        "f00", 5, ("/3", "/2", "/1"), {"A": "b=c"}, (), ("x",), "/w"
    )


def test_layers_that_cannot_be_mounted_are_told():
    """With the storage driver's name."""
    with pytest.raises(ImageError, match="vfs"):
        read_image({"Id": "f00", "Size": 5, "GraphDriver": {"Name": "vfs", "Data": {}}})


def test_the_image_runner_decides_for_images_that_no_pattern_matches():
    """Patterns come first; a runner that does not exist is refused."""
    options = Options(image_runner="container", images=(("a:*", Image()),))
    assert options.image("a:1").container == ""
    assert options.image("b:1").container == "b:1"
    with pytest.raises(ValueError, match="image_runner"):
        Options(image_runner="docker")


def test_a_mapping_of_images_can_name_containers(tmp_path: Path):
    """With the directories that they see."""
    path = tmp_path / "images.yaml"
    path.write_text("'*/f:*': {container: 'localhost/f:1', read_only: [/data]}")
    assert load_images(path) == (("*/f:*", Image(container="localhost/f:1", read_only=("/data",))),)


@pytest.mark.timeout(60)
def test_a_container_image_that_is_not_there_makes_no_function(own_cloud: Any):
    """CreateFunction is refused, with the image's name or what is missing on this machine."""
    cloud: Cloud = own_cloud(image_runner="container")
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match=r"no-such|podman"):
        cloud.lambda_.create_function(
            FunctionName="f",
            Role=cloud.role,
            PackageType="Image",
            Code={"ImageUri": "localhost/no-such-image:1"},
        )


PROBE = """
import socket, sys
def reach(host, port):
    try:
        return socket.create_connection((host, port), 2).recv(2).decode()
    except OSError as error:
        return error.strerror
here, outside, elsewhere = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print(reach("127.0.0.1", here), reach("127.0.0.1", outside), reach(elsewhere, 80), sep="|")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="making networks needs root")
def test_a_private_network_reaches_nothing_but_what_is_served_in_it():
    """A socket made in it is reached; one of the machine's loopback is not, and no address elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        network = PrivateNetwork([("127.0.0.1", 0)])
        inside = network.listeners[0]
        inside.settimeout(30)
        ports = [str(each.getsockname()[1]) for each in (inside, outside)]
        probe = subprocess.Popen(
            ["nsenter", f"--net={network.path}", sys.executable, "-c", PROBE, *ports, "192.0.2.1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        connection, _ = inside.accept()
        connection.sendall(b"ok")
        said, _ = probe.communicate(timeout=30)
        connection.close()
        network.close()
    assert said.strip() == "ok|Connection refused|Network is unreachable"
