"""Anthropic's Messages. The verdict is the input of a tool that the model has to use, which holds it to a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly.detectors.chat import SCHEMA, LanguageModel, Request
from anomaly.errors import DetectorAnswerInvalid, DetectorRefused

if TYPE_CHECKING:
    from anomaly.detectors.base import DetectorConnection
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

_TOOL = "report"


def anthropic_messages(connection: DetectorConnection, session: PooledSession, settings: Settings) -> LanguageModel:
    return LanguageModel(
        connection,
        session,
        settings,
        path="/v1/messages",
        key_header="x-api-key",
        headers={"anthropic-version": "2023-06-01"},
        document=_document,
        report=_report,
    )


def _document(request: Request) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "{media_type}", "data": "{image_base64}"}
    return {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": request.prompt,
        "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}],
        "tools": [{"name": _TOOL, "description": "Report the verdict on the image.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": _TOOL},
    }


def _report(document: dict[str, Any]) -> dict[str, Any]:
    if document.get("stop_reason") == "refusal":
        raise DetectorRefused("the model refused to judge this image")
    if document.get("stop_reason") == "max_tokens":
        raise DetectorAnswerInvalid("the model's answer was cut off; a larger 'max_tokens' in the connection's extra may help")
    report: dict[str, Any] = [block["input"] for block in document["content"] if block["type"] == "tool_use"][0]  # noqa: RUF015  # none is an IndexError
    return report
