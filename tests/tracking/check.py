"""Asks the real TensorBoard, MLflow and DVC about a run of wgrad.

usage: check.py PROGRAM, where PROGRAM is what `tests/tracking/run.rs` was compiled to. Each of the
three is skipped, with a line that says so, where it is not installed.
"""

import importlib.util
import math
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

STEPS_AN_EPOCH = 5
# Nobody is told of the check, and nothing is drawn.
os.environ.update(DVC_NO_ANALYTICS="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ.update(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false", GIT_PYTHON_REFRESH="quiet")


def there(name):
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"skipped: {name} is not installed")
    return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train(program, uri, folder, epochs):
    return subprocess.run([program, uri, str(folder), str(epochs)], capture_output=True, text=True, timeout=60)


def diary(folder):
    """What the run says it told, by kind."""
    told = {"begin": [], "setting": [], "fact": [], "number": [], "file": [], "end": []}
    # A text may hold line breaks; a line that begins with no kind belongs to the one before.
    for line in (folder / "diary.tsv").read_text().split("\n"):
        kind, *rest = line.split("\t")
        if kind in told:
            told[kind].append(rest)
            last = rest
        elif line:
            last[-1] += "\n" + line
    return told


def check_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "run"), size_guidance={"scalars": 0})
    board.Reload()
    want = {}
    for name, step, value in diary(folder)["number"]:
        want.setdefault(name, []).append((int(step), struct.unpack("f", struct.pack("f", float(value)))[0]))
    assert set(board.Tags()["scalars"]) == set(want), board.Tags()
    for name, values in want.items():
        found = [(event.step, event.value) for event in board.Scalars(name)]
        assert found == values, (name, found, values)
    print(f"TensorBoard read {sum(map(len, want.values()))} numbers of {len(want)} names, all equal")


def check_mlflow(client, folder, run_id, epochs):
    told = diary(folder)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "a run", run.info
    named = lambda name: name.replace('"', "_")
    assert run.data.params == {named(name): text for name, text in told["setting"]}, run.data.params
    tags = {"wgrad/" + name: text for name, text in told["fact"]}
    for name, text in tags.items():
        assert run.data.tags[name.replace("//", "/")] == text, (name, run.data.tags)
    assert run.data.tags["who"] == "check.py"
    want = {}
    for name, step, value in told["number"]:
        want.setdefault(name, []).append((int(step), float(value)))
    assert set(run.data.metrics) == set(want), run.data.metrics
    for name, values in want.items():
        found = sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))
        assert found == values, (name, found, values)
    assert len(want["loss/step"]) == epochs * STEPS_AN_EPOCH and all(math.isfinite(x) for _, x in want["loss/step"])
    names = sorted(file.path for file in client.list_artifacts(run_id))
    assert names == ["best.safetensors", "curves.svg", "record.jsonl"], names
    for name in names:
        came = Path(client.download_artifacts(run_id, name, str(folder))).read_bytes()
        assert came == (folder / "run" / name).read_bytes(), name
    numbers = sum(map(len, want.values()))
    print(f"MLflow read {numbers} numbers, {len(run.data.params)} params, {len(tags)} tags and 3 files, all equal")


def with_mlflow(program, folder):
    import mlflow

    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    home = folder / "server"
    home.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "files")]
    log = (home / "log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, start_new_session=True)
    try:
        start = time.time()
        while True:
            try:
                urllib.request.urlopen(uri + "/health", timeout=2)
                break
            except OSError:
                assert server.poll() is None and time.time() - start < 120, (home / "log").read_text()
                time.sleep(0.3)
        print(f"the server of MLflow {mlflow.__version__} was there after {time.time() - start:.0f} s")
        client = mlflow.MlflowClient(uri)
        # The second time the run goes on where it was.
        for epochs in [2, 4]:
            done = train(program, uri, folder, epochs)
            assert done.returncode == 0 and "tracker errors: []" in done.stdout, (done.stdout, done.stderr)
            experiment = client.get_experiment_by_name("checks & balances")
            runs = client.search_runs([experiment.experiment_id])
            assert len(runs) == 1, runs
            check_mlflow(client, folder, runs[0].info.run_id, epochs)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def without_server(program, folder):
    """A server that is away is told of once, and the run comes to its end."""
    done = train(program, f"http://127.0.0.1:{free_port()}", folder, 2)
    lines = [line for line in done.stderr.split("\n") if "mlflow" in line]
    assert done.returncode == 0 and len(lines) == 1 and lines[0].endswith("training goes on"), done.stderr
    print(f"a server that is away: {lines[0]!r}")


def check_dvc(program, folder):
    from dvc.repo import Repo

    Repo.init(str(folder), no_scm=True)
    Repo(str(folder)).add([str(folder / "data.csv")])
    note = (folder / "data.csv.dvc").read_text()
    md5 = next(line.split()[-1] for line in note.split("\n") if "md5:" in line)
    done = train(program, "http://127.0.0.1:9", folder, 1)
    assert done.returncode == 0 and f'dvc_md5: Some("{md5}")' in done.stdout, (done.stdout, done.stderr)
    data = folder / "data.csv"
    text = data.read_text()
    data.unlink()
    data.write_text(text.replace("1", "2", 1))
    done = train(program, "http://127.0.0.1:9", folder, 2)
    assert done.returncode != 0 and "the content has the md5" in done.stderr, (done.stdout, done.stderr)
    print(f"DVC's md5 {md5} was checked, and a changed file refused")


def main():
    program = str(Path(sys.argv[1]).resolve())

    def fresh(name):
        folder = Path(home) / name
        folder.mkdir()
        rows = [(k / 7 % 1.0, k * k % 11 / 11) for k in range(STEPS_AN_EPOCH * 8 - 3)]
        text = "x,z,y\n" + "".join(f"{x},{z},{2 * x - z + 0.5}\n" for x, z in rows)
        (folder / "data.csv").write_text(text)
        return folder

    with tempfile.TemporaryDirectory() as home:
        folder = fresh("away")
        without_server(program, folder)
        if there("tensorboard"):
            check_tensorboard(folder)
        if there("mlflow"):
            folder = fresh("mlflow")
            with_mlflow(program, folder)
            if there("tensorboard"):
                check_tensorboard(folder)
        if there("dvc"):
            check_dvc(program, fresh("dvc"))


if __name__ == "__main__":
    main()
