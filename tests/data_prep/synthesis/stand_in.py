"""A server on this machine that speaks /v1/chat/completions: it answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

INPUT_TOKENS, OUTPUT_TOKENS = 100, 7
# text; HTTP status to refuse with, and the words for it; None: an empty answer; fields of the answer
Reply = str | int | tuple[int, str] | None | dict[str, Any]


class StandIn:
    """`answer(body)` gives each reply; `asked` has every body, `at_once` the most that were open together."""

    def __init__(self, answer: Callable[[dict[str, Any]], Reply], seconds: float = 0.0) -> None:
        self.answer, self.seconds = answer, seconds
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.open = self.at_once = self.answered = 0
        self.lock = Lock()
        self.base_url = ""


@contextmanager
def stand_in(answer: Callable[[dict[str, Any]], Reply], seconds: float = 0.0) -> Iterator[StandIn]:
    state = StandIn(answer, seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.asked.append(body)
                state.keys.add(self.headers["Authorization"])
                state.open += 1
                state.at_once = max(state.at_once, state.open)
                reply = state.answer(body) if self.path == "/v1/chat/completions" else 404
            time.sleep(state.seconds)
            with state.lock:
                state.open -= 1
            self.send(reply)

        def send(self, reply: Reply) -> None:
            status, words = reply if isinstance(reply, tuple) else (reply if isinstance(reply, int) else 200, "")
            message = {"role": "assistant", "content": reply if isinstance(reply, str) else None}
            value: dict[str, Any] = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": INPUT_TOKENS,
                    "completion_tokens": OUTPUT_TOKENS,
                    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
                },
            }
            value |= reply if isinstance(reply, dict) else {}
            data = json.dumps(
                value if status == 200 else {"error": {"message": words or f"refused with {status}"}}
            ).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status != 200:
                self.send_header("Retry-After-Ms", "5")
            self.end_headers()
            self.wfile.write(data)
            with state.lock:
                state.answered += status == 200

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def text_of(body: dict[str, Any]) -> str:
    """The text of the first message."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]
