"""MLflow's pages about a run: their URLs, and the columns of its table of runs."""

import json

VIEW = "oel"
"""Name of the view of the table. Without one MLflow 3 shows source, models and datasets, and no metric."""
ML = "workflowType=machine_learning"
"""Shows the menu of training runs, not that of traces and prompts."""
COLUMNS = ("pass_rate", "in_context_pass_rate", "knowledge_tokens", "response_tokens")


def view_tag() -> dict[str, str]:
    """The experiment's tag in which MLflow's UI stores a shared view."""
    columns = [f"metrics.`{name}`" for name in COLUMNS]
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps({"selectedColumns": columns, "columnOrder": columns})}


def runs_page(server: str, experiment: str) -> str:
    """The experiment's runs with `COLUMNS`; MLflow's start page shows traces, of which there are none."""
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{ML}&viewStateShareKey={VIEW}"


def artifact_page(server: str, experiment: str, run_id: str, file: str) -> str:
    """One of a run's artifacts, displayed in the page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}/artifacts/{file}?{ML}"
