"""Simple pages: what an index lists for a project, in HTML (PEP 503) or JSON (PEP 691).

The library that reads them takes 0.14 s to import, so it is imported where a page is read: offline work has none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from torchlock.errors import NetworkError
from torchlock.locks.lock import instant
from torchlock.network.transport import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypi_simple import DistributionPackage

    from torchlock.network.budget import Budget
    from torchlock.network.remote import Answer, Remote

# JSON (PEP 691) rather than HTML, and its own type rather than the plain one.
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.5, text/html;q=0.01"
# The largest page that is read, in bytes; the largest known is under 4 MB.
LIMIT = 64 << 20


def roots(indexes: Mapping[str, str | None], mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return the URL of each index alias's simple root: a mirror, its own address, or the client library's default."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # noqa: PLC0415 - see above

    return {alias: mirrors.get(alias) or address or PYPI_SIMPLE_ENDPOINT for alias, address in indexes.items()}


def address(root: str, project: str) -> str:
    """Return the URL of a project's page under a simple root (PEP 503)."""
    return f"{root.rstrip('/')}/{project}/"


def listing(remote: Remote, root: str, project: str, budget: Budget | None = None) -> list[DistributionPackage]:
    """Read the page of a project under a simple root; raise NetworkError where there is none or it is malformed."""
    return parse(remote.get(address(root, project), accept=ACCEPT, limit=LIMIT, budget=budget), project)


def parse(answer: Answer, project: str) -> list[DistributionPackage]:
    """Read a page's bytes; take the non-standard `data-upload-time` of HTML pages too."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = _json if kind.endswith("json") else _html
    try:
        return read(answer, project)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # A library's message would quote the page, addresses and all.
        found = f"not a simple page that can be read ({type(error).__name__})"
        raise NetworkError(redact(answer.url), found, "PEP 503 in HTML or PEP 691 in JSON, version 1") from error


def _json(answer: Answer, project: str) -> list[DistributionPackage]:
    from pypi_simple import DistributionPackage  # noqa: PLC0415 - see above

    page = json.loads(answer.body)
    if page["meta"]["api-version"].partition(".")[0] != "1":
        raise ValueError("a newer version")
    return [DistributionPackage.from_json_data(item, project, answer.url) for item in page["files"]]


def _html(answer: Answer, project: str) -> list[DistributionPackage]:
    from pypi_simple import DistributionPackage, UnsupportedRepoVersionError  # noqa: PLC0415 - see above
    from pypi_simple.html import RepositoryPage  # noqa: PLC0415 - see above

    items = []
    try:
        page = RepositoryPage.from_html(answer.body.decode("utf-8", "replace"), base_url=answer.url)
    except UnsupportedRepoVersionError as error:
        raise ValueError("a newer version") from error
    for link in page.links:
        item = DistributionPackage.from_link(link, project_hint=project)
        time = link.attrs.get("data-upload-time")
        items.append(replace(item, upload_time=_time(time)) if isinstance(time, str) else item)
    return items


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(instant(text).replace("Z", "+00:00"))
    except ValueError:
        return None
