"""Official weights by the recipe, and a comparison relative to the largest absolute value."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def official(recipe):
    """Weights by the recipe for a table of rules; the norms are told by their names in the official code."""

    def make(rules, extra: dict | None = None) -> dict:
        shapes = {rule.official: rule.shape for rule in rules} | (extra or {})

        def norm(key):
            layer, _, kind = key.rpartition(".")
            return kind == "weight" and layer.rpartition(".")[2].startswith(("norm", "ln_"))

        return {key: 0.05 * recipe.draw(key, shape) + norm(key) for key, shape in shapes.items()}

    return make


@pytest.fixture(scope="session")
def loaded():
    """A library model in eval mode with these weights; strict."""

    def load(model, state):
        model.load_state_dict(state, strict=True)
        return model.eval()

    return load


@pytest.fixture
def close(request):
    """Compares relative to the largest absolute value of the expected; prints the error (pytest -s)."""

    def check(actual, expected, tolerance: float, name: str = "") -> None:
        assert actual.shape == expected.shape
        error = ((actual - expected).abs().max() / expected.abs().max()).item()
        print(f"{request.node.name} {name}: {error:.1e}")
        assert error <= tolerance, f"{name}: {error:.1e}"

    return check
