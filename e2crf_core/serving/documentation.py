"""Render the API as one HTML page without scripts, readable without internet access."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f3f5f7;color:#1b1f24;padding:.8rem;overflow:auto}h2{margin-top:2rem}"
)


def documentation(schema: Mapping[str, Any]) -> str:
    """Render an OpenAPI schema: every route with its answers, and every model with its fields."""
    text = html.escape
    parts = [f"<h1>{text(schema['info']['title'])} {text(schema['info']['version'])}</h1>"]
    parts.append(f"<p>{text(schema['info']['description'])} The schema for programs is at /openapi.json.</p>")
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{text(method.upper())} {text(path)}</code></h2>")
            parts.append(f"<p>{text(operation.get('description', ''))}</p><ul>")
            for status, answer in operation["responses"].items():
                parts.append(f"<li>{text(status)}: {text(answer.get('description', ''))}</li>")
            parts.append("</ul>")
    for name, model in schema["components"]["schemas"].items():
        shown = text(json.dumps(model, indent=1, ensure_ascii=False))
        parts.append(f"<h2 id='{text(name)}'>{text(name)}</h2><pre>{shown}</pre>")
    head = f"<meta charset='utf-8'><title>{text(schema['info']['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"
