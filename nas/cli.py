"""The two commands: argv -> checked settings -> one call -> what to look at and what to type next."""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cells.genotype import published_genotypes
from nas.asked_run import AskedRun, program_name, quoted
from nas.command_line import run_command, settings_parser
from nas.config import SearchConfig, TrainConfig, build_config, read_preset
from nas.run_dir import RunDir, finished_searches


def search(argv: Sequence[str] | None = None) -> int:
    """`python search.py`: returns the exit status."""
    return run_command(_search, argv)


def train(argv: Sequence[str] | None = None) -> int:
    """`python train_genotype.py`: returns the exit status."""
    return run_command(_train, argv)


def _search(argv: Sequence[str] | None) -> int:
    parser = settings_parser("search.py", "Search for a cell by differentiable architecture search.", SearchConfig)
    asked = AskedRun(SearchConfig, "search", parser.parse(argv), _search_folder)
    config, run = asked.config, asked.folder
    if asked.is_done:
        asked.say(f"{run.path} is finished; its genotype is {run.genotype}")
        return 0

    from nas.asked_subject import asked_space
    from nas.collapse import check_early_stop
    from nas.estimate import estimate_search
    from nas.search import run_search

    check_early_stop(config)
    asked.load_plugins()
    space = asked_space(asked)
    asked.mention_unused_plugins(space.operators, f"space {space.name}")
    if asked.is_dry:
        asked.print_plan(estimate_search, space)
        return 0
    data = asked.plan(estimate_search, space)
    config = asked.config  # with the memory and what is compiled decided
    with asked.locked():
        resume = asked.begin(data, space.operators, space=space)
        genotype = asked.carry_out(
            lambda stop: run_search(config, space, data, asked.written_folder, resume=resume, stop=stop)
        )

    print(f"genotype  {run.genotype}")
    print(f"pictures  {run.diagrams / 'normal.svg'}, {run.diagrams / 'reduce.svg'} (and .png)")
    if space.edges_per_node == 2:
        print(f"printed   {genotype.to_notation()}")
    if config.report and run.report.is_file():
        print(f"report    {run.report}")
    print(f"next      {training_command(config, run.path, asked.preset)}")
    return 0


def _search_folder(config: SearchConfig) -> Path:
    """runs/search/<space>/seedN; a space in a YAML file goes by the name it has there."""
    name = config.space
    if name.endswith((".yaml", ".yml")):
        from search_spaces.registry import load_plugin
        from search_spaces.space import load_space

        for plugin in config.plugin:
            load_plugin(plugin)
        name = load_space(name).name
    return Path("runs", "search", _file_name(name), f"seed{config.seed}")


def training_command(config: SearchConfig, folder: Path, preset: str | None) -> str:
    """What to type to train the cell that a search in `folder` found, on the same data."""
    usual = build_config(TrainConfig, [(preset, read_preset(preset, "train"))] if preset else [])
    words = [program_name("train"), quoted(folder)]
    if preset:
        words += ["--preset", preset]
    for name in ("data", "image_size"):
        value = getattr(config, name)
        if value not in (getattr(usual, name), None):
            words += [f"--{name.replace('_', '-')}", quoted(str(value))]
    if config.flip not in (usual.flip, None):
        words.append("--flip" if config.flip else "--no-flip")
    return " ".join(words)


def _train(argv: Sequence[str] | None) -> int:
    parser = settings_parser(
        "train_genotype.py", "Train the network of a genotype from scratch and test it.", TrainConfig
    )
    parser.add_argument(
        "genotype",
        nargs="?",
        metavar="GENOTYPE",
        help="a JSON file, a published name such as darts_v2, a search's run folder, or Genotype(normal=[…], …);"
        " the newest finished search under runs/ if not given, else darts_v2",
    )
    flags = parser.parse(argv)
    argument = flags.get("genotype")
    if argument is None and flags.get("resume") and "run_dir" in flags and RunDir(flags["run_dir"]).exists():
        argument = str(RunDir(flags["run_dir"]).genotype)
    elif argument is None:
        argument, reason = _default_genotype()
        print(f"{'# ' if flags.get('dry_run') else ''}training {argument}: {reason}", flush=True)
    asked = AskedRun(
        TrainConfig, "train", flags, lambda config: Path("runs", "train", genotype_name(argument), f"seed{config.seed}")
    )
    config, run = asked.config, asked.folder
    if asked.is_done:
        asked.say(f"{run.path} is finished; its test error is {run.result()['test_error_percent']:.2f} %")
        return 0

    from nas.asked_subject import asked_genotype
    from nas.estimate import estimate_training
    from nas.train import run_training

    asked.load_plugins(*plugins_beside(argument))
    genotype = asked_genotype(asked, argument)
    asked.mention_unused_plugins(genotype.operators, "the genotype")
    if asked.is_dry:
        asked.print_plan(estimate_training, genotype)
        return 0
    data = asked.plan(estimate_training, genotype)
    config = asked.config  # with what is compiled decided
    with asked.locked():
        resume = asked.begin(data, genotype.operators, genotype=genotype)
        result = asked.carry_out(
            lambda stop: run_training(config, genotype, data, asked.written_folder, resume=resume, stop=stop)
        )

    images = "training images held out" if result["hold_out"] else "images"
    print(f"test error {result['test_error_percent']:.2f} % on {result['test_images']} {images} of {result['data']}")
    print(f"parameters {result['parameters'] / 1e6:.3f} M, multiply-adds {result['madds'] / 1e6:.1f} M")
    print(f"weights    {run.weights}")
    print(f"result     {run.path / 'result.json'}")
    if config.report and run.report.is_file():
        print(f"report     {run.report}")
    return 0


def _default_genotype() -> tuple[str, str]:
    """(GENOTYPE argument, why) where none was given."""
    finished = finished_searches(Path("runs"))
    if finished:
        return str(finished[-1].path), "the newest finished search under runs/"
    return "darts_v2", "no finished search under runs/, so DARTS' published cell"


def plugins_beside(argument: str) -> tuple[Path, ...]:
    """The plug-ins of the search that found a genotype, if the argument is its run folder or the file in it."""
    path = _existing(argument)
    if path is not None and path.name == "genotype.json":
        path = path.parent
    return RunDir(path).plugins if path is not None and path.is_dir() else ()


def genotype_name(argument: str) -> str:
    """What its run is called: the published name, the search's folder, the file's name, or a hash of the text."""
    path = _existing(argument)
    if path:
        path = path.resolve()
        folder = path.parent if path.name == "genotype.json" else path
        name = f"{folder.parent.name}-{folder.name}" if folder.is_dir() else path.stem
    elif "(" in argument or "{" in argument:
        name = f"genotype-{sha256(argument.encode()).hexdigest()[:8]}"
    else:
        name = argument.lower()
    return _file_name(name)


def _existing(argument: str) -> Path | None:
    """The file or folder that a GENOTYPE argument names, if it does; a published name comes first."""
    is_path = argument.lower() not in published_genotypes() and os.path.exists(argument)
    return Path(argument) if is_path else None


def _file_name(name: str) -> str:
    """A name for one folder: nothing in it leads elsewhere."""
    name = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in name)
    return name.strip(".") or "unnamed"
