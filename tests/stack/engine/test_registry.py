"""Names of images, and where a lab's own registry has them."""

import pytest

from stack.engine.registry import (
    default_images,
    derived_images,
    mirrored,
    settings_for,
    short_name,
)


def test_the_defaults_stand_in_compose_yaml() -> None:
    images = default_images()
    assert {"BASE_IMAGE", "DEEPO_IMAGE", "GATEWAY_IMAGE", "POSTGRES_IMAGE"} <= set(images)
    assert all(image.startswith("docker.io/") and ":" in image for image in images.values())


def test_without_a_prefix_nothing_follows() -> None:
    assert derived_images({}) == {} == derived_images({"REGISTRY_PREFIX": " "})


def test_a_prefix_names_every_image_that_nobody_has_named() -> None:
    defaults = {"A_IMAGE": "docker.io/library/a:1", "B_IMAGE": "docker.io/some/b:2"}
    settings = {"REGISTRY_PREFIX": "registry.hospital.lan/mirror/", "B_IMAGE": "own/b"}
    assert derived_images(settings, defaults) == {
        "A_IMAGE": "registry.hospital.lan/mirror/library/a:1"
    }


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("docker.io/library/caddy:2", "reg/library/caddy:2"),
        ("docker.io/ufoym/deepo:x", "reg/ufoym/deepo:x"),
        ("ghcr.io/a/b:1", "reg/a/b:1"),
        ("localhost:5000/a/b", "reg/a/b"),
        ("caddy:2", "reg/library/caddy:2"),
        ("ufoym/deepo", "reg/ufoym/deepo"),
    ],
)
def test_a_mirror_has_docker_hubs_paths(image: str, expected: str) -> None:
    assert mirrored(image, "reg") == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("docker.io/library/caddy:2", "caddy:2"),
        ("docker.io/ufoym/deepo:x", "ufoym/deepo:x"),
        ("registry.lan:5000/caddy", "registry.lan:5000/caddy:latest"),
        ("caddy:2@sha256:ab", "caddy@sha256:ab"),
    ],
)
def test_names_are_compared_as_the_engine_lists_them(image: str, expected: str) -> None:
    assert short_name(image) == expected


def test_a_setting_is_found_for_an_image() -> None:
    default = default_images()["GATEWAY_IMAGE"]
    assert settings_for([default, "labloop/x:1"], {}) == {default: "GATEWAY_IMAGE"}
    assert settings_for(["own/caddy:1"], {"GATEWAY_IMAGE": "own/caddy:1"}) == {
        "own/caddy:1": "GATEWAY_IMAGE"
    }
