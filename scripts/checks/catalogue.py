"""All checks in their order, known without importing numpy or torch."""

from __future__ import annotations

from checks import algebra, build, conversion, cuda, gradients, inference, layouts, mps, operators, refusals, saving
from checks.result import GROUPS

# Judged by the parent process: each looks at a fresh interpreter, or at what is installed.
IMPORT = (
    "import.numpy",
    "import.torch",
    "import.bridge",
    "import.together",
    "import.lock.versions",
    "import.lock.complete",
    "import.lock.build",
)
SUITES = (
    conversion.suite,
    layouts.suite,
    refusals.suite,
    inference.suite,
    operators.suite,
    algebra.suite,
    gradients.autograd,
    gradients.no_grad,
    saving.suite,
    build.suite,
    cuda.suite,
    mps.suite,
)
CHECKS = {check.id: check for suite in SUITES for check in suite.checks}
OPTIONAL = frozenset(identity for identity, check in CHECKS.items() if check.optional)
IDS = (*IMPORT, *CHECKS)


def group_of(identity: str) -> str:
    """Return the group that an id belongs to."""
    return identity.partition(".")[0]


def ids_of(groups: tuple[str, ...]) -> list[str]:
    """Return the ids of some groups (all where none is named), in the order in which they run."""
    wanted = groups or GROUPS
    return [identity for group in GROUPS for identity in IDS if group_of(identity) == group and group in wanted]
