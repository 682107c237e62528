"""`serve`: samples over HTTP."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import Any

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
    serve.add_argument("--max-num", type=int, default=256, help="samples of a request")
    serve.add_argument("--max-steps", type=int, default=1000, help="steps of a request")
    serve.add_argument("--queue", type=int, default=64, help="requests at a time; more are answered with 429")
    serve.add_argument("--batch", type=int, default=64, help="samples run together")
    serve.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves them as they are")
    serve.add_argument("--device", default="auto", help="auto, cpu or cuda")
    serve.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from e2crf_core.io.extras import require

    require("serve", "serve", "fastapi", "uvicorn", "prometheus_client")
    import torch
    import uvicorn

    from e2crf_core.deploy.card import load_policy
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.serving.queue import Settings
    from e2crf_core.serving.server import Limits, make_app

    if not 0 <= arguments.port <= 65535:
        raise LabError(f"--port {arguments.port}: a port between 0 and 65535 is expected")
    if arguments.threads < 0:
        raise LabError(f"--threads {arguments.threads}: a number of 0 or more is expected")
    limits = Limits(arguments.max_num, arguments.max_steps, arguments.queue, arguments.batch)
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    default = None
    if arguments.card is not None:
        card = load_policy(arguments.card)
        model = card.model(arguments.device)
        default = Settings(card.policy, card.config.solver, card.config.grid, card.config.steps)
    else:
        model = load_checkpoint(arguments.checkpoint, arguments.device)
    token = arguments.token or os.environ.get("E2CRF_TOKEN") or None
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((arguments.host, arguments.port))
        except OSError as fault:
            raise LabError(f"cannot listen on {arguments.host}:{arguments.port}: {fault.strerror}") from None
        if token is None and arguments.host not in ("127.0.0.1", "localhost", "::1"):
            print("warning: anybody who can reach this host may draw samples: set --token", file=sys.stderr)
        app = make_app(model, limits=limits, token=token, default=default)
        port = listening.getsockname()[1]
        print(f"serving {model.name} on http://{arguments.host}:{port} (docs at /docs)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        server.run(sockets=[listening])
