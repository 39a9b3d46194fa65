"""The image, really built and run, without Docker: debootstrap makes a base, buildah the image.

It takes about ten minutes and root, so it runs on request:

    apt-get install buildah debootstrap
    MINIGPT_BUILD_IMAGE=1 python -m pytest tests/deploy/test_image.py
    MINIGPT_IMAGE=localhost/minigpt:test python -m pytest ...   # one that was built before
"""

import os
import re
import shutil
import subprocess

import httpx
import pytest

from tests.conftest import ROOT
from tests.deploy.servers import free_port, is_ready
from tests.serving.fake_api import wait_for

BASE, IMAGE = "localhost/minigpt-base:test", "localhost/minigpt:test"
LARGEST = 500_000_000
BUILDAH = ("buildah", "--storage-driver", "vfs")
USELESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man")
"""What the official slim images leave out as well."""

SANDBOX = """
set -e
root=$1 models=$2 port=$3
mount --make-rprivate /
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp" && mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$models" "$root/models" && mount -o remount,bind,ro "$root/models"
exec env -i $4 MINIGPT_API_KEYS="test sesame" "$(command -v chroot)" "$root" \\
    setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all \\
    minigpt serve --host 0.0.0.0 --port "$port" --models /models/tiny
"""
"""What a container's runtime does: read-only file systems, no root, the image's environment."""


def run(*command, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    if found := os.environ.get("MINIGPT_IMAGE"):
        return found
    if not os.environ.get("MINIGPT_BUILD_IMAGE"):
        pytest.skip("takes ten minutes: set MINIGPT_BUILD_IMAGE=1")
    if os.geteuid() or not (shutil.which("buildah") and shutil.which("debootstrap")):
        pytest.skip("needs root, buildah and debootstrap")
    base = tmp_path_factory.mktemp("image") / "base"
    packages = "--include=python3,python3-venv,ca-certificates"
    mirror = "http://deb.debian.org/debian"
    run("debootstrap", "--variant=minbase", packages, "bookworm", base, mirror)
    for folder in USELESS:
        shutil.rmtree(base / folder)
    container = run(*BUILDAH, "from", "scratch")
    run(*BUILDAH, "copy", "-q", container, base, "/")
    run(*BUILDAH, "commit", "-q", container, BASE)
    run(*BUILDAH, "rm", container)
    volumes = [f"--volume={path}:{path}:ro" for path in ("/etc/ssl/certs", "/etc/pip.conf")]
    volumes = [volume for volume in volumes if os.path.exists(volume.split("=")[1].split(":")[0])]
    options = ["--isolation", "chroot", "--pull-never", "--build-arg", f"BASE={BASE}", *volumes]
    run(*BUILDAH, "bud", *options, "-f", ROOT / "deploy" / "Dockerfile", "-t", IMAGE, ROOT)
    return IMAGE


@pytest.fixture(scope="module")
def root(image):
    """The image's file system."""
    container = run(*BUILDAH, "from", "--pull-never", image)
    folder = run(*BUILDAH, "mount", container)
    yield folder
    run(*BUILDAH, "umount", container)
    run(*BUILDAH, "rm", container)


def test_the_image_is_small(image):
    (size,) = re.findall(r"([\d.]+) MB", run(*BUILDAH, "images", image))
    assert float(size) * 1e6 <= LARGEST


def test_it_serves_without_root_on_a_read_only_file_system(root, image, trained_folder, tmp_path):
    for name in ("tensorflow", "keras", "pip"):
        found = run("find", f"{root}/opt/minigpt", "-maxdepth", "4", "-name", name)
        assert not found
    shutil.copytree(trained_folder, tmp_path / "models" / "tiny")
    for folder in (tmp_path, *tmp_path.parents):  # user 10001 reads the models
        folder.chmod(0o755) if folder.name.startswith(("test_", "pytest", "models")) else None
    run("chmod", "-R", "a+rX", tmp_path)
    os.makedirs(f"{root}/models", exist_ok=True)
    variables = run(
        *BUILDAH, "inspect", "--format", "{{range .OCIv1.Config.Env}}{{.}} {{end}}", image
    )
    port = free_port()
    with (tmp_path / "log").open("w+") as log:
        words = [root, str(tmp_path / "models"), str(port), variables]
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        process = subprocess.Popen(
            [*command, "bash", "-c", SANDBOX.replace("$4", variables), "bash", *words],
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: process.poll() is not None or is_ready(url), 120)
            assert process.poll() is None, (tmp_path / "log").read_text()
            body = {"model": "tiny", "prompt": "he was", "max_tokens": 4}
            assert httpx.post(f"{url}/v1/completions", json=body).status_code == 401
            headers = {"Authorization": "Bearer sesame"}
            answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=60)
            assert answer.json()["usage"]["completion_tokens"] == 4
            users = run("ps", "-eww", "-o", "uid,args")
            assert re.search(rf"^ *10001 .*serve --host 0.0.0.0 --port {port}", users, re.M)
        finally:
            process.kill()
            process.wait()
