"""The arithmetic of the plan, and that docs/scale.md and docs/benchmarks.md have the figures it uses."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.scale_paper import Assumed, Measured, Scale, table

DOCS = Path(__file__).parent.parent.parent / "docs"
SMALL = Scale(
    Measured(
        inbox_bytes=1000,
        inbox_gzip_bytes=100,
        gateway_ms=10,
        gateway_rate=200,
        round_s=36,
        prefect_mib=1,
        reading_ms=1,
    ),
    Assumed(
        deployments=2,
        sessions=7200,
        turns=2,
        system_tokens=10,
        question_tokens=5,
        answer_tokens=20,
        rounds=10,
        extracted=30,
        steps=4,
        samples_a_step=5,
        cases=10,
        extraction_tokens=8,
        knowledge_tokens=75,
        generated_a_second=40,
        prefill_a_second=100,
        training_flops=64,
        parameters=1,
        arms=1,
        load_s=0,
        night_hours=1,
        single_a_second=4,
        peak=3,
    ),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prompt_tokens", (10 + 5) + (10 + 5 + 20 + 5)),
        ("sessions_a_round", 7200 / 2 / 10),
        ("used_share", (30 + 4 * 5 + 10) / 360),
        ("inbox_tb", 7200 * 1000 / 1e12),
        ("archive_tb", 7200 * 100 / 1e12),
        ("journals_tb", 7200 * 928 / 1e12),
        ("gateway_core_hours", 7200 * 2 * 0.010 / 3600),
        ("reading_core_hours", 7200 * 0.001 / 3600),
        ("orchestration_core_hours", 2 * 10 * 36 / 3600),
        ("prefect_gb", 20 * 2**20 / 1e9),
        ("serving_gpu_hours", 7200 * (40 / 40 + 55 / 100) / 3600),
        ("serving_gpus", 7200 * 1.55 * 3 / 2_592_000),
        ("extraction_s", 30 * (8 / 40 + (55 + 40 + 75) / 100)),
        ("sequential_extraction_s", 30 * 8 / 4),
        ("distillation_s", 20 * 20 / 40 + 20 * (55 / 2 + 20) * 8 / 64),
        ("evaluation_s", 10 * 20 / 40),
        ("round_gpus", 2 * (30 * 1.9 + 10 + 20 * 47.5 / 8 + 5) / 3600),
        ("sessions_of_one_gateway", 200 / 3 / 2 * 2_592_000),
    ],
)
def test_values_are_those_worked_out_by_hand(name: str, expected: float) -> None:
    assert getattr(SMALL, name) == pytest.approx(expected)


def test_what_is_asked_for_is_in_the_plan() -> None:
    assert (Assumed().deployments, Assumed().sessions) == (1e3, 1e8)


def test_twice_the_sessions_cost_more_and_a_round_uses_fewer_of_them() -> None:
    more = Scale(assumed=replace(Assumed(), sessions=2e8))
    assert more.dollars > Scale().dollars
    assert more.used_share == pytest.approx(Scale().used_share / 2)
    assert more.round_gpu_hours == pytest.approx(Scale().round_gpu_hours)


def test_the_page_has_this_table() -> None:
    text = (DOCS / "scale.md").read_text()
    assert [line for line in table(Scale()) if line not in text.splitlines()] == []
    assert f"{Scale().sessions_of_one_gateway / 1e6:.0f} million" in text


def test_measured_figures_are_those_of_the_pages() -> None:
    benchmarks, scale = (DOCS / "benchmarks.md").read_text(), (DOCS / "scale.md").read_text()
    one = Measured()
    assert f"about {one.gateway_rate:.0f} requests a second" in benchmarks
    assert (
        f"| stream, end | 10 | 280, 280 | 190.4, 192.9 | 12.6, 18.8 | 21.0, 19.2 | {one.gateway_ms}, 3.1 |"
        in benchmarks
    )
    assert f"{one.round_s:.1f} in the last ten" in benchmarks
    assert f"database grows by {one.prefect_mib} MiB a round" in benchmarks
    assert f"MLflow's database by {one.mlflow_mib} MiB" in benchmarks
    for value in (
        f"{one.inbox_bytes:,.0f}",
        f"{one.inbox_gzip_bytes:,.0f}",
        f"{one.journal_bytes:,.0f}",
        f"{one.reading_ms}",
    ):
        assert value in scale
