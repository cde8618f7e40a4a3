"""Every variant of the ablation (flows.bench.separation_variants) is a separator, and differs from the one in use."""

import numpy as np
import pytest

from flows.bench.separation_variants import VARIANTS, WHOLE
from pipeline.separation.stage import SAMPLE_RATE
from pipeline.types import Audio

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mixture() -> Audio:
    rng = np.random.default_rng(0)
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 220 * k * time + 3 * np.sin(2 * np.pi * 5 * time)) / k for k in range(1, 9))
    return Audio((0.1 * tone + 0.02 * rng.normal(size=(2, len(time)))).astype(np.float32), SAMPLE_RATE)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != WHOLE])
def test_a_variant_splits_the_mixture_otherwise_than_the_stage(name: str, mixture: Audio) -> None:
    stems, used = VARIANTS[name]()(mixture), VARIANTS[WHOLE]()(mixture)
    np.testing.assert_allclose(stems.vocal.samples + stems.accompaniment.samples, mixture.samples, atol=2e-3)
    assert np.isfinite(stems.vocal.samples).all()
    assert np.abs(stems.vocal.samples - used.vocal.samples).max() > 1e-4
