"""`labloop up` in Docker, told whole: look, refuse or make, converge, wait.

The steps are in up.py, preflight.py, images.py and gpu.py; here is their order. Up to
`start_plan` nothing is started and nothing that runs is touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from imaging.layout import Nas
from stack import console
from stack.credentials import has_cases, require_pseudonym_key
from stack.doctor import Finding
from stack.engine import nas, preflight, up
from stack.engine.bundle_load import load_bundle
from stack.engine.compose_call import ComposeFailedError
from stack.engine.docker_call import Docker
from stack.engine.engine import ContainerState, Engine
from stack.engine.env_file import ensure_env_file
from stack.engine.gpu import suggested_cuda
from stack.engine.gpu_here import gpus_here
from stack.engine.gpu_runtime import (
    OVERRIDE,
    GpuDecision,
    Sight,
    choose_gpu,
    find_nvidia_runtime,
    try_gpu,
)
from stack.engine.image_tag import image_tag
from stack.engine.images import build_overrides, ensure_images, image_settings, present_images
from stack.engine.known_good import keep_good
from stack.engine.lab import Lab, is_in_docker, open_lab, save_lab, settings_file
from stack.engine.settings import LabSettings
from stack.environments import ROOT
from stack.errors import RefusedError, StackError
from stack.home import Home

LOCAL_ONLY = "label-studio"  # the state folder that only the local runner makes
TRAINER = "trainer"  # in every profile
CPU = GpuDecision("cpu", "trainings run on the CPU")
USUAL = "1 minute, the first time 2-5"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A stack that runs."""

    lab: Lab
    containers: Sequence[ContainerState]
    warnings: Sequence[Finding]
    has_changed: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What the settings ask for, before anything was looked at closely."""

    plan: up.Plan
    settings: LabSettings
    sight: Sight  # what speaks for a GPU
    with_gpu: bool
    before: Lab | None  # as it was last started


def start(home: Home, wishes: up.UpWishes) -> Outcome:
    """Bring the stack of a home up; one that is as it should be is left alone.

    Raises:
        RefusedError: a check failed; nothing was started.
        NotReadyError: not everything became healthy; the rest runs.
    """
    _refuse_local_home(home)
    with Engine.connected() as engine:
        asked = ask(engine, home, wishes)
        found = engine.containers(asked.plan.lab.compose.project)
        before = asked.before
        if before is not None and up.is_converged(up.config_hashes(asked.plan.lab), found):
            return Outcome(before, found, (), has_changed=False)
        _refuse_other_version(engine, asked)
        warnings = look(engine, asked.plan, found)
        plan = settle(engine, asked, wishes)
        env_file = plan.lab.settings_file
        if ensure_env_file(env_file, asked.settings.lab_host):
            console.say(f"settings written to {env_file}")
        lab = start_plan(engine, plan)
        keep_good(lab)
        return Outcome(lab, engine.containers(lab.compose.project), warnings, has_changed=True)


def ask(engine: Engine, home: Home, wishes: up.UpWishes) -> Asked:
    """Read the settings and plan; a GPU is planned for where one may be."""
    settings = up.read_lab_settings(home, wishes)
    settings = replace(settings, values=image_settings(settings.values))
    sight = find_nvidia_runtime(engine.info().raw)
    with_gpu = settings.gpu != "off" and sight.is_worth_a_try
    before = remembered(home)
    if before is not None and before.gpu_question == gpu_question(settings, sight):
        with_gpu = OVERRIDE in before.overrides  # the same question was answered then
    plan = plan_stack(home, settings, with_gpu=with_gpu)
    return Asked(plan, settings, sight, with_gpu, before)


def gpu_question(settings: LabSettings, sight: Sight) -> str:
    """What the decision about the GPU depends on, as far as it can be told without a try."""
    return f"{settings.gpu}, runtime {sight.runtime or 'none'}, driver {sight.has_driver}"


def remembered(home: Home) -> Lab | None:
    """The stack of this home as it was last started; None when there is none, or no record."""
    try:
        return open_lab(home)
    except StackError:  # damaged: it is written anew
        return None


def settle(engine: Engine, asked: Asked, wishes: up.UpWishes) -> up.Plan:
    """Bring the images, and decide on the GPU: what will really be started.

    Raises:
        RefusedError: an image cannot be had, or a GPU is set up and does not work.
    """
    plan = asked.plan
    # Where an image is there to try with, a broken GPU is known before anything is built.
    decision = _decide_gpu(plan, asked.sight, _image_here(plan))
    if wishes.bundle is not None:
        load_bundle(plan.lab, wishes.bundle)
    ensure_images(plan.lab, offline=wishes.is_offline)
    decision = decision or _decide_gpu(plan, asked.sight, plan.image(TRAINER)) or CPU
    with_gpu = decision.verdict == "gpu"
    if asked.with_gpu != with_gpu:
        plan = plan_stack(plan.lab.home, asked.settings, with_gpu=with_gpu)
        ensure_images(plan.lab, offline=wishes.is_offline)
    _look_at_export(engine, plan)
    question = gpu_question(asked.settings, asked.sight)
    file = settings_file(plan.lab.home, wishes.env_file)
    lab = replace(plan.lab, trains_on=decision.words, gpu_question=question, settings_file=file)
    return replace(plan, lab=lab)


def _look_at_export(engine: Engine, plan: up.Plan) -> None:
    """A share that only containers mount is looked at by one, now that there is an image."""
    lab = plan.lab
    if lab.settings.nas.kind != "nfs":
        return
    has_some = nas.look_through_engine(engine, helper_image(plan), lab.home, lab.settings)
    if has_some and lab.settings.has_gateway:
        require_pseudonym_key(lab.home)


def plan_stack(home: Home, settings: LabSettings, *, with_gpu: bool) -> up.Plan:
    """What to run, with the override files that the settings and the machine ask for."""
    chosen = build_overrides(settings.values)
    chosen += ["certificate"] * (settings.tls_certificate is not None)
    chosen += [OVERRIDE] * with_gpu
    if with_gpu and not settings.values.get("TORCH_CUDA"):
        cuda = torch_cuda_here()
        settings = replace(settings, values={**settings.values, **cuda})
    return up.plan_up(home, settings, chosen, image_tag(ROOT, settings.values))


def torch_cuda_here() -> dict[str, str]:
    """TORCH_CUDA for the GPUs that this machine's own nvidia-smi names; empty without any."""
    gpus = gpus_here()
    return {"TORCH_CUDA": suggested_cuda(gpus[0])} if gpus else {}


def _decide_gpu(plan: up.Plan, sight: Sight, image: str) -> GpuDecision | None:
    """Try a container with a GPU where there may be one; refuse one that is set up and broken.

    Args:
        plan: with the person's setting.
        sight: what speaks for a GPU.
        image: to try with; none is there when it is empty, and nothing is decided then.
    """
    setting = plan.lab.settings.gpu
    if setting == "off" or not sight.is_worth_a_try:
        sight = Sight("", has_driver=False)
    elif not image:
        return None
    return choose_gpu(setting, try_gpu(Docker.here(), image, sight)).check()


def _image_here(plan: up.Plan) -> str:
    """An image that is there already; empty on a clean box."""
    return next(iter(present_images(Docker.here(), plan.images)), "")


def _refuse_local_home(home: Home) -> None:
    if home.state(LOCAL_ONLY).is_dir() and not is_in_docker(home):
        raise RefusedError(
            f"{home.root} is a home of the local runner, with a database of its own",
            hint="`labloop up --local` starts it; a stack in Docker wants another --home. The NAS "
            "may be the same, one stack after the other.",
        )


def _refuse_other_version(engine: Engine, asked: Asked) -> None:
    """A stack with data changes its version in `labloop upgrade`, behind a backup."""
    plan, before = asked.plan, asked.before
    if before is None or engine.volume_options(plan.lab.volume("db")) is None:
        return
    if before.image_tag != plan.lab.image_tag:
        raise RefusedError(
            f"this stack is version {before.image_tag}, the checkout and its settings make "
            f"{plan.lab.image_tag}",
            hint="`labloop upgrade` changes it, with a backup first and a way back; or check out "
            "the version that it is.",
        )


def look(engine: Engine, plan: up.Plan, found: Sequence[ContainerState]) -> list[Finding]:
    """Examine the machine; what is no reason to refuse, for the person to know."""
    settings, home = plan.lab.settings, plan.lab.home
    if settings.nas.kind == "smb":
        nas.make_ready(home, settings)
    around = surroundings(engine, plan, found)
    findings = preflight.examine(settings, around)
    preflight.refuse_failures(findings)
    if settings.has_gateway and around.nas is not None and has_cases(Nas(around.nas)):
        require_pseudonym_key(home)
    return [one for one in findings if one.grade == "warn"]


def surroundings(
    engine: Engine, plan: up.Plan, found: Sequence[ContainerState]
) -> preflight.Surroundings:
    """What the preflight looks at; no share where the first start makes the folder."""
    settings, home = plan.lab.settings, plan.lab.home
    folder = nas.nas_folder(home, settings)
    is_made_by_us = settings.nas.kind == "home" and folder is not None and not folder.exists()
    return preflight.Surroundings(
        engine=engine.info(),
        compose_version=plan.lab.compose.run("version", "--short").strip(),
        nas=None if is_made_by_us else folder,
        own_ports=frozenset(port for one in found for _, port in one.ports),
    )


def start_plan(engine: Engine, plan: up.Plan) -> Lab:
    """Make what is missing, converge, and wait until all is well.

    Raises:
        NotReadyError: not everything became healthy; the rest runs.
    """
    lab = plan.lab
    if lab.settings.nas.kind == "home":
        nas.make_ready(lab.home, lab.settings)
    # Before the secrets: whether the key of the pseudonyms may be new, the share's cases tell.
    if (folder := nas.nas_folder(lab.home, lab.settings)) is not None:
        nas.link_home(lab.home, folder)
    up.prepare(engine, plan, helper_image(plan))
    if folder is None:  # the engine mounts it while a container uses it
        nas.link_home(lab.home, engine.volume_folder(lab.volume("nas")))
    lab = save_lab(lab, plan.variables)
    progress = console.Progress("the stack starts", USUAL)
    is_done = False
    try:
        converge(engine, lab, list(plan.stack.containers), progress.tell)
        is_done = True
    finally:
        progress.finish("all services are healthy" if is_done else "not everything is healthy")
    return lab


def converge(engine: Engine, lab: Lab, names: Sequence[str], tell: Callable[[str], None]) -> None:
    try:
        up.converge(lab, tell)
    except ComposeFailedError as error:
        troubled = [one for one in engine.containers(lab.compose.project) if up.is_troubled(one)]
        if not troubled:
            raise
        raise up.not_ready(engine, troubled) from error
    up.wait_until_well(engine, lab, names, tell)


def helper_image(plan: up.Plan) -> str:
    """An image of the stack with a shell in it, for what only the engine's root may do."""
    return plan.image("gateway" if "gateway" in plan.stack.containers else TRAINER)
