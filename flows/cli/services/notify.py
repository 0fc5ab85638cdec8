"""`oel notify`: who learns of alarms and rollbacks."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Root, out, print_json

if TYPE_CHECKING:
    from flows.services.notifications import Notifications


def notify(
    block: Annotated[
        str | None,
        typer.Argument(metavar="[TYPE/NAME]", help="A notification block of the Prefect server: slack-webhook/team."),
    ] = None,
    webhook_env: Annotated[
        str | None,
        typer.Option(
            "--webhook-env", metavar="NAME", help="Environment variable with the address of a webhook, which gets JSON."
        ),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Notify nobody any more.")] = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Notify people of alarms and rollbacks of all projects by a Prefect automation, or show who is notified."""
    from flows.services.client import prefect_client, use_services
    from oel_core.errors import ConfigError

    if sum((block is not None, webhook_env is not None, off)) > 1:
        raise ConfigError("give one of TYPE/NAME, --webhook-env and --off")
    use_services(root)
    from flows.services.notifications import current, notify_block, notify_webhook, stop
    from tasks.alarms import address_in

    with prefect_client() as client:
        if webhook_env is not None:
            address = address_in(webhook_env)
            if address is None:
                raise ConfigError(f"${webhook_env} is empty: set it to the webhook's address")
            notify_webhook(client, address)
        elif block is not None:
            notify_block(client, block)
        elif off:
            stop(client)
        found = current(client)
    _show(found, as_json)


def _show(found: "Notifications | None", as_json: bool) -> None:
    if as_json:
        print_json([{"block": found.block, "enabled": found.enabled}] if found is not None else [])
    elif found is None:
        _say("nobody is notified of alarms and rollbacks")
    else:
        _say(f"alarms and rollbacks go to {found.block}" + ("" if found.enabled else "; the automation is paused"))


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
