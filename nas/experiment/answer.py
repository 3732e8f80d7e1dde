"""What a command prints: a plan in a dry run, else what was found or measured, where to look, what to type next."""

from nas.config import SearchConfig, config_to_yaml
from nas.experiment.carry_out import carry_out
from nas.experiment.plan import Plan, describe_estimate, plan
from nas.experiment.request import Request
from nas.run.next_command import training_command
from nas.run.record import Record


def answer(request: Request) -> None:
    """Plans, carries out unless the run is dry or finished, and prints what a command prints of it.

    Raises InputError for a mistake in the request, and Stopped if the run ended early; see `plan` and `carry_out`.
    """
    planned = plan(request)
    if planned.is_done:
        request.say(f"{request.folder} is finished; {_in_short(planned, carry_out(planned))}")
        return
    lines = _describe_plan(planned) if request.dry_run else _describe_outcome(planned, carry_out(planned))
    print("\n".join(lines), flush=True)


def _in_short(plan: Plan, record: Record) -> str:
    assert plan.run is not None
    if isinstance(plan.config, SearchConfig):
        return f"its genotype is {plan.run.genotype}"
    return f"its test error is {record.result()['test_error_percent']:.2f} %"


def _describe_plan(plan: Plan) -> list[str]:
    """What `--dry-run` prints: the settings as YAML, the rest as comments in it."""
    assert plan.estimate is not None and plan.run is not None
    return [
        config_to_yaml(plan.config).rstrip(),
        f"# run folder: {plan.run.path}",
        f"# estimate: {describe_estimate(plan.estimate)}, {plan.estimate.disk_bytes / 1e6:.0f} MB on disk",
    ]


def _describe_outcome(plan: Plan, record: Record) -> list[str]:
    """What a command says of a finished run: what was found or measured, where to look, what to type next."""
    run, result = plan.run, record.result()
    assert run is not None
    if isinstance(plan.config, SearchConfig):
        lines = [
            f"genotype  {run.genotype}",
            f"pictures  {run.diagrams / 'normal.svg'}, {run.diagrams / 'reduce.svg'} (and .png)",
        ]
        genotype = record.read_genotype()
        if genotype.has_notation():
            lines.append(f"printed   {genotype.to_notation()}")
        report, after = "report    ", [f"next      {training_command(plan.config, run.path, plan.request.preset)}"]
    else:
        images = "training images held out" if result["hold_out"] else "images"
        lines = [
            f"test error {result['test_error_percent']:.2f} % on {result['test_images']} {images} of {result['data']}",
            f"parameters {result['parameters'] / 1e6:.3f} M, multiply-adds {result['madds'] / 1e6:.1f} M",
            f"weights    {run.weights}",
            f"result     {run.path / 'result.json'}",
        ]
        report, after = "report     ", []
    if plan.config.report and run.report.is_file():
        lines.append(f"{report}{run.report}")
    return lines + after
