"""Prefect flows, one per file, and the command line. Importing `tasks` first turns telemetry off."""

import tasks as tasks
