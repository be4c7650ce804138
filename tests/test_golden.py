"""Reference numbers: pytest tests/test_golden.py --golden DIR (repeatable; docs/golden.md).

Without --golden the small set of our own numbers in tests/golden, so that a clone alone tests something. Each case
builds our modules from the official config fields of its JSON, fills them by the recipe and compares.
"""

from pathlib import Path

import pytest
import torch

from tests.golden_kinds.collect import NothingUnderstood, collect

OWN = Path(__file__).parent / "golden"


def pytest_generate_tests(metafunc):
    if "golden_case" not in metafunc.fixturenames:
        return
    cases = []
    for folder in metafunc.config.getoption("--golden") or [OWN]:
        try:
            cases += collect(Path(folder))[0]
        except NothingUnderstood as error:
            raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("golden_case", cases, ids=[f"{case.document} / {case.name}" for case in cases])


@torch.inference_mode()
def test_golden(golden_case, record_property):
    comparisons = [(*item.errors(), item.tolerance) for item in golden_case.compare()]
    assert comparisons, "nothing was compared"
    worst = [max(each) for each in zip(*comparisons, strict=True)]
    record_property("golden", [golden_case.document, golden_case.name, *worst])
    for absolute, relative, tolerance in comparisons:
        assert relative <= tolerance, f"error {absolute:.3g}, relative {relative:.3g}, allowed {tolerance:g}"


def test_a_folder_without_a_case_is_an_error(tmp_path):
    (tmp_path / "notes.json").write_text('{"a": 1}')
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NothingUnderstood):
            collect(folder)


def test_our_own_set_holds_every_kind_but_the_manifests_of_released_files():
    cases, others = collect(OWN)
    assert {case.document for case in cases} == {path.stem for path in OWN.glob("*.json")}
    assert not others and len(cases) > 40
