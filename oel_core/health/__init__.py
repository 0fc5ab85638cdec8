"""Alarms of a deployed project: drift of its sessions, and a champion that does worse than its predecessor."""
