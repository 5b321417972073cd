"""Simple pages: what an index lists for a project, in HTML (PEP 503) or JSON (PEP 691)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pypi_simple import ACCEPT_JSON_PREFERRED, PYPI_SIMPLE_ENDPOINT, DistributionPackage, ProjectPage
from pypi_simple.html import RepositoryPage

from torchlock.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.remote import Answer, Remote

# The largest page that is read, in bytes; the largest known is under 4 MB.
LIMIT = 64 << 20


def roots(indexes: Mapping[str, str | None], mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return the URL of each index alias's simple root: a mirror, its own address, or the client library's default."""
    return {alias: mirrors.get(alias) or address or PYPI_SIMPLE_ENDPOINT for alias, address in indexes.items()}


def listing(remote: Remote, root: str, project: str) -> list[DistributionPackage]:
    """Read the page of a project under a simple root; raise NetworkError where there is none or it is malformed."""
    return parse(remote.get(f"{root.rstrip('/')}/{project}/", accept=ACCEPT_JSON_PREFERRED, limit=LIMIT), project)


def parse(answer: Answer, project: str) -> list[DistributionPackage]:
    """Read a page's bytes; take the non-standard `data-upload-time` of HTML pages too."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("json"):
        try:
            return ProjectPage.from_json_data(json.loads(answer.body), base_url=answer.url).packages
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkError(answer.url, f"not a simple page in JSON ({error})") from error
    items = []
    for link in RepositoryPage.from_html(answer.body.decode("utf-8", "replace"), base_url=answer.url).links:
        item = DistributionPackage.from_link(link, project_hint=project)
        time = link.attrs.get("data-upload-time")
        items.append(replace(item, upload_time=_time(time)) if isinstance(time, str) else item)
    return items


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
