"""The gateway before a model's server: requests go through, and answers are recorded with the server's token ids."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from oel_core.cases.tool_calls import calls_in
from oel_core.config.serving import ServeConfig
from oel_core.rollouts.episode import prompt_digest
from oel_core.serving.answering.upstream import Upstream
from oel_core.serving.api.server import BACKLOG, address, bind_socket
from oel_core.types import IdSource, ToolCall
from tests.fakes import byte_tokenizer, tiny_model_folder
from tests.serving.model_server import MODEL, ModelServer
from tests.serving.running import PROJECT, Served, adapter, config_for, eventually, handed_over, serving

TOOLS: list[Any] = [{"type": "function", "function": {"name": "stock", "parameters": {"type": "object"}}}]


@contextmanager
def listening_server(server: ModelServer) -> Iterator[str]:
    at = bind_socket(ServeConfig(port=0))
    at.listen(BACKLOG)
    run = uvicorn.Server(uvicorn.Config(server.app(), log_config=None, access_log=False))
    thread = threading.Thread(target=run.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        yield address(at)
    finally:
        run.should_exit = run.force_exit = True
        thread.join(30)


@contextmanager
def before(server: ModelServer, folder: Path, **options: Any) -> Iterator[Served]:
    """A gateway before the server; its inbox is `folder/inbox`."""
    model = tiny_model_folder(folder)
    with listening_server(server) as url:
        settings = {"path": str(model), "backend": "openai", "openai": {"base_url": url, **options}}
        with serving(config_for(folder / "inbox", settings), str(model)) as served:
            server.asked.clear()
            yield served


@pytest.mark.parametrize("stream", [False, True])
def test_answers_come_with_the_servers_ids(tmp_path: Path, stream: bool) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        answer = served.ask("hello <|im_end|>", stream=stream)
        if stream:
            parts = list(answer)
            assert "".join(part.choices[0].delta.content or "" for part in parts) == "tiny: hello < |im_end|>"
            assert parts[-1].choices[0].finish_reason == "stop"
            assert "token_ids" not in "".join(part.model_dump_json() for part in parts)
        else:
            assert answer.choices[0].message.content == "tiny: hello < |im_end|>"
            assert "token_ids" not in answer.model_dump_json()
    (asked,) = server.asked
    assert asked["model"] == MODEL
    assert asked["messages"] == [{"role": "user", "content": "hello < |im_end|>"}], "a control token was sent"
    (episode,) = handed_over(tmp_path / "inbox")
    (turn,) = episode.turns
    assert turn.messages[0].content == "hello <|im_end|>"
    assert turn.response_ids == tuple(server.ids("tiny: hello < |im_end|>"))
    assert byte_tokenizer().decode(turn.response_ids, skip_special_tokens=True) == turn.response
    assert turn.prompt_ids_digest == prompt_digest(server.ids("prompt"))
    assert turn.id_source is IdSource.SAMPLED


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_gives_no_ids_is_recorded_as_text(tmp_path: Path, stream: bool) -> None:
    with before(ModelServer(gives_ids=False), tmp_path) as served:
        answer = served.ask("hello", stream=stream)
        assert list(answer) if stream else answer
    (episode,) = handed_over(tmp_path / "inbox")
    assert episode.turns[0].response == "tiny: hello"
    assert episode.turns[0].response_ids == ()
    assert episode.turns[0].id_source is IdSource.RETOKENISED


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_fields_that_only_the_server_knows_go_through(tmp_path: Path, stream: bool) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        answer = served.ask("Any boots?", tools=TOOLS, stream=stream, extra_body={"min_p": 0.1}, seed=3)
        if stream:
            parts = list(answer)
            calls = [call for part in parts for call in part.choices[0].delta.tool_calls or ()]
            assert [call.function.name for call in calls if call.function.name] == ["stock"]
            assert "".join(call.function.arguments or "" for call in calls) == "{}"
        else:
            (call,) = answer.choices[0].message.tool_calls
            assert (call.id, call.function.name) == ("call_1", "stock")
    assert (server.asked[0]["min_p"], server.asked[0]["seed"]) == (0.1, 3)
    (episode,) = handed_over(tmp_path / "inbox")
    assert '"name": "stock"' in episode.turns[0].response


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("writes_name", [False, True])
def test_a_call_is_recorded_with_its_function(tmp_path: Path, stream: bool, writes_name: bool) -> None:
    """Where a request names the function, servers may have the model write the arguments only."""
    server = ModelServer(writes_name=writes_name)
    with before(server, tmp_path) as served:
        named = {"type": "function", "function": {"name": "stock"}}
        answer = served.ask("Any boots?", tools=TOOLS, tool_choice=named, stream=stream)
        assert list(answer) if stream else answer
    (episode,) = handed_over(tmp_path / "inbox")
    (turn,) = episode.turns
    assert calls_in(turn.response) == [ToolCall(name="stock", arguments="{}")]
    assert (turn.id_source is IdSource.SAMPLED) == bool(turn.response_ids) == writes_name


CONSTRAINTS: dict[str, Any] = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "order", "strict": True, "schema": {"type": "object", "properties": {"<s>": {}}}},
    },
    "tool_choice": {"type": "function", "function": {"name": "stock"}},
    "parallel_tool_calls": False,
    "seed": 3,
    "stop": ["</answer>", "\n\n"],
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"7": -1.5},
    "temperature": 0.25,
    "top_p": 0.5,
    "max_completion_tokens": 17,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "reasoning_effort": "low",
    "metadata": {"order": "A1"},
    "guided_json": {"type": "object"},
    "structured_outputs": {"regex": "a+"},
    "chat_template_kwargs": {"enable_thinking": True},
    "min_p": 0.1,
}
"""How a client can shape an answer: by fields of OpenAI's API, and by vLLM's own."""


@pytest.mark.parametrize("stream", [False, True])
def test_what_shapes_an_answer_reaches_the_server_unchanged(tmp_path: Path, stream: bool) -> None:
    server = ModelServer()
    asked = {"messages": [{"role": "user", "content": "Any boots?"}], "tools": TOOLS, "stream": stream, **CONSTRAINTS}
    with before(server, tmp_path) as served:
        answered = served.http.post("/v1/chat/completions", json={"model": PROJECT, **asked})
        assert answered.status_code == 200, answered.text
    (got,) = server.asked
    added = {"model", "return_token_ids", *(["stream_options"] if stream else [])}
    assert {name: value for name, value in got.items() if name not in added} == asked
    assert got["model"] == MODEL


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_reach_the_client(tmp_path: Path, stream: bool) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        answer = served.ask("hello", stream=stream, logprobs=True, top_logprobs=1)
        parts = list(answer) if stream else [answer]
    found = [part.choices[0].logprobs for part in parts if part.choices and part.choices[0].logprobs]
    assert "".join(one.token for each in found for one in each.content) == "tiny: hello"


def test_a_picture_is_answered_and_not_recorded(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with before(ModelServer(), tmp_path) as served:
        assert served.ask("", messages=[{"role": "user", "content": [picture]}]).choices[0].message.content
        assert served.metric('oel_calls_total{result="not_recordable"}') == 1
    assert handed_over(tmp_path / "inbox") == []


@pytest.mark.parametrize(
    ("status", "seen"),
    [(307, 502), (400, 400), (401, 502), (404, 502), (422, 422), (429, 429), (500, 502), (503, 503)],
)
def test_refusals_of_the_server(tmp_path: Path, status: int, seen: int) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        server.status = status
        with pytest.raises(openai.APIStatusError) as refused:
            served.ask("hello")
        assert refused.value.status_code == seen
        assert refused.value.body is not None
        assert refused.value.response.headers.get("retry-after") == ("3" if status in (429, 503) else None)
    assert handed_over(tmp_path / "inbox") == []


def test_a_stream_that_breaks_off_is_an_error_to_the_client_and_no_record(tmp_path: Path) -> None:
    server = ModelServer(break_after=2)
    with before(server, tmp_path) as served:
        with pytest.raises(openai.APIError, match="before the answer did"):
            list(served.ask("hello", stream=True))
        assert served.metric('oel_requests_total{outcome="failed"}') == 1
        server.break_after = None
        assert served.ask("hello").choices[0].message.content == "tiny: hello"
    assert len(handed_over(tmp_path / "inbox")) == 1


def test_a_client_that_leaves_takes_its_request_back(tmp_path: Path) -> None:
    server = ModelServer(delay_s=0.2)
    with before(server, tmp_path) as served:
        with served.ask("hello", stream=True) as stream:
            next(iter(stream))
        with pytest.raises(openai.APITimeoutError):
            served.client.with_options(timeout=0.05).chat.completions.create(
                model=PROJECT, messages=[{"role": "user", "content": "hello"}]
            )
        assert served.ask("bye").choices[0].message.content == "tiny: bye"
        assert served.metric('oel_requests_total{outcome="left"}') == 2
        assert served.metric("oel_requests_running") == 0
    assert [episode.turns[0].messages[0].content for episode in handed_over(tmp_path / "inbox")] == ["bye"]


def test_champions_are_loaded_into_the_server_as_adapters_under_names_of_their_own(tmp_path: Path) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        names = []
        for number in (1, 2):
            path = str(tmp_path / f"round{number}")
            adapter(Path(path), tmp_path / "tiny", b"weights %d" % number)
            served.registry[0] = path
            version = f"{PROJECT}-{path}"
            eventually(lambda version=version: served.http.get("/healthz").json()["version"] == version)
            answer = served.ask("hello")
            assert answer.system_fingerprint == version
            names.append(answer.choices[0].message.content.removesuffix(": hello"))
    assert server.adapters == {name: str(tmp_path / f"round{n}") for n, name in enumerate(names, start=1)}
    assert len(set(names)) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_was_started_again_gets_its_adapter_again(tmp_path: Path, stream: bool) -> None:
    server = ModelServer()
    with before(server, tmp_path) as served:
        path = tmp_path / "round1"
        adapter(path, tmp_path / "tiny", b"weights")
        served.registry[0] = str(path)
        eventually(lambda: served.http.get("/healthz").json()["version"] == f"{PROJECT}-{path}")
        server.adapters.clear()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda text: served.ask(text, stream=stream), ["a", "b", "c", "d"]))
        for answer in answers:
            said = "".join(part.choices[0].delta.content or "" for part in answer) if stream else answer
            text = said if isinstance(said, str) else said.choices[0].message.content
            assert text.startswith("oel-")
        assert list(server.adapters.values()) == [str(path)]
        server.loads = False
        server.adapters.clear()
        with pytest.raises(openai.InternalServerError) as refused:
            served.ask("hello", stream=stream)
        assert refused.value.status_code == 502
    assert len(handed_over(tmp_path / "inbox")) == 4


def test_a_server_that_is_gone_is_503_and_the_gateway_goes_on(tmp_path: Path) -> None:
    model = tiny_model_folder(tmp_path)
    server = ModelServer()
    with listening_server(server) as url:
        settings = {"path": str(model), "backend": "openai", "openai": {"base_url": url}}
        gateway = serving(config_for(tmp_path / "inbox", settings), str(model))
        served = gateway.__enter__()
    try:
        with pytest.raises(openai.InternalServerError) as refused:
            served.ask("hello")
        assert refused.value.status_code == 503
        assert served.http.get("/healthz").json()["status"] == "ok"
    finally:
        gateway.__exit__(None, None, None)


class _OneAnswerEach(BaseHTTPRequestHandler):
    """Closes every connection at its second question, without an answer, though the first one promised to keep it."""

    protocol_version = "HTTP/1.1"
    closed = 0

    def setup(self) -> None:
        super().setup()
        self.answered = False

    def _answer(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._answer({"data": [{"id": MODEL, "max_model_len": 2048}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.answered:
            _OneAnswerEach.closed += 1
            self.close_connection = True
            return
        self.answered = True
        message = {"role": "assistant", "content": "yes"}
        self._answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def test_a_kept_connection_that_the_server_closes_as_it_is_used_costs_no_answer(tmp_path: Path) -> None:
    model, server = tiny_model_folder(tmp_path), ThreadingHTTPServer(("127.0.0.1", 0), _OneAnswerEach)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "path": str(model),
        "backend": "openai",
        "openai": {"base_url": f"http://127.0.0.1:{server.server_port}/v1"},
    }
    with serving(config_for(tmp_path / "inbox", settings), str(model)) as served:
        assert [served.ask("hello").choices[0].message.content for _ in range(3)] == ["yes"] * 3
    server.shutdown()
    server.server_close()
    assert _OneAnswerEach.closed >= 1
    assert len(handed_over(tmp_path / "inbox")) == 3


def test_a_server_that_does_not_answer_in_time_is_504(tmp_path: Path) -> None:
    server = ModelServer()
    with before(server, tmp_path, timeout_s=2) as served:
        server.delay_s = 600
        with pytest.raises(openai.InternalServerError, match="does not answer in time") as refused:
            served.ask("hello")
        assert refused.value.status_code == 504
        assert served.metric("oel_requests_running") == 0
    assert handed_over(tmp_path / "inbox") == []


def test_upstreams_say_no_key_in_their_repr() -> None:
    assert "a-secret" not in repr(Upstream("http://x/v1", "a-secret", "m", True, None))  # type: ignore[arg-type]
