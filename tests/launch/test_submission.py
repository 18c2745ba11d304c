"""Checks of a search that is meant for a cluster, before anything is sent. `test_cluster.py` sends one."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support import Outcome, make_photos

from launch.cli.loading import load_search
from launch.jobs import jobs
from launch.jobs.submission import as_arguments, carried
from visionsweep.core.errors import ConfigError

CLI = Callable[..., Outcome]
NOBODY = "http://127.0.0.1:9"  # the port of a service that throws everything away, and that nobody offers


@pytest.fixture(autouse=True)
def no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in jobs.URL_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch"], "unknown search 'nosuch'"),
        (["quickstart", "--set", "batch_sise=8"], "batch_sise"),
        (["quickstart", "--set", "model.backbone=resnet43"], "resnet43"),
        (["quickstart", "--set", "metric=val/miou"], "val/miou"),
        (["quickstart", "--budget", "2 hous"], "a budget is a number with a unit (s, m, h or d), got '2 hous'"),
        (["quickstart", "--sampler", "nosuch"], "nosuch"),
        (["quickstart", "--log", "tensorbord"], "unknown logger 'tensorbord'. Did you mean 'tensorboard'?"),
        (["quickstart", "--name", "a/b"], "a run name is one folder name without slashes, got 'a/b'"),
        (["quickstart", "--on-bad-image", "skipp"], "unknown --on-bad-image 'skipp'. Did you mean 'skip'?"),
        (["quickstart", "--data", "photos"], "or on S3, got 'photos'. For example --data /shared/photos"),
        (["quickstart", "--runs-dir", "runs"], "or on S3, got 'runs'. For example --runs-dir /shared/runs"),
        (["quickstart", "--cache-dir", "cache"], "--cache-dir of a search that runs on a cluster is a path there"),
        (["quickstart", "--warm-start", "runs/old"], "--warm-start of a search that runs on a cluster is a path there"),
        (["quickstart", "--learn-from", "runs/old"], "--learn-from of a search that runs on a cluster is a path there"),
        (
            ["quickstart", "--target", "val/acc=0.9"],
            "unknown metric of --target 'val/acc'. Did you mean 'val/accuracy'?",
        ),
        (["quickstart", "--warm-start", "report-cv4/fcn8s"], "is for segmentation, and this search is for"),
        (["classification-cpu"], "the search 'classification-cpu' names no data. Add --data DIR."),
    ],
)
def test_what_would_not_work_there_is_refused_before_the_cluster_is_asked(
    visionsweep: CLI, arguments: list[str], sentence: str
) -> None:
    runs_dir = [] if "--runs-dir" in arguments else ["--runs-dir", "/shared/runs"]
    refused = visionsweep("submit", *arguments, *runs_dir, "--cluster", NOBODY)
    assert refused.code == 2, refused.out
    assert sentence in refused.err
    assert "no Ray dashboard answers" not in refused.err


def test_without_a_runs_folder_of_the_cluster_the_default_of_this_machine_is_not_taken(visionsweep: CLI) -> None:
    refused = visionsweep("submit", "quickstart", "--cluster", NOBODY)
    assert refused.code == 2
    assert "--runs-dir of a search that runs on a cluster" in refused.err


@pytest.mark.parametrize(
    "data", ["digits", "digits:multilabel", "torchvision:CIFAR10", "s3://bucket/photos", "/shared/p"]
)
def test_a_good_search_gets_as_far_as_the_cluster(visionsweep: CLI, data: str) -> None:
    refused = visionsweep("submit", "quickstart", "--data", data, "--runs-dir", "/shared/runs", "--cluster", NOBODY)
    assert refused.code == 2
    assert f"no Ray dashboard answers at {NOBODY}" in refused.err
    assert "ray dashboard cluster.yaml" in refused.err


def test_what_this_machine_sees_of_the_data_is_said_before_anything_is_sent(visionsweep: CLI, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"ants": 3, "bees": 4})
    (photos / "stray.png").write_bytes((photos / "ants" / "00.png").read_bytes())
    options = ["--runs-dir", "/shared/runs", "--cluster", NOBODY]
    said = visionsweep("submit", "quickstart", "--data", photos, *options).out.splitlines()
    assert said[0] == "photos: 7 images, 2 classes (ants 3, bees 4)"
    assert said[1].startswith("  1 image left out")
    elsewhere = visionsweep("submit", "quickstart", "--data", "/shared/elsewhere", *options).out
    assert elsewhere.startswith("elsewhere: not looked at on this machine. The job's log begins with what was found")
    (photos / "empty").mkdir()
    wrong = visionsweep("submit", "quickstart", "--data", photos, *options).out
    assert wrong.startswith("As this machine sees it: class 'empty' has no image")


def test_a_cluster_is_named_by_the_option_or_as_for_rays_own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no cluster is named\. Add --cluster http://HEAD:8265"):
        jobs.cluster_url(None)
    assert jobs.cluster_url("head:8265/") == "http://head:8265"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ConfigError, match="RAY_ADDRESS takes the address of a cluster's dashboard, got 'auto'"):
        jobs.cluster_url(None)
    monkeypatch.setenv("RAY_ADDRESS", "https://head")
    assert jobs.cluster_url(None) == "https://head"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    assert jobs.cluster_url(None) == "http://other:8265"
    assert jobs.cluster_url("http://mine:1") == "http://mine:1", "what is said counts more than what is set"
    assert jobs.cluster_url("ray://head:10001") == "ray://head:10001"
    with pytest.raises(ConfigError, match="--cluster takes the address of a cluster's dashboard, got 'ftp://head'"):
        jobs.cluster_url("ftp://head")


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_search_through_rays_client_is_looked_over_and_refused_as_one_that_is_sent(
    visionsweep: CLI, command: str
) -> None:
    arguments = [command, "quickstart", "--address", "ray://127.0.0.1:9"]
    refused = visionsweep(*arguments)
    assert refused.code == 2
    assert "--runs-dir of a search that runs on a cluster is a path there" in refused.err
    refused = visionsweep(*arguments, "--runs-dir", "/shared/runs")
    assert refused.code == 2
    assert "no Ray client's server answers at ray://127.0.0.1:9" in refused.err
    assert "`ray start --head` starts one on port 10001" in refused.err


def test_an_address_of_rays_client_has_a_port() -> None:
    with pytest.raises(ConfigError, match=r"is ray://HOST:PORT, got 'ray://head'\. Its port is 10001"):
        jobs.connect("ray://head")


def test_a_server_that_is_not_rays_clients_is_not_waited_for_without_end(
    greeter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "1")
    url = greeter.replace("http", "ray")
    code = f"from launch.jobs.jobs import connect\ntry: connect({url!r})\nexcept Exception as error: print(error)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"no Ray client's server answers at {url}" in said.stdout, said.stderr


class Greeter(BaseHTTPRequestHandler):
    """A web server that is not Ray. It logs the tokens that it gets."""

    shown: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.shown.append(self.headers.get("authorization"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"welcome")

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def greeter() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Greeter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_no_ray_is_told_so_and_sees_no_token(greeter: str) -> None:
    with pytest.raises(ConfigError, match=rf"no Ray dashboard answers at {greeter} \(something else does\)"):
        jobs.connect(greeter)
    assert Greeter.shown == [None]


def test_a_machine_that_is_silent_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"no Ray dashboard answers at {url} \(timed out\)"):
            jobs.connect(url)


def test_what_is_missing_for_it_is_named() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from launch.jobs.jobs import connect\n"
        "try: connect('http://127.0.0.1:9')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ConfigError Ray's job client is not installed")
    assert "pip install 'ray[default]'" in said


def test_options_go_on_as_they_were_given() -> None:
    options = {"--trials": 3, "--gpus-per-trial": 0.0, "--budget": None, "--no-cache": True, "--set": ["a=1", "b=-2"]}
    assert as_arguments(options) == ["--trials=3", "--gpus-per-trial=0.0", "--no-cache", "--set=a=1", "--set=b=-2"]
    assert as_arguments({"--no-cache": False, "--set": []}) == []


def test_a_search_file_travels_with_the_modules_beside_it_and_nothing_else(tmp_path: Path) -> None:
    for name, text in {
        "mine.py": "import json\nfrom beside import EPOCHS\nfrom pack.rates import LR\nfrom search_spaces import Search\n"
        'SEARCH = Search(task="binary", space={"optimizer": {"name": "sgd", "lr": LR}}, epochs=EPOCHS)',
        "beside.py": "EPOCHS = 9",
        "pack/__init__.py": "",
        "pack/rates.py": "LR = 0.1",
        "unrelated.py": "",
        "secrets.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    search = tmp_path / "mine.py"
    try:
        load_search(str(search))
        files = carried(str(search))
    finally:
        for name in ("beside", "pack", "pack.rates"):
            sys.modules.pop(name, None)
    assert files == {name: tmp_path / name for name in ("mine.py", "beside.py", "pack/__init__.py", "pack/rates.py")}


def test_a_job_runs_on_the_python_of_its_ray_and_else_on_the_one_of_the_shell(tmp_path: Path) -> None:
    import ray

    assert Path(ray.__file__).is_relative_to(sys.prefix)
    (tmp_path / "python.sh").write_text(jobs.PYTHON)
    (tmp_path / "python").write_text("#!/bin/sh\necho the shell\n")
    (tmp_path / "python").chmod(0o755)

    def said(command: str) -> str:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=path, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert said("exec sh python.sh -c 'import sys; print(sys.prefix)'") == sys.prefix
    assert said("sh python.sh; true") == "the shell", "whose parent has no Ray"
