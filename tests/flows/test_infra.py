"""docker/ and infra/: everything parses, and every file, command, flow and module that is named exists."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import prefect.server.api
import pytest
import yaml
from prefect.server.schemas.actions import validate_base_job_template

from flows import environment
from flows.deploying import TARGETS, PoolKind, Target

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
    assert {"postgres", "redis", "server", "services", "minio", "deploy", "worker"} == set(services)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert any(":/weights" in volume for volume in services["worker"]["volumes"])
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name


def test_workers_wait_at_the_pools_that_deploy_makes() -> None:
    compose = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    helm = yaml.safe_load((INFRA / "helm" / "worker.values.yaml").read_text())["worker"]["config"]
    assert compose["worker"]["command"].split()[-2:] == ["--pool", TARGETS["process"].pool]
    assert compose["deploy"]["command"] == "backline deploy"  # on processes
    assert (helm["workPool"], helm["type"]) == (TARGETS["kubernetes"].pool, "kubernetes")


def test_compose_secrets_are_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)[:}]", (INFRA / "compose.yaml").read_text()))
    given = {line.split("=")[0] for line in (INFRA / "env.example").read_text().splitlines() if "=" in line}
    assert wanted == given


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_deployments_name_flows_that_exist_and_variables_that_their_pool_declares(target: Target) -> None:
    declared = json.loads((INFRA / target.template).read_text())["variables"]
    for deployment in yaml.safe_load((INFRA / target.deployments).read_text())["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        assert deployment["work_pool"]["name"] == target.pool
        assert set(deployment["work_pool"].get("job_variables", {})) <= set(declared["properties"])
        assert "backline" in deployment["tags"]


@pytest.mark.parametrize("kind", TARGETS)
def test_pool_templates_hold_what_prefects_worker_of_that_kind_reads(kind: PoolKind) -> None:
    views = Path(str(prefect.server.api.__file__)).parent / "collections_data" / "views"
    known = json.loads((views / "aggregate-worker-metadata.json").read_text())
    (worker,) = [package[kind] for package in known.values() if kind in package]
    default = worker["default_base_job_configuration"]
    ours = json.loads((INFRA / TARGETS[kind].template).read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(ours["job_configuration"])))
    assert used <= set(ours["variables"]["properties"])
    assert set(ours["job_configuration"]) <= set(default["job_configuration"])
    assert {"command", "env", "labels", "name"} <= set(ours["job_configuration"])
    for name in set(ours["variables"]["properties"]) & set(default["variables"]["properties"]):
        assert ours["variables"]["properties"][name]["type"] == default["variables"]["properties"][name]["type"]
    values = {name: field["default"] for name, field in ours["variables"]["properties"].items() if "default" in field}
    jsonschema.validate(values, ours["variables"])
    patience = {name: value for name, value in environment.DEFAULTS.items() if name in values["env"]}
    assert patience.items() <= values["env"].items()
    assert {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_CLIENT_MAX_RETRIES"} <= patience.keys()
    validate_base_job_template(ours)


def test_kubernetes_job_and_pool_survive_an_eviction() -> None:
    job = yaml.safe_load((INFRA / "kubernetes" / "train-job.yaml").read_text())
    pool = json.loads((INFRA / "kubernetes" / "pool.json").read_text())
    for spec in (job["spec"], pool["job_configuration"]["job_manifest"]["spec"]):
        assert spec["backoffLimit"] == 0
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 300
        volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
        for container in spec["template"]["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


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


def test_launch_scripts_are_valid_bash_and_read_the_files_that_the_trainer_leaves() -> None:
    from model.checkpoint import COMPLETE, FINAL
    from model.endings import STOPPED
    from model.lock import LOCK

    job = yaml.safe_load((INFRA / "kubernetes" / "train-job.yaml").read_text())
    slurm = (INFRA / "slurm" / "train.sbatch").read_text()
    pod = job["spec"]["template"]["spec"]["containers"][0]["command"][2]
    for script in (slurm, pod):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        assert f"/{LOCK}" in script
        assert f"/{FINAL}/{COMPLETE} ]" in script.replace('"', "")
    assert f'rm -f "$run/{STOPPED}"' in slurm
    assert f'if [ -e "$run/{STOPPED}" ]' in slurm


@pytest.mark.parametrize(
    ("leaves", "code", "requeued"), [("STOPPED", 1, True), ("final/COMPLETE", 0, False), ("metrics.jsonl", 1, False)]
)
def test_slurm_tells_the_trainer_alone_to_stop_and_judges_by_what_it_leaves(
    tmp_path: Path, leaves: str, code: int, requeued: bool
) -> None:
    """`srun` here is a trainer that holds the lock and waits to be told; `scontrol` writes down what it is asked."""
    run, tools = tmp_path / "run", tmp_path / "bin"
    (run / "final").mkdir(parents=True)
    (run / "STOPPED").touch()  # of the job before
    tools.mkdir()
    trainer = f"trap 'touch {run / leaves}; exit 75' TERM; echo $$ here > {run}/.lock; while :; do sleep 0.05; done"
    told = f'[ "$1" = requeue ] && echo "$2" > {tmp_path}/requeued || echo node1'
    for name, body in (("srun", trainer), ("scontrol", told)):
        (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tools / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n", "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "1"}
    environment = os.environ | slurm | {"PATH": f"{tools}:{os.environ['PATH']}"}
    job = subprocess.Popen(["bash", str(INFRA / "slurm" / "train.sbatch"), "data", str(run)], env=environment)
    while not (run / ".lock").exists() or not (run / ".lock").read_text():
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(20) == code
    assert (tmp_path / "requeued").exists() is requeued


def test_every_package_of_the_tree_is_installed() -> None:
    import tomllib

    from setuptools import find_packages

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("flows", "model", "pipeline")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(find_packages(str(ROOT), include=wanted)) == found


def test_every_file_that_the_code_reads_is_installed() -> None:
    import tomllib

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    found = [path for top in ("flows", "model", "pipeline") for path in (ROOT / top).rglob("*.*") if path.is_file()]
    data = [path for path in found if path.suffix not in (".py", ".pyc")]
    assert data
    assert [str(path) for path in data if not any(path.match(pattern) for pattern in patterns)] == []
