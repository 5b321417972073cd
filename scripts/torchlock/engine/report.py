"""Reports: what the smoke script said in a container, read strictly, shown as its table, and judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks import table
from checks.result import FAIL, PASS, STATUSES, Result
from checks.session import SCHEMA, Options, Session
from torchlock.environment.trial import failures
from torchlock.errors import ImageError, SmokeError
from torchlock.oci.descriptor import digest
from torchlock.oci.document import parsed, refuse, shown, take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.digest import Digest

_TEXTS = ("detail", "cause", "remedy", "known")


@dataclass(kw_only=True, slots=True)
class _Elsewhere(Session):
    """A session that ran in another process, as far as the table reads one."""

    report: Report

    @property
    def results(self) -> list[Result]:
        """The results as they were reported."""
        return list(self.report.checks)

    @property
    def passed(self) -> bool:
        """What was reported."""
        return self.report.passed

    def to_dict(self) -> dict[str, Any]:
        """Return what was reported."""
        return dict(self.report.document)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One smoke run's report: `document` is its JSON, `checks` are the results in it.

    `lock` is the digest of the file pylock.toml that the environment was held against.
    """

    document: Mapping[str, Any]
    checks: tuple[Result, ...]
    lock: Digest

    @classmethod
    def read(cls, data: bytes, where: str) -> Report:
        """Read the JSON that `smoke --json` prints; raise SmokeError for anything else."""
        try:
            value, place = parsed(data, where), f"{where}: "
            if (schema := take(value, "schema", int, place)) != SCHEMA:
                refuse(f"{place}schema", shown(schema), str(SCHEMA))
            if (status := take(value, "status", str, place)) not in {PASS, FAIL}:
                refuse(f"{place}status", shown(status), f"{PASS} or {FAIL}")
            for key in ("versions", "platform", "requested"):
                take(value, key, dict, place)
            take(value, "device", dict, place, None)
            lock = digest(take(value, "lock", str, place), f"{place}lock")
            items = take(value, "checks", list, place)
            checks = tuple(_result(item, f"{place}checks[{number}]") for number, item in enumerate(items))
        except ImageError as error:
            raise SmokeError(error.where, error.found, error.expected) from error
        if not checks:
            raise SmokeError(where, "a report without checks", "at least one")
        return cls(document=value, checks=checks, lock=lock)

    @property
    def passed(self) -> bool:
        """Whether the script says that nothing failed, and its own results say the same."""
        return self.document["status"] == PASS and not self.failed

    @property
    def failed(self) -> list[Result]:
        """The checks that failed, known defects of the build left out."""
        return [item for item in self.checks if item.status == FAIL and not item.known]

    def table(self) -> str:
        """Return the table that the smoke script itself prints."""
        return table.render(_Elsewhere(options=Options(), device=self.document["device"], report=self))

    def to_json(self) -> str:
        """Return the report as the smoke script prints it."""
        return json.dumps(self.document, indent=2, sort_keys=True, ensure_ascii=True)

    def judge(self, where: str, status: int, again: str) -> None:
        """Raise SmokeError unless the run passed and ended with exit status 0."""
        if self.passed and status == 0:
            return
        if not self.failed:
            found = f"the smoke script ended with status {status}, though no check failed"
            raise SmokeError(where, found, "status 0", again)
        remedy = next((item.remedy for item in self.failed if item.remedy), again)
        raise SmokeError(where, failures([item.id for item in self.failed], len(self.checks)), "none", remedy)


def _result(value: Any, where: str) -> Result:
    if not isinstance(value, dict):
        refuse(where, shown(value), "an object")
    place = f"{where}."
    status = take(value, "status", str, place)
    if status not in STATUSES:
        refuse(f"{place}status", shown(status), " or ".join(STATUSES))
    texts = {key: take(value, key, str, place, "") for key in _TEXTS}
    return Result(id=take(value, "id", str, place), status=status, **texts)
