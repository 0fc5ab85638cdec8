"""Notifications of alarms and rollbacks: one automation of the Prefect server for all projects.

The address of a webhook may hold a secret: it is stored in a block of the server, which encrypts it, and never printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from oel_core.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes, CallWebhook, SendNotification

NAME = "oel-alarms"
"""Of the automation, and of the block with the webhook's address."""
WEBHOOK = "webhook"
SUBJECT = "oel: {{ event.payload.project }}"
BODY = "{{ event.event }}: {{ event.payload.text }}"
JSON = """{"text": {{ (event.payload.project ~ ": " ~ event.payload.text) | tojson }},
 "event": {{ event.event | tojson }}, "details": {{ event.payload | tojson }}}"""
"""What a webhook gets. Chats show `text`."""


@dataclass(frozen=True)
class Notifications:
    """How people are notified now."""

    block: str
    """Type and name of the block that is called, like `slack-webhook/team`."""
    enabled: bool
    """Whether the automation is on; people can pause it in the UI."""


def current(client: "SyncPrefectClient") -> Notifications | None:
    """The present notifications; None: nobody is notified."""
    found = next(iter(client.read_automations_by_name(NAME)), None)
    if found is None:
        return None
    return Notifications(_block_of(client, found.actions), found.enabled)


def _block_of(client: "SyncPrefectClient", actions: "Sequence[ActionTypes]") -> str:
    """The block of the first action; people may have changed the automation in the UI."""
    from prefect.exceptions import ObjectNotFound

    id = next((getattr(action, "block_document_id", None) for action in actions), None)
    if id is None:
        return "an action that was set in the UI"
    try:
        block = client.read_block_document(id, include_secrets=False)
    except ObjectNotFound:
        return "a block that was deleted"
    return f"{block.block_type.slug if block.block_type is not None else '?'}/{block.name}"


def notify_webhook(client: "SyncPrefectClient", address: str) -> None:
    """Posts every alarm and rollback to this address, as JSON."""
    from prefect.blocks.webhook import Webhook
    from prefect.types import SecretDict
    from pydantic import SecretStr

    block = Webhook(url=SecretStr(address), headers=SecretDict({"Content-Type": "application/json"}))
    _automate(client, WEBHOOK, UUID(str(block.save(NAME, overwrite=True))))


def notify_block(client: "SyncPrefectClient", block: str) -> None:
    """Sends every alarm and rollback by a webhook's or notification's block of the server.

    Args:
        block: type and name, like `slack-webhook/team`.

    Raises:
        ConfigError: there is no such block.
    """
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block.partition("/")
    try:
        found = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound as error:
        raise ConfigError(
            f"the Prefect server has no block '{block}': create it in its UI (Blocks, +), and give its type and name, "
            "like slack-webhook/team"
        ) from error
    _automate(client, kind, found.id)


def stop(client: "SyncPrefectClient") -> None:
    """Removes the automation and the webhook's address; other blocks stay."""
    from prefect.exceptions import ObjectNotFound

    for automation in client.read_automations_by_name(NAME):
        client.delete_automation(automation.id)
    try:
        client.delete_block_document(client.read_block_document_by_name(NAME, WEBHOOK, include_secrets=False).id)
    except ObjectNotFound:
        return


def _automate(client: "SyncPrefectClient", kind: str, block: UUID) -> None:
    """Replaces the automation. Events wait for neither each other nor a number: each is told of."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    from tasks.events import ALARM, ROLLBACK

    trigger = EventTrigger(
        expect={f"{ALARM}*", ROLLBACK},
        match={"prefect.resource.id": "oel.project.*"},
        posture=Posture.Reactive,
        threshold=1,
    )
    wanted = AutomationCore(
        name=NAME,
        description="Tells of alarms and rollbacks of projects. Made by `oel notify`.",
        trigger=trigger,
        actions=[_action(kind, block)],
    )
    for old in client.read_automations_by_name(NAME):
        client.delete_automation(old.id)
    client.create_automation(wanted)


def _action(kind: str, block: UUID) -> "CallWebhook | SendNotification":
    from prefect.events.actions import CallWebhook, SendNotification

    if kind == WEBHOOK:
        return CallWebhook(block_document_id=block, payload=JSON)
    return SendNotification(block_document_id=block, subject=SUBJECT, body=BODY)
