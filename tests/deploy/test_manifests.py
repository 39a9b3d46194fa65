"""Dockerfile, compose file and Kubernetes manifests: valid, and as careful as they claim to be."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_tf.config import ServingConfig
from tests.conftest import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(file for file in (DEPLOY / "k8s").glob("*.yaml") if "kustom" not in file.name)


def program(name: str) -> str:
    """A program beside this Python, or on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def output(*command) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifest(name: str) -> dict:
    return yaml.safe_load((DEPLOY / "k8s" / f"{name}.yaml").read_text())


def container() -> dict:
    (only,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    return only


def test_the_dockerfile_has_no_lint():
    output(program("hadolint"), str(DEPLOY / "Dockerfile"))


def test_the_dockerfile_copies_what_exists_and_runs_as_nobody():
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*" and {"!minigpt_tf", "!deploy/requirements.lock"} <= set(ignored)
    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert re.search(r'^ENTRYPOINT \["minigpt", "serve"', text, re.M)  # the exec form: signals


@pytest.mark.parametrize("version", ["1.28", "1.30", "1.33"])
def test_the_manifests_are_valid(version):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")
    for file in MANIFESTS:
        validate.validate(yaml.safe_load(file.read_text()), version, strict=True)
    assert len(MANIFESTS) == 8
    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, version, strict=True)


def test_kustomize_renders_all_of_them():
    rendered = list(yaml.safe_load_all(output(program("kubectl"), "kustomize", DEPLOY / "k8s")))
    others = {"Namespace", "Ingress", "NetworkPolicy", "HorizontalPodAutoscaler"}
    kinds = {document["kind"] for document in rendered}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", *others}
    (image,) = re.findall(r"image: (\S+)", output(program("kubectl"), "kustomize", DEPLOY / "k8s"))
    assert image == "registry.example.com/minigpt:0.2.0"


def test_the_pod_may_do_nothing_but_serve():
    pod, only = manifest("deployment")["spec"]["template"]["spec"], container()
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(mount["readOnly"] for mount in only["volumeMounts"] if mount["name"] != "tmp")
    assert manifest("networkpolicy")["spec"]["egress"] == []
    assert manifest("namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


def test_the_pod_gets_whole_cores_and_time_to_drain():
    pod, only = manifest("deployment")["spec"]["template"]["spec"], container()
    asked, most = only["resources"]["requests"], only["resources"]["limits"]
    assert asked == most and asked["cpu"].isdigit()
    sleep = int(only["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = sleep + ServingConfig().drain_delay + ServingConfig().drain_seconds
    assert pod["terminationGracePeriodSeconds"] > needed
    paths = {name: only[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness")}
    assert set(paths.values()) == {"/health/ready"}
    assert only["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert manifest("pdb")["spec"]["minAvailable"] < manifest("hpa")["spec"]["minReplicas"]


def test_the_memory_is_enough_for_the_slots():
    """Weights of SmolLM2 in 8 bits, slots x context x bytes of keys and values, and 150 MB."""
    words = container()["args"]
    context, slots = (int(words[words.index(f"--{n}") + 1]) for n in ("context-length", "slots"))
    layers, key_value_width = 30, 3 * 64
    needed = 134_515_008 * 9 / 8 + slots * context * 2 * layers * key_value_width * 4 + 150e6
    asked = container()["resources"]["requests"]["memory"]
    assert needed < int(asked.removesuffix("Gi")) * 2**30


@pytest.mark.parametrize("words", [container()["args"], ["--models", "m", "--drain-delay", "5"]])
def test_the_options_are_the_servers(words):
    from minigpt_tf.__main__ import _Parser
    from minigpt_tf.cli.serve import add_arguments

    parser = _Parser()
    add_arguments(parser)
    parser.parse_args(words)


def test_compose_reads_its_file(tmp_path):
    """podman-compose asks podman for its version, and needs nothing of it to read a file."""
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    podman.chmod(0o755)
    environment = {**os.environ, "KEYS": "/dev/null", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [program("podman-compose"), "-f", str(DEPLOY / "compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services.keys() == {"minigpt-a", "minigpt-b", "nginx"}
    for service in services.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert services["minigpt-a"]["cpus"] == 2


def test_no_secret_is_in_the_files():
    for file in DEPLOY.rglob("*"):
        if file.is_file() and "example" not in file.name:
            assert "MINIGPT_API_KEYS=" not in file.read_text()
