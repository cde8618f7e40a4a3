"""The card says what whoever trains on the set has to know of each backend that made it."""

from flows.build_dataset import BuildParameters, BuildResult
from flows.data_card import LIMITS, bound, card
from flows.funnel import funnel
from flows.tally import StageStatistics
from flows.work import open_build


def test_every_backend_with_known_limits_is_named_under_the_name_that_the_records_give_it(
    built: BuildResult, parameters: BuildParameters
) -> None:
    context = open_build(parameters)
    counts = funnel(context)
    used = {(count.stage, backend) for count in counts for backend, _, _ in count.backends}
    expected = {
        ("quality", "signal"),
        ("separation", "spleeter+refiner"),
        ("structure", "tcn"),
        ("annotation", "musicnn"),
    }
    assert expected == used & LIMITS.keys()
    text = card(context, counts, {"train-stage1": 2})
    assert all(LIMITS[which] in text for which in expected)


def test_terms_of_weights_that_allow_no_commercial_use_are_told_once() -> None:
    terms = "CC-BY-NC-4.0 (non-commercial, accepted)"
    counts = [
        StageStatistics("quality", "k", backends={("songeval", "0" * 64, terms): 3}),
        StageStatistics(
            "structure", "k", backends={("songformer", "1" * 64, terms): 2, ("tcn", "2" * 64, "Apache-2.0"): 1}
        ),
    ]
    (line,) = bound(counts)
    assert line.count(terms) == 1
    assert "no commercial use" in line
    assert bound(counts[1:][:0]) == []


def test_a_backend_that_was_not_used_has_no_line(built: BuildResult, parameters: BuildParameters) -> None:
    context = open_build(parameters)
    without = [count for count in funnel(context) if count.stage != "structure"]
    assert LIMITS["structure", "tcn"] not in card(context, without, {})


def test_paths_of_this_machine_are_not_told(built: BuildResult, parameters: BuildParameters) -> None:
    context = open_build(parameters)
    assert "/tmp" not in card(context, funnel(context), {})
    assert parameters.library not in card(context, funnel(context), {})
