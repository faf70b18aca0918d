"""OpenAI's chat completions, which many servers of models speak: vLLM, SGLang, Ollama, LiteLLM, OpenRouter, Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly.detectors.chat import SCHEMA, LanguageModel, Request
from anomaly.detectors.response import parsed
from anomaly.errors import DetectorAnswerInvalid, DetectorRefused

if TYPE_CHECKING:
    from anomaly.detectors.base import DetectorConnection
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession


def openai_chat(connection: DetectorConnection, session: PooledSession, settings: Settings) -> LanguageModel:
    return LanguageModel(
        connection,
        session,
        settings,
        path="/chat/completions",
        key_header="Authorization",
        headers={},
        document=_document,
        report=_report,
    )


def _document(request: Request) -> dict[str, Any]:
    image = {"url": "data:{media_type};base64,{image_base64}", "detail": request.detail}
    return {
        "model": request.model,
        "messages": [
            {"role": "system", "content": request.prompt},
            {"role": "user", "content": [{"type": "image_url", "image_url": image}]},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "anomaly", "strict": True, "schema": SCHEMA}},
        "max_completion_tokens": request.max_tokens,
    }


def _report(document: dict[str, Any]) -> dict[str, Any]:
    choice = document["choices"][0]
    message, ended_by = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or ended_by == "content_filter":
        raise DetectorRefused("the model refused to judge this image")
    if ended_by == "length":
        raise DetectorAnswerInvalid("the model's answer was cut off; a larger 'max_tokens' in the connection's extra may help")
    report: dict[str, Any] = parsed(message["content"].encode("utf-8", "replace"))
    return report
