"""What a step says about the knowledge files that were drawn in it."""

from oel_core.distillation.records import DrawStats, draw_stats


def test_each_file_has_mean_and_population_deviation_over_its_samples():
    assert draw_stats((4, 1, 4), (1.0, 5.0, 5.0)) == (
        DrawStats(replica=1, samples=1, kl_mean=5.0, kl_sd=0.0),
        DrawStats(replica=4, samples=2, kl_mean=3.0, kl_sd=2.0),
    )
