"""What ``command.txt`` says of the surroundings of a run, and what it must not say."""

import subprocess
import sys

import pytest

from kdtrain import provenance, rundir
from kdtrain.config import Config

GIT = ("git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit; its directory and the commit."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "a.txt").write_text("1\n")
    for words in (["init", "-q"], ["add", "a.txt"], ["commit", "-qm", "one"]):
        subprocess.run([*GIT, *words], cwd=root, check=True)
    commit = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return root, commit.stdout.strip()


def entry(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["kdtrain", "student", *words])
    return provenance.command_entry()


def test_command_versions_and_machine(monkeypatch):
    text = entry(monkeypatch, "a b.kd", "--lr", "1e-4")
    assert "kdtrain student 'a b.kd' --lr 1e-4\n" in text
    for name in ("python 3", "kdstore ", "torch 2", "transformers ", "cores"):
        assert name in text


def test_the_commit_of_the_current_directory_and_whether_it_was_changed(repository, monkeypatch):
    root, commit = repository
    monkeypatch.chdir(root)
    assert f"{root} at commit {commit}, unchanged\n" in entry(monkeypatch)
    (root / "untracked.txt").write_text("results lie there")
    assert f"{commit}, unchanged\n" in entry(monkeypatch)
    (root / "a.txt").write_text("2\n")
    assert f"{root} at commit {commit}, with changes\n" in entry(monkeypatch)


def test_the_commit_of_the_code_stands_once_where_it_is_the_current_directory(monkeypatch, tmp_path):
    code = rundir.Path(provenance.__file__).parents[1]
    if not (code / ".git").exists():
        pytest.skip("this code is no checkout")
    monkeypatch.chdir(code)
    here = entry(monkeypatch)
    assert here.count(" at commit ") == 1
    assert f"code:       {code} at commit " in here
    monkeypatch.chdir(tmp_path)
    assert f"code:       {code} at commit " in entry(monkeypatch)


def test_a_directory_without_commits_or_without_git_says_nothing_of_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "directory:" not in entry(monkeypatch)
    subprocess.run([*GIT, "init", "-q"], check=True)
    assert "directory:" not in entry(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert " at commit " not in entry(monkeypatch)


def test_the_environment_that_matters_and_no_other():
    kept = {
        "CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3", "SLURM_GPUS_ON_NODE": "2", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost", "MASTER_PORT": "1", "HF_HOME": "/h", "HF_HUB_OFFLINE": "1",
        "PYTORCH_CUDA_ALLOC_CONF": "x", "TOKENIZERS_PARALLELISM": "false", "KD_CHOICE": "x", "KD_KEYBOARD": "x",
    }  # fmt: skip
    left_out = {"HOME": "/me", "USER": "me", "SLURM_SUBMIT_HOST": "h", "PATH": "/bin"}
    assert provenance.environment({**kept, **left_out}) == kept


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "KD_TOKEN", "KD_API_KEY", "KD_SECRET", "KD_PASSWORD", "KD_DB_PASS", "PYTORCH_AUTH", "KD_credentials",
     "SLURM_JOB_KEY", "KD_KEY_ID"],
)  # fmt: skip
def test_secrets_stay_where_they_are(name):
    assert provenance.environment({name: "s3cret"}) == {}


def test_secrets_in_words_are_left_out(monkeypatch):
    monkeypatch.setenv("HF_HOME", "https://me:s3cret@example.org/x")
    text = entry(
        monkeypatch, "s3://me:s3cret@bucket/train.kd", "--token=s3cret", "KD_TOKEN=s3cret",
        "--vocab-size=5", "--critical-token-weight", "3", "--set", "loss.critical_token_weight=3",
    )  # fmt: skip
    assert "s3cret" not in text
    assert "s3://***@bucket/train.kd" in text
    for kept in ("--vocab-size=5", "--critical-token-weight 3", "loss.critical_token_weight=3"):
        assert kept in text


def test_each_start_adds_an_entry_and_the_sources_are_those_of_the_last(tmp_path, monkeypatch):
    for words, sources in ((["--lr", "1"], {"lr": "--lr"}), (["--resume", "auto"], {"alpha": "recipe mine"})):
        monkeypatch.setattr(sys, "argv", ["kdtrain", "student", *words])
        rundir.RunDir(tmp_path, sources).record(Config())
    assert (tmp_path / "command.txt").read_text().count("versions:") == 2
    assert (tmp_path / "config_sources.json").read_text() == '{\n "loss.alpha": "recipe mine"\n}\n'
    assert (tmp_path / "config.json").read_text() == Config().to_json()
