"""`labloop doctor` where the stack runs in Docker: the machine, the GPU and torch, what runs.

Looks only. A clean box is looked at with the settings it would be started with.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stack.doctor import Finding
from stack.engine import gpu, preflight
from stack.engine.docker_call import Docker
from stack.engine.engine import ContainerState, Engine, EngineError
from stack.engine.gpu_runtime import choose_gpu, find_nvidia_runtime, torch_of, try_gpu
from stack.engine.images import images_of, present_images
from stack.engine.lab import Lab, is_in_docker, open_lab
from stack.engine.look import ONE_SHOTS, reason_of, state_of
from stack.engine.settings import LabSettings
from stack.engine.start import TRAINER, ask, surroundings
from stack.engine.up import Plan, UpWishes, is_troubled
from stack.home import Home


def examine_lab(home: Home, env_file: Path | None = None) -> list[Finding]:
    """Everything that is known to keep a stack in Docker from running well."""
    try:
        with Engine.connected() as engine:
            plan = ask(engine, home, UpWishes(env_file)).plan
            return [
                *_machine(engine, plan),
                *_images(plan),
                *_gpu(engine, plan),
                *_running(engine, home),
            ]
    except EngineError as error:
        return [Finding("fail", "engine", str(error), error.hint)]


def _machine(engine: Engine, plan: Plan) -> Iterator[Finding]:
    lab = plan.lab
    around = surroundings(engine, plan, engine.containers(lab.compose.project))
    yield from preflight.examine(lab.settings, around)
    if around.nas is None and lab.settings.nas.kind == "home":
        yield Finding(
            "ok", "nas", f"{lab.home.nas_folder} is made at the first start (NAS_PATH is not set)"
        )


def _images(plan: Plan) -> Iterator[Finding]:
    wanted = images_of(plan.lab)
    present = present_images(Docker.here(), [one.name for one in wanted])
    missing = [one for one in wanted if one.name not in present]
    if not missing:
        yield Finding("ok", "images", f"all {len(wanted)} are here")
        return
    build = [one.builder for one in missing if one.builder]
    pull = [one.name for one in missing if not one.builder]
    words = ["to be built: " + ", ".join(build)] * bool(build)
    words += ["to be pulled: " + ", ".join(pull)] * bool(pull)
    yield Finding("warn", "images", "; ".join(words), "`labloop up` does it, or names what fails")


def _gpu(engine: Engine, plan: Plan) -> Iterator[Finding]:
    """Whether containers get a GPU, and whether the trainer's torch has code for it."""
    settings: LabSettings = plan.lab.settings
    docker = Docker.here()
    trainer = plan.image(TRAINER)
    sight = find_nvidia_runtime(engine.info().raw)
    here = list(present_images(docker, plan.images))
    if settings.gpu != "off" and sight.is_worth_a_try and not here:
        yield Finding("warn", "gpu", "not tried: no image is here yet", "`labloop up` tries it")
        return
    outcome = try_gpu(docker, here[0] if here else "", sight)
    decision = choose_gpu(settings.gpu, outcome)
    grade = "fail" if decision.verdict == "refused" else "ok"
    yield Finding("fail" if grade == "fail" else "ok", "gpu", decision.words, decision.advice)
    if decision.verdict != "gpu" or trainer not in here:
        return
    torch = torch_of(docker, trainer)
    if torch is None:
        yield Finding("fail", "torch", "the trainer's image does not say what it was built for")
        return
    for one in dict.fromkeys(outcome.gpus):
        fit = gpu.fit(one, torch)
        by_verdict = {"fits": "ok", "translated": "warn", "unfit": "fail"}
        yield Finding(by_verdict[fit.verdict], "torch", fit.words, fit.advice)  # type: ignore[arg-type]


def _running(engine: Engine, home: Home) -> Iterator[Finding]:
    if not is_in_docker(home):
        yield Finding("ok", "stack", "was not started yet")
        return
    lab: Lab = open_lab(home)
    found = [one for one in engine.containers(lab.compose.project) if one.service not in ONE_SHOTS]
    yield containers(found)


def containers(found: Sequence[ContainerState]) -> Finding:
    """How the stack's containers are; one that was just started again is no fault."""
    if not found:
        return Finding("ok", "stack", "is down; `labloop up` starts it")
    not_well = [one for one in found if not one.is_well]
    if troubled := [one for one in not_well if is_troubled(one)]:
        words = "; ".join(
            f"{one.service} {state_of(one)}: {reason_of(one, state_of(one))}" for one in troubled
        )
        return Finding("fail", "stack", words, "`labloop logs SERVICE` shows more")
    if not_well:
        names = ", ".join(one.service for one in not_well)
        return Finding("warn", "stack", f"starting: {names}", "look again in a minute")
    return Finding("ok", "stack", f"{len(found)} containers are healthy")
