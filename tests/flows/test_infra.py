"""docker/ and infra/: everything parses, and every file, command, flow and module that is named exists."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


@pytest.mark.parametrize("path", sorted(INFRA.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_parses(path: Path) -> None:
    assert [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_dockerfile_copies_what_exists_and_runs_as_a_user() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    stages = [line.split()[-1] for line in lines if line.startswith("FROM")]
    assert {"cpu", "gpu"} <= set(stages)
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER backline"] * 2


def test_compose_publishes_nothing_beyond_loopback_and_mounts_weights() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert {"postgres", "redis", "server", "services", "minio", "worker"} == set(services)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert any(":/weights" in volume for volume in services["worker"]["volumes"])
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name


def test_compose_secrets_are_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)[:}]", (INFRA / "compose.yaml").read_text()))
    given = {line.split("=")[0] for line in (INFRA / "env.example").read_text().splitlines() if "=" in line}
    assert wanted == given


def test_deployments_name_flows_that_exist() -> None:
    for deployment in yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]:
        path, name = deployment["entrypoint"].split(":")
        assert (ROOT / path).is_file()
        assert hasattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def test_kubernetes_job_and_pool_survive_an_eviction() -> None:
    job = yaml.safe_load((INFRA / "kubernetes" / "train-job.yaml").read_text())
    pool = json.loads((INFRA / "kubernetes" / "pool.json").read_text())
    for spec in (job["spec"], pool["job_configuration"]["job_manifest"]["spec"]):
        assert spec["backoffLimit"] == 0
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 300
        volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
        for container in spec["template"]["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_pool_template_uses_only_variables_that_it_declares() -> None:
    pool = json.loads((INFRA / "kubernetes" / "pool.json").read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(pool["job_configuration"])))
    assert used <= set(pool["variables"]["properties"])


def test_launchers_name_modules_and_options_of_the_trainer() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "model.train", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    job = yaml.safe_load((INFRA / "kubernetes" / "train-job.yaml").read_text())
    words = job["spec"]["template"]["spec"]["containers"][0]["args"]
    ours = words[words.index("model.train") + 1 :]
    options = [word for word in ours if word.startswith("--")]
    options += re.findall(r"--\w+", (INFRA / "slurm" / "train.sbatch").read_text().split("model.train")[1])
    assert set(options) == {"--run", "--dataset", "--out"}
    assert all(option in help_text for option in options)


def test_slurm_script_is_valid_bash_and_requeues_on_the_trainers_code() -> None:
    from model.stopping import RESUME_ME

    script = INFRA / "slurm" / "train.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert f"resume_me={RESUME_ME}" in script.read_text()


def test_packages_listed_one_by_one_are_those_of_the_tree() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("flows", "model", "pipeline")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


def test_init_files_are_empty() -> None:
    full = [
        path
        for top in ("flows", "model", "pipeline")
        for path in (ROOT / top).rglob("__init__.py")
        if path.stat().st_size
    ]
    assert full == []


def test_images_leave_the_command_to_pools_and_know_the_checkout() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text()
    assert "ENTRYPOINT" not in lines  # a pool's command is `prefect …`, not ours
    assert "BACKLINE_HOME=/app" in lines
    pull = yaml.safe_load((INFRA / "prefect.yaml").read_text())["pull"]
    assert "$BACKLINE_HOME" in json.dumps(pull)


def test_ci_installs_every_debian_package_that_is_listed() -> None:
    line = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("packages="))
    told = subprocess.run(
        ["bash", "-c", f'{line}; echo "$packages"'], capture_output=True, text=True, check=True, cwd=ROOT
    )
    listed = [line.split("#")[0].strip() for line in (ROOT / "tests" / "debian.txt").read_text().splitlines()]
    assert told.stdout.split() == [name for name in listed if name]
