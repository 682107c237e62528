"""Implement `serve`: samples over HTTP."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2crf_core.commands.sample import BACKEND_HELP
from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the command."""
    serve = commands.add_parser("serve", help="answer requests for samples over HTTP (OpenAPI at /docs)")
    serve.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    serve.add_argument("--card", type=Path, help="policy card whose checkpoint and settings are the default")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080)
    serve.add_argument(
        "--token", help="that requests must bear; default: the variable E2CRF_TOKEN, else none"
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which it is reached, such as that of a proxy; may be repeated",
    )
    serve.add_argument("--max-num", type=int, default=256, help="samples of a request")
    serve.add_argument("--max-steps", type=int, default=1000, help="steps of a request")
    serve.add_argument("--queue", type=int, default=64, help="requests at a time; more are answered with 429")
    serve.add_argument("--batch", type=int, default=64, help="samples run together")
    serve.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves them as they are")
    serve.add_argument("--device", default="auto", help="auto, cpu or cuda")
    serve.add_argument("--backend", help=f"{BACKEND_HELP}; default: that of the card, else eager")
    serve.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from e2crf_core.io.extras import require

    require("serve", "serve", "fastapi", "uvicorn", "prometheus_client")
    import torch
    import uvicorn

    from e2crf_core.serving.connections import server_config
    from e2crf_core.serving.requests import Limits
    from e2crf_core.serving.server import make_app

    if not 0 <= arguments.port <= 65535:
        raise LabError(f"port {arguments.port}: must lie between 0 and 65535", field="port")
    if arguments.threads < 0:
        raise LabError(f"threads {arguments.threads}: must be 0 or more", field="threads")
    token = arguments.token or os.environ.get("E2CRF_TOKEN") or None
    _check_exposure(arguments.host, token)
    limits = Limits(arguments.max_num, arguments.max_steps, arguments.queue, arguments.batch)
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    model, default = _settings(arguments, limits.steps)
    with _listening(arguments.host, arguments.port) as sockets:
        hosts = {arguments.host, *(name.lower() for name in arguments.allow_host)}
        app = make_app(model, limits=limits, token=token, default=default, hosts=hosts)
        port = sockets[0].getsockname()[1]
        print(f"serving {model.name} on http://{arguments.host}:{port} (docs at /docs)", flush=True)
        uvicorn.Server(server_config(app)).run(sockets=sockets)


def _check_exposure(host: str, token: str | None) -> None:
    """Raise LabError for a server that anyone could use."""
    from e2crf_core.serving.guards import is_loopback

    if token is None and not is_loopback(host):
        raise LabError(
            f"anybody who can reach {host} could draw samples",
            field="host",
            remedy="set --token or E2CRF_TOKEN",
        )


def _settings(arguments: argparse.Namespace, most_steps: int) -> tuple[Any, Any]:
    """Return the model to serve, and the settings of a request that names none, on a backend that is ready."""
    from dataclasses import replace

    from e2crf_core.deploy.card import load_policy
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.serving.server import default_config

    if arguments.card is None:
        model, default = load_checkpoint(arguments.checkpoint, arguments.device), default_config(most_steps)
    else:
        card = load_policy(arguments.card)
        model, default = card.model(arguments.device), card.config
    if arguments.backend is not None:
        default = replace(default, backend=arguments.backend)
    return model, default if default.backend == "eager" else replace(default, backend=_ready(model, default))


def _ready(model: Any, config: Any) -> str:
    """Return the backend to serve with, after it has run, so that no request waits for a compiler."""
    from dataclasses import replace

    from e2crf_core.sampling.sampler import Sampler

    slow = ", which takes minutes" if config.backend.startswith("compiled") else ""
    print(f"preparing the backend {config.backend}{slow}", flush=True)
    # Most requests are for few samples.
    sampler = Sampler.of(model, replace(config, batch=1))
    if sampler.backend.backend is not None:
        # Code is compiled for one sample, and once more for several.
        for num in (1, 2):
            sampler.draw(num, 0)
    print(f"backend {sampler.backend.name}: {sampler.backend.reason}", flush=True)
    return sampler.backend.name


@contextmanager
def _listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as fault:
            raise LabError(f"cannot listen on {host}:{port}: {fault.strerror}", field="host") from None
        yield [listening]
