"""Rights of a request: who asks, and whether they may read or change."""

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request

DAG_ID = "anomaly_detection"
"""The right to read this DAG is the right to read the page; the right to edit it is the right to decide and requeue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Dependencies of FastAPI, which raise HTTPException with 401 or 403.

    *read* also sets `request.state.reviewer` to the name of who asks, and `request.state.can_write`.
    """

    read: Callable[..., Any]
    write: Callable[..., Any]

    @property
    def to_read(self) -> list[Any]:
        """Dependencies of every route."""
        return [Depends(self.read)]

    @property
    def to_change(self) -> list[Any]:
        """Further dependencies of a route that changes something."""
        return [Depends(same_origin), Depends(self.write)]


def airflow_access() -> Access:
    """Return the rights that Airflow's auth manager grants for the DAG."""
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag  # noqa: PLC0415  # takes seconds

    may_read = requires_access_dag(method="GET", param_dag_id=DAG_ID)
    may_write = requires_access_dag(method="PUT", param_dag_id=DAG_ID)

    def read(request: Request, user: Annotated[Any, Depends(get_user)]) -> None:
        may_read(request, user)
        request.state.reviewer = str(user.get_name())
        try:
            may_write(request, user)
        except HTTPException:
            request.state.can_write = False
        else:
            request.state.can_write = True

    return Access(read=read, write=may_write)


def local_access() -> Access:
    """Return the rights of a page without Airflow: everything, in the name of the user of this machine."""
    name = getpass.getuser()

    def read(request: Request) -> None:
        request.state.reviewer, request.state.can_write = name, True

    return Access(read=read, write=_anyone)


def _anyone() -> None:
    """Allow the request."""


def same_origin(request: Request) -> None:
    """Refuse a request that another site has made a browser send.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site != "same-origin" and not (site is None and origin and urlsplit(origin).netloc == request.headers.get("host")):
        raise HTTPException(HTTPStatus.FORBIDDEN, "the request comes from another site")
