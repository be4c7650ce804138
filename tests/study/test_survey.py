"""The study's parameters: whole pictures."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.params.file import validate_params


@pytest.mark.parametrize("pairs, says", [(8, "must be a multiple of 6, found 8"), (0, "greater than 0")])
def test_pairs_that_are_no_whole_pictures_are_named_by_their_key(pairs, says):
    tree = YAML(typ="safe").load(Path("presets/demo.yaml").read_text())
    assert validate_params(tree, "demo").survey.pairs_per_participant % 6 == 0
    tree["survey"]["pairs_per_participant"] = pairs
    with pytest.raises(PipelineError) as error:
        validate_params(tree, "demo")
    assert "  survey.pairs_per_participant: " in str(error.value) and says in str(error.value)
