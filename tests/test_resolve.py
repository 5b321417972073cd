"""Resolving: real uv and real pip-compile over the loopback index, and what is made of their answers."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

import snapshots
from snapshots import file
from torchlock import process, resolve
from torchlock.errors import ResolveError, SnapshotError
from torchlock.indexes.server import serve
from torchlock.indexes.view import View
from torchlock.platforms import PLATFORMS, host
from torchlock.resolve import child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.indexes.snapshot import Snapshot

WHERE = f"environments/demo.yaml: demo-cpu on {host().name}"
GOOD: Mapping[str, Mapping[str, list[str]]] = {
    "alpha": {"1.0": [], "2.0": ["beta>=1"]},
    "beta": {"1.0": [], "1.5": ["gamma"]},
    "gamma": {"3.0": []},
}
CHOSEN = {"alpha": "2.0", "beta": "1.5", "gamma": "3.0"}
DEAD = "http://127.0.0.1:9/simple"


def chosen(snapshot: Snapshot, *requirements: str, by: tuple[str, ...] = ("uv",), **changes: str) -> Mapping[str, str]:
    """Resolve requirements over a snapshot, offline."""
    view = View(snapshot, snapshots.target(*requirements, **changes))
    with serve() as index:
        return resolve.resolve(view, index.add(view), by)


def refused(snapshot: Snapshot, *requirements: str, by: tuple[str, ...] = ("uv",), **changes: str) -> str:
    """Return the message with which a resolution is refused: one line, of a length that a person reads."""
    with pytest.raises((ResolveError, SnapshotError)) as caught:
        chosen(snapshot, *requirements, by=by, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert tempfile.gettempdir() not in message
    assert len(message) < child.HEAD + child.TAIL + 300
    return message


def answering(monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
    """Put resolvers that give these answers in the place of the real ones."""
    resolvers = {name.replace("_", "-"): lambda *_, text=text: text for name, text in answers.items()}
    monkeypatch.setattr(resolve, "RESOLVERS", resolvers)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set all that could lead a resolver astray: variables, configuration, proxies, and modules in the folder."""
    home, here = tmp_path / "home", tmp_path / "here"
    files = {
        home / ".config/pip/pip.conf": f"[global]\nindex-url = {DEAD}\nconstraint = {tmp_path}/constraints\n",
        home / ".pip/pip.conf": f"[global]\nextra-index-url = {DEAD}\nno-index = true\n",
        home / ".config/uv/uv.toml": f'exclude-newer = "2001-01-01T00:00:00Z"\nindex-url = "{DEAD}"\n',
        home / ".netrc": "machine 127.0.0.1 login someone password s3cret\n",
        here / "pyproject.toml": (
            '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.99"\n'
            '[tool.uv]\nconstraint-dependencies = ["alpha<2"]\n'
            "[tool.pip-tools]\nno-index = true\ngenerate-hashes = true\n"
        ),
        here / "uv.toml": 'override-dependencies = ["alpha==1.0"]\n',
        here / ".pip-tools.toml": "[tool.pip-tools]\nno-index = true\n",
        here / ".python-version": "3.99\n",
        here / "piptools.py": "raise SystemExit('the wrong module')\n",
        here / "pip.py": "raise SystemExit('the wrong module')\n",
        tmp_path / "constraints": "alpha<2\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(here)
    variables = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "NETRC": str(home / ".netrc"),
        "PIP_INDEX_URL": DEAD,
        "PIP_EXTRA_INDEX_URL": DEAD,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_CONSTRAINT": str(tmp_path / "constraints"),
        "PIP_CONFIG_FILE": str(home / ".pip/pip.conf"),
        "PIP_REQUIRE_HASHES": "1",
        "UV_INDEX": DEAD,
        "UV_INDEX_URL": DEAD,
        "UV_DEFAULT_INDEX": DEAD,
        "UV_CONSTRAINT": str(tmp_path / "constraints"),
        "UV_OVERRIDE": str(tmp_path / "constraints"),
        "UV_EXCLUDE_NEWER": "2001-01-01T00:00:00Z",
        "UV_OFFLINE": "1",
        "UV_CONFIG_FILE": str(here / "uv.toml"),
        "UV_PYTHON": "3.99",
        "PYTHONPATH": str(here),
        "PYTHONOPTIMIZE": "2",
        "FORCE_COLOR": "1",
        "CLICOLOR_FORCE": "1",
        "RUST_LOG": "trace",
        "LC_ALL": "C",
        **dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.mark.usefixtures("hostile")
def test_both_resolvers_agree_and_see_nothing_of_the_users_settings(tmp_path: Path) -> None:
    """The newest set is chosen, whatever stands in the environment, the configuration and the folder."""
    snapshot = snapshots.pure(tmp_path / "index", GOOD)
    assert chosen(snapshot, "alpha", by=("uv", "pip-tools")) == CHOSEN


@pytest.mark.usefixtures("hostile")
def test_a_resolvers_words_are_plain(tmp_path: Path) -> None:
    """No colours and no log lines, even where the user's environment asks for them."""
    message = refused(snapshots.pure(tmp_path / "index", GOOD), "alpha==9")
    assert message == (
        f"{WHERE}: uv: error: No solution found when resolving dependencies cause: Because there is no version of "
        "alpha==9 and you require alpha==9, we can conclude that your requirements are unsatisfiable.; "
        "try: other pins, or make update for newer wheels"
    )


def test_pip_compiles_words_are_kept_without_its_traceback(tmp_path: Path) -> None:
    """What pip says stands in the error, its stack does not."""
    message = refused(snapshots.pure(tmp_path, GOOD), "alpha==9", by=("pip-tools",))
    assert message.startswith(f"{WHERE}: pip-compile: ERROR: Could not find a version that satisfies")
    assert "alpha==9 (from versions: 1.0, 2.0)" in message


def test_an_enormous_explanation_is_cut(tmp_path: Path) -> None:
    """How it begins and what it concludes stay."""
    chain = {
        one: {str(number): [f"{other}=={number + 1}"] for number in range(1, 60)}
        for one, other in (("alpha", "beta"), ("beta", "alpha"))
    }
    message = refused(snapshots.pure(tmp_path, chain), "alpha", "beta")
    assert " […] " in message
    assert "we can conclude that your requirements are unsatisfiable" in message


def test_a_project_that_is_not_recorded_is_refused_even_if_there_is_a_way_round(tmp_path: Path) -> None:
    """Offline, a resolver would take the older alpha that needs no beta, in silence: the gap is named instead."""
    snapshot = snapshots.pure(tmp_path, {"alpha": {"1.0": [], "2.0": ["beta"]}})
    assert refused(snapshot, "alpha") == (
        "lockfiles/index/pypi/beta.json: not recorded; try: the same without OFFLINE=1"
    )


def test_metadata_that_is_not_recorded_is_refused_by_name(tmp_path: Path) -> None:
    """Offline, the wheel whose metadata lacks is named, not the resolver's 404."""
    snapshot = snapshots.write(tmp_path, file("alpha-1.0-py3-none-any.whl", None))
    assert refused(snapshot, "alpha") == (
        "lockfiles/index/pypi/alpha.json: the metadata of alpha-1.0-py3-none-any.whl is not recorded; "
        "try: the same without OFFLINE=1"
    )


def test_a_version_without_a_wheel_for_the_platform_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The wheels that there are get named, and the profile's place."""
    name = "alpha-1.0-cp310-cp310-win_amd64.whl"
    snapshot = snapshots.write(tmp_path, file(name), file("alpha-0.9-py3-none-any.whl"))
    assert refused(snapshot, "alpha==1.0") == (
        f"{WHERE}: alpha==1.0: no wheel for Python {snapshots.RUNNING} on {host().name}, only {name}; "
        "try: another version, or a profile without it"
    )


def test_a_yanked_file_is_passed_over(tmp_path: Path) -> None:
    """The newest version that is not yanked is chosen; a pin on a yanked one is refused with the reason."""
    snapshot = snapshots.write(
        tmp_path,
        file("alpha-1.0-py3-none-any.whl"),
        file("alpha-2.0-py3-none-any.whl", yanked="eats homework"),
    )
    assert chosen(snapshot, "alpha") == {"alpha": "1.0"}
    assert "alpha==2.0: alpha-2.0-py3-none-any.whl was yanked (eats homework)" in refused(snapshot, "alpha==2.0")


def test_a_wheel_for_a_newer_python_is_passed_over(tmp_path: Path) -> None:
    """The requires-python of the snapshot's page counts."""
    snapshot = snapshots.write(
        tmp_path, file("alpha-1.0-py3-none-any.whl"), file("alpha-2.0-py3-none-any.whl", requires_python=">=3.99")
    )
    assert chosen(snapshot, "alpha") == {"alpha": "1.0"}


NEWEST = {
    "linux-64": "manylinux_2_28_x86_64",
    "linux-aarch64": "manylinux_2_28_aarch64",
    "osx-64": "macosx_13_0_x86_64",
    "osx-arm64": "macosx_13_0_arm64",
    "win-64": "win_amd64",
}
MARKERS = {
    "linux-64": "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "linux-aarch64": "sys_platform == 'linux' and platform_machine == 'aarch64'",
    "osx-64": "sys_platform == 'darwin' and platform_machine == 'x86_64'",
    "osx-arm64": "sys_platform == 'darwin' and platform_machine == 'arm64'",
    "win-64": "sys_platform == 'win32' and platform_machine == 'AMD64'",
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_uv_means_the_same_platform(tmp_path: Path, platform: str) -> None:
    """UV takes the newest wheel that the platform takes, for its Python, and evaluates markers for it."""
    requires = [f"here ; {MARKERS[platform]}"] + [f"not-{n} ; {m}" for n, m in MARKERS.items() if n != platform]
    requires += ["here ; python_version == '3.12'", "never ; python_version != '3.12'"]
    snapshot = snapshots.write(
        tmp_path,
        file(f"alpha-2.0-cp312-cp312-{NEWEST[platform]}.whl", requires),
        file("alpha-1.0-py3-none-any.whl"),
        file("here-1.0-py3-none-any.whl"),
    )
    assert chosen(snapshot, "alpha", platform=platform, python="3.12") == {"alpha": "2.0", "here": "1.0"}


def test_resolvers_that_disagree_are_refused_with_both_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each package is named with both versions, and the two ways out."""
    answering(monkeypatch, uv="alpha==1\nbeta==1\ngamma==1\n", pip_tools="alpha==2\ngamma==1\n")
    message = refused(snapshots.pure(tmp_path, GOOD), "alpha", by=("uv", "pip-tools"))
    assert message == (
        f"{WHERE}: uv and pip-tools disagree: alpha: 1 (uv), 2 (pip-tools); beta: 1 (uv), absent (pip-tools); "
        "expected one set from both; try: the version that you want under `also` in environments/demo.yaml, "
        "or RESOLVER=pip-tools for one alone"
    )


def test_an_answer_is_read_in_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are normalized, versions too, comments dropped, and the order is the name's."""
    text = "# header\n\nZope.Interface==5.0\nalpha==2.0.0-rc.1  # via x\nalpha==2.0.0rc1\n"
    answering(monkeypatch, uv=text, pip_tools="zope-interface==5.0\nalpha==2.0.0rc1\n")
    found = chosen(snapshots.pure(tmp_path, GOOD), "alpha", by=("uv", "pip-tools"))
    assert list(found.items()) == [("alpha", "2.0.0rc1"), ("zope-interface", "5.0")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "answered without alpha; expected alpha"),
        ("beta==1\n", "answered without alpha; expected alpha"),
        ("<html>404</html>", "answered '<html>404</html>'; expected name==version"),
        ("alpha==1 --hash=sha256:0", "answered 'alpha==1 --hash=sha256:0'; expected name==version"),
        ("alpha==1 \\\n    --hash=sha256:0", "answered 'alpha==1 \\\\'; expected name==version"),
        ("alpha==1 ; python_version > '3'", "expected name==version"),
        ("alpha @ http://127.0.0.1/alpha.whl", "expected name==version"),
        ("--index-url http://127.0.0.1/", "expected name==version"),
        ("alpha==", "answered 'alpha=='; expected name==version"),
        ("alpha", "answered 'alpha'; expected name==version"),
        ("alpha===1", "expected name==version"),
        ("../alpha==1", "expected name==version"),
        ("alpha==1\nAlpha==2", "answered alpha 1 and 2; expected one version"),
        ("alpha==1\n\x00", "expected name==version"),
        (f"{'x' * 100_000}", "expected name==version"),
    ],
)
def test_garbage_in_an_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, said: str
) -> None:
    """An empty, partial or strange answer with exit status 0 is no set."""
    answering(monkeypatch, uv=answer)
    message = refused(snapshots.pure(tmp_path, GOOD), "alpha")
    assert message.startswith("uv: answered ")
    assert said in message


def test_an_answer_that_is_not_what_was_asked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin is held; a requirement whose marker excludes it may be absent."""
    answering(monkeypatch, uv="alpha==1.0\n")
    snapshot = snapshots.pure(tmp_path, GOOD)
    assert refused(snapshot, "alpha==2.0") == "uv: answered alpha 1.0; expected alpha==2.0"
    assert chosen(snapshot, "alpha==1.0", "beta; python_version < '3'") == {"alpha": "1.0"}


def test_a_resolver_that_does_not_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging process is ended, with an error of one line."""
    monkeypatch.setattr(child, "SECONDS", 0.3)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(ResolveError) as caught:
        child.answer("uv", command, snapshots.target("alpha"), tmp_path)
    assert str(caught.value) == f"{WHERE}: uv gave no answer in 0.3 s; try: other pins"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(7)", "uv: exit status 7, without a word"),
        ("import no_such_module_at_all", "uv: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit('\\x1b[31mred\\x1b[0m\\x07')", "uv: [31mred [0m"),
        ("import os; raise SystemExit(os.getcwd() + '/x')", "uv: x"),
    ],
)
def test_a_resolver_that_fails_is_told_in_plain_words(tmp_path: Path, code: str, said: str) -> None:
    """No exit without a word, no stack, no control characters, no temporary folder."""
    command = [sys.executable, "-c", code]
    with pytest.raises(ResolveError) as caught:
        child.answer("uv", command, snapshots.target("alpha"), tmp_path)
    assert str(caught.value) == f"{WHERE}: {said}; try: other pins, or make update for newer wheels"


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver's cache and files are gone afterwards, also after a failure."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    snapshot = snapshots.pure(tmp_path / "index", GOOD)
    assert chosen(snapshot, "alpha") == CHOSEN
    with pytest.raises(ResolveError):
        chosen(snapshot, "alpha==9")
    assert list(folder.iterdir()) == []


def test_a_resolver_is_asked_for_no_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-compile would write the sha256 of whatever a server answers: neither command line asks for one."""
    commands: list[list[str]] = []
    run = process.run

    def watched(command: list[str], **options: object) -> object:
        commands.append(command)
        return run(command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(child, "run", watched)
    chosen(snapshots.pure(tmp_path, GOOD), "alpha", by=("uv", "pip-tools"))
    assert len(commands) == 2
    assert not any("hashes" in word and word != "--no-reuse-hashes" for command in commands for word in command)
