"""``charforge eval``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charforge.cli.options import Device, Threads

if TYPE_CHECKING:
    from charforge.cli.judging import Asked
    from charforge.evaluate.benchmark import Subject
    from charforge.evaluate.rolescape import Release


def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(help="run folders that charforge train made; with --benchmark also bundles")
    ],
    each: Annotated[int, typer.Option("-n", min=1, max=16, help="pictures of each held-out scene")] = 2,
    bare: Annotated[bool, typer.Option("--bare", help="the base without the adapter, for comparison")] = False,
    benchmark: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            help='a published test as it was released: "rolescape" and its folder. Runs and .charx bundles are found '
            "by the name of their character, nothing is trained. The runs themselves are measured in the quick form"
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(help='whose eyes judge the benchmark\'s pictures: as reward.encoder, or "clip:MODEL/PRETRAINED"'),
    ] = "efficientnet-lite0",
    page: Annotated[
        Path | None, typer.Option(help="where the page of one run goes, instead of evaluation.html in its folder")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="six scenes and fewer questions, for a look")] = False,
    judge_url: Annotated[
        str,
        typer.Option(
            help="an OpenAI-compatible URL: a language model there judges how well replies remember and are the "
            "character. The key, if it needs one, is read from the environment variable CHARFORGE_API_KEY"
        ),
    ] = "",
    judge_model: Annotated[str, typer.Option(help="the name of the model behind --judge-url")] = "",
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Measure trained runs on held-out scenes and dialogues, with 95 % intervals, against the bare base and the real
    thing. A page with the pictures and conversations goes into each run; several runs are compared.

    \b
    Examples:
      charforge eval runs/wren runs/wren-sft -n 4 --json
      charforge eval runs/bo runs/mam --benchmark rolescape data/rolescape
    """
    from charforge.machine import set_threads

    set_threads(threads)
    import shlex
    import sys
    from functools import partial

    from charforge.cli.output import print_benchmark, print_json, print_metrics, say
    from charforge.errors import InputError
    from charforge.files import write_atomic, write_atomic_with
    from charforge.progress import counting, waiting

    if benchmark is not None and benchmark[0] != "rolescape":
        raise InputError(f"--benchmark {benchmark[0]}: there is no such benchmark; there is rolescape")
    releases = read_released(benchmark[1]) if benchmark is not None else []
    with waiting("loading PyTorch"):
        from charforge.device import chosen_device
        from charforge.evaluate.benchmark import find_subject, matched
        from charforge.evaluate.measure import is_run, load_run
        from charforge.evaluate.page import markdown, write_page
        from charforge.evaluate.series import Extent
        from charforge.evaluate.whole import comparisons, measure_run, result_line
        from charforge.pixels import contact_sheet
        from charforge.run.folder import CONFIG, check_base, read_result
        from charforge.settings import settings_of_run

    # before anything is computed
    for run in runs:
        if is_run(run):
            check_base(run, settings_of_run(run / CONFIG).base)
            read_result(run)
    asked = judge_of(judge_url, judge_model)
    subjects = [find_subject(path) for path in runs] if releases else []
    chosen = matched(subjects, releases)
    extent = Extent.quick(each) if quick or releases else Extent.full(each)
    all_measured = []
    for run in runs:
        if releases and not is_run(run):
            continue
        with waiting(f"loading {run.name}"):
            opened = load_run(run, chosen_device(device), adapter=not bare)
        with counting(f"measuring {run.name}") as report:
            measured = measure_run(run, opened, extent, report, compare=not bare)
        if asked is not None and not releases:
            measured = asked.run(run, measured)
        sheet = contact_sheet(measured.after.drawn.images(), 4 * each, measured.after.drawn.pictures.shape[-1])
        file = run / ("evaluation_bare.png" if bare else "evaluation.png")
        write_atomic_with(file, partial(sheet.save, format="PNG"))
        say(f"wrote {file}")
        all_measured.append(measured)
        if not bare:
            command = shlex.join(["charforge", *sys.argv[1:]])
            out = page or run / "evaluation.html"
            write_page(out, measured, command)
            write_atomic(out.with_suffix(".md"), markdown(measured, command))
            say(f"wrote {out} and {out.with_suffix('.md').name}")
    lines, compared = [result_line(measured) for measured in all_measured], comparisons(all_measured)
    told: dict[str, Any] = {"runs": lines} | ({"compared": compared} if compared else {})
    if releases:
        told["benchmark"] = run_benchmark(
            subjects, chosen, releases, encoder, each, quick, chosen_device(device), asked
        )  # fmt: skip
    if asked is not None:
        told["judge"] = asked.spent
    if as_json:
        print_json(told)
    else:
        if lines:
            print_metrics(lines, compared)
        if releases:
            print_benchmark(told["benchmark"])
    if asked is not None and asked.failure is not None:
        # everything else has been told and written
        raise asked.failure


def judge_of(url: str, model: str) -> Asked | None:
    """The judge that was asked for, if one was. Raises InputError where a part of its address is missing."""
    if not url and not model:
        return None
    from charforge.cli.judging import Asked
    from charforge.evaluate.judging import JudgeOptions

    return Asked(JudgeOptions(url, model).checked())


def read_released(path: Path) -> list[Release]:
    """The characters of a release; items that cannot be read are told of."""
    from charforge.cli.output import print_problems, say
    from charforge.evaluate.rolescape import read_release

    releases = read_release(path)
    problems = [problem for release in releases for problem in release.problems]
    print_problems(problems)
    for release in releases:
        say(f"{release.name}: " + ", ".join(f"{count} {kind}" for kind, count in release.parsed().items()))
    return releases


def run_benchmark(
    subjects: list[Subject],
    chosen: list[Release],
    releases: list[Release],
    encoder: str,
    each: int,
    quick: bool,
    device: str,
    asked: Asked | None,
) -> dict[str, Any]:
    """The published tables of the characters that were trained."""
    import torch

    from charforge.cli.output import say
    from charforge.evaluate.benchmark import as_json, benchmark_character, open_subject
    from charforge.judges.encoders import load_encoder
    from charforge.progress import counting, waiting

    untrained = [one.name for one in releases if one not in chosen]
    if untrained:
        say(f"without a run, and left out: {', '.join(untrained)}")
    eyes, session, found = load_encoder(encoder, torch.device(device)), None, []
    for subject, release in zip(subjects, chosen, strict=True):
        with waiting(f"loading {subject.path.name}"):
            session = open_subject(subject, device, session)
        others = [other for other in releases if other is not release]
        with counting(f"asking and drawing {release.name}") as report:
            one = benchmark_character(
                session, subject.pairs, release, others, eyes, each, quick, report, judged=asked is not None
            )
        found.append(one if asked is None else asked.benchmark(subject.path, one))
    return as_json(found, eyes.name, each)
