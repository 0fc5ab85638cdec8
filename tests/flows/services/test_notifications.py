"""The automation of `oel notify`: what it reacts to, what it calls, and that there is one. A stub is the server."""

import json
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flows.services.notifications import JSON, NAME, current, notify_block, stop
from oel_core.errors import ConfigError

SLACK = uuid4()


class Server:
    """The part of a client that notifications need; it has the block `slack-webhook/team`."""

    def __init__(self) -> None:
        self.automations: dict[UUID, AutomationCore] = {}

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [
            SimpleNamespace(id=id, name=one.name, actions=one.actions, enabled=one.enabled)
            for id, one in self.automations.items()
            if one.name == name
        ]

    def create_automation(self, automation: AutomationCore) -> UUID:
        id = uuid4()
        self.automations[id] = automation
        return id

    def delete_automation(self, id: UUID) -> None:
        del self.automations[id]

    def read_block_document_by_name(self, name: str, kind: str, include_secrets: bool) -> Any:
        if (kind, name) != ("slack-webhook", "team"):
            raise ObjectNotFound(http_exc=Exception())
        return SimpleNamespace(id=SLACK)

    def delete_block_document(self, id: UUID) -> None:
        raise AssertionError("somebody's block was deleted")

    def read_block_document(self, id: UUID, include_secrets: bool) -> Any:
        assert (id, include_secrets) == (SLACK, False)
        return SimpleNamespace(name="team", block_type=SimpleNamespace(slug="slack-webhook"))


def test_alarms_and_rollbacks_of_all_projects_go_to_a_block_once() -> None:
    server = Server()
    client = cast(SyncPrefectClient, server)
    assert current(client) is None
    for _ in range(2):
        notify_block(client, "slack-webhook/team")
    (made,) = server.automations.values()
    trigger, (action,) = made.trigger.model_dump(mode="json"), (one.model_dump(mode="json") for one in made.actions)
    assert (made.name, sorted(trigger["expect"])) == (NAME, ["oel.alarm.*", "oel.rollback"])
    assert (trigger["match"], trigger["posture"]) == ({"prefect.resource.id": "oel.project.*"}, "Reactive")
    assert (action["type"], action["block_document_id"]) == ("send-notification", str(SLACK))
    found = current(client)
    assert found is not None
    assert (found.block, found.enabled) == ("slack-webhook/team", True)
    stop(client)
    assert current(client) is None


@pytest.mark.parametrize("block", ["slack-webhook/nobody", "team", "/", ""])
def test_a_block_that_is_not_there_is_an_error_that_says_how_to_make_one(block: str) -> None:
    server = Server()
    with pytest.raises(ConfigError, match=r"no block .*Blocks, \+.*slack-webhook/team"):
        notify_block(cast(SyncPrefectClient, server), block)
    assert server.automations == {}


def test_a_webhook_gets_json_whatever_a_text_says() -> None:
    said = {"project": "shop", "text": 'people said "no" {{ 7 }} </script>\n', "rolled_back": True}
    event = {"event": "oel.alarm.champion", "payload": said}
    sent = json.loads(ImmutableSandboxedEnvironment().from_string(JSON).render(event=event))
    assert sent == {"text": f"shop: {said['text']}", "event": "oel.alarm.champion", "details": said}
