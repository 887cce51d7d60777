"""What jobs/deploy, the Dockerfile and compose.yaml promise fits the code they start."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.app import create_app
from recsys.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "jobs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service")) + sorted(DEPLOY.glob("*.timer"))
KNOWN = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def kubernetes() -> dict[tuple[str, str], dict[str, Any]]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def containers(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield from node.get("containers", ())
        for inner in node.values():
            yield from containers(inner)


def stages() -> set[str]:
    return set(re.findall(r"^FROM .* AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def test_every_setting_that_is_named_exists() -> None:
    files = [ROOT / "compose.yaml", ROOT / "Dockerfile", *DEPLOY.iterdir()]
    named = {name for file in files for name in re.findall(r"\bRECSYS_[A-Z_]+", file.read_text())}
    assert named
    assert named <= KNOWN


def test_what_the_image_copies_exists_and_reaches_the_build() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    copied = re.findall(r"^COPY ([^-].*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert {"api", "features", "recsys", "jobs", "pyproject.toml"} <= sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source in sent


def test_the_compose_file_fits_the_dockerfile() -> None:
    services = compose()["services"]
    assert services["night"]["profiles"] == ["night"]
    for name in ("api", "night"):
        assert services[name]["build"]["target"] in stages()
        volumes = {volume.partition(":")[0] for volume in services[name]["volumes"]}
        assert volumes <= compose()["volumes"].keys()
        assert services[name]["environment"]["RECSYS_DATABASE_URL"].startswith("postgresql://")
    assert services["api"]["environment"]["RECSYS_DATA_DIR"] == "/data"


def test_probes_ask_what_the_server_answers() -> None:
    answered = create_app(Settings()).openapi()["paths"].keys()
    (api,) = containers(kubernetes()["Deployment", "recsys-api"])
    ports = {port["name"]: port["containerPort"] for port in api["ports"]}
    assert ports == {"http": 8000}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = api[probe]["httpGet"]
        assert asked["path"] in answered
        assert asked["port"] in ports


def test_kubernetes_objects_refer_to_each_other() -> None:
    found = kubernetes()
    labels = found["Deployment", "recsys-api"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service", "recsys-api"]["spec"]["selector"] == labels
    for of in (("Deployment", "recsys-api"), ("CronJob", "recsys-night")):
        text = yaml.safe_dump(found[of])
        assert "claimName: recsys-data" in text
        (one,) = containers(found[of])
        mounted = {mount["name"] for mount in one["volumeMounts"]}
        assert mounted == {"data", "tmp"}
        assert one["securityContext"]["readOnlyRootFilesystem"]
    assert found["CronJob", "recsys-night"]["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    binary = shutil.which("true")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/recsys/bin/python", str(binary))
        (tmp_path / unit.name).write_text(text.replace("User=recsys", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [row for row in done.stderr.splitlines() if "recsys" in row]
    assert (done.returncode, said) == (0, [])
