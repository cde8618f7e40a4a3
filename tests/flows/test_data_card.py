"""The card says what whoever trains on the set has to know of each backend that made it."""

from collections import Counter

from flows.build_dataset import BuildParameters, BuildResult
from flows.data_card import LIMITS, card
from flows.funnel import funnel
from flows.provenance import Maker, Provenance, bound, from_json, makers, to_json
from flows.tally import StageStatistics
from flows.work import open_build
from pipeline.conditioning.conditioner import ConditionerSpec


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
    (line,) = bound(makers(counts))
    assert line.count(terms) == 1
    assert "no commercial use" in line
    assert bound([]) == []


def test_the_conditioner_is_among_the_makers_and_all_comes_back_from_the_file() -> None:
    counts = [StageStatistics("tokenization", "k", backends={("mucodec", "0" * 64, "MIT"): 3})]
    spec = ConditionerSpec("clamp3", "1" * 64, "mert-95m CC-BY-NC-4.0 (non-commercial, accepted)", 768, 20.48, True)
    made_by = makers(counts, spec)
    assert made_by[-1] == Maker("conditioning", "clamp3", "1" * 64, spec.licence, 3)
    assert "mert-95m" in bound(made_by)[0]
    licences = Counter({"CC0-1.0": 2, "": 1})
    assert from_json(to_json(made_by, licences)) == Provenance(tuple(made_by), dict(licences))


def test_a_backend_that_was_not_used_has_no_line(built: BuildResult, parameters: BuildParameters) -> None:
    context = open_build(parameters)
    without = [count for count in funnel(context) if count.stage != "structure"]
    assert LIMITS["structure", "tcn"] not in card(context, without, {})


def test_paths_of_this_machine_are_not_told(built: BuildResult, parameters: BuildParameters) -> None:
    context = open_build(parameters)
    assert "/tmp" not in card(context, funnel(context), {})
    assert parameters.library not in card(context, funnel(context), {})
