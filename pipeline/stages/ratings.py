"""Read what participants of the study sent back. Reads sheets' keys and answer files; writes results and ratings.

Every file is counted or left out with a reason (reports/ratings/answers.csv). Without files all tables are empty.
"""

from pipeline.errors import PipelineError
from pipeline.study.answers import read_answers, read_key
from pipeline.study.results import write_results


def add_arguments(parser):
    pass


def run(stage):
    answers, pairs = stage.inputs
    survey, sheets = stage.params.survey, stage.params.sheets
    if not answers.is_dir():
        raise PipelineError(f"survey.answers: {answers} is no folder; make it, and put the answer files there")
    keys = [read_key(pairs / name / "key", name) for name in sheets]
    verdicts = read_answers(answers, keys, survey.failed_checks_allowed)
    for verdict in verdicts:
        if verdict.reason:
            stage.log.warning("%s is left out: %s", verdict.file, verdict.reason)
    runs = {name: list(sheet.runs) for name, sheet in sheets.items()}
    counted = write_results(stage.outputs[0], keys, runs, verdicts, survey.seed)
    stage.log.info("%d answer files count, %d are left out", counted, len(verdicts) - counted)
    stage.record.metrics({"answer_files": counted, "left_out": len(verdicts) - counted})
