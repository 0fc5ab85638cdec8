"""The gateway's Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one gateway. Implements `RecorderMetrics` and `ChampionMetrics`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("oel_requests", "Chat requests by their end", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "oel_request_seconds", "Seconds from request to end of the answer", buckets=SECONDS, registry=registry
        )
        self.first = Histogram(
            "oel_first_piece_seconds", "Seconds until a stream began", buckets=SECONDS, registry=registry
        )
        self.tokens = Counter("oel_tokens", "Tokens read and written", ["kind"], registry=registry)
        self.running = Gauge("oel_requests_running", "Requests that are being answered", registry=registry)
        self.waiting = Gauge("oel_requests_waiting", "Requests that wait for their turn", registry=registry)
        self.calls = Counter("oel_calls", "Answered calls by what became of them", ["result"], registry=registry)
        self.feedback = Counter(
            "oel_feedback", "Feedback by what became of it and about whom", ["result", "version"], registry=registry
        )
        self.answers = Counter(
            "oel_answers", "Answers by version and as what it gave them", ["version", "role"], registry=registry
        )
        self.recorder_failures = Counter("oel_recorder_failures", "Writes that failed", registry=registry)
        self.recorder_waiting = Gauge("oel_recorder_waiting", "Calls that wait for the disk", registry=registry)
        self.episodes = Counter("oel_episodes", "Conversations that went to the inbox", registry=registry)
        self.champion = Gauge("oel_champion", "1 for the version that answers", ["version"], registry=registry)
        self.changes = Counter("oel_champion_changes", "Versions that began to answer", registry=registry)
        self.candidate = Gauge("oel_candidate", "1 for the candidate", ["version"], registry=registry)
        self.candidate_failures = Counter(
            "oel_candidate_failures", "Requests that the candidate did not answer", registry=registry
        )
        self.candidates_withdrawn = Counter(
            "oel_candidates_withdrawn", "Candidates that failed too often", registry=registry
        )
        self.shadows_left_out = Counter("oel_shadows_left_out", "Shadow requests without an answer", registry=registry)
        self.load_failures = Counter(
            "oel_champion_failures", "Times that a version was not found or loaded", registry=registry
        )

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def recorded(self, calls: int) -> None:
        """See `RecorderMetrics`."""
        self.calls.labels("recorded").inc(calls)
        self.recorder_waiting.set(0)

    def lost(self, calls: int) -> None:
        """See `RecorderMetrics`."""
        self.calls.labels("lost").inc(calls)

    def failed(self, waiting: int) -> None:
        """See `RecorderMetrics`."""
        self.recorder_failures.inc()
        self.recorder_waiting.set(waiting)

    def handed_over(self, episodes: int) -> None:
        """See `RecorderMetrics`."""
        self.episodes.inc(episodes)

    def serving(self, version: str) -> None:
        """See `ChampionMetrics`."""
        self.champion.clear()
        self.champion.labels(version).set(1)
        self.changes.inc()

    def trying(self, version: str | None) -> None:
        """See `Watching`."""
        self.candidate.clear()
        if version is not None:
            self.candidate.labels(version).set(1)

    def not_loaded(self) -> None:
        """See `ChampionMetrics`."""
        self.load_failures.inc()
