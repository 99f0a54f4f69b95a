"""What BuildKit says, in the words that engine 26 and Compose 2.26 wrote."""

from stack.engine.build_log import BuildLog

RUN = (
    "#11 [trainer stage-1  5/13] RUN --mount=type=cache,target=/root/.cache "
    "--mount=type=secret,id=pip,target=/etc/pip.conf python3 -m stack.image_setup trainer"
)
PROCESS = 'process "/bin/sh -c python3 -m x" did not complete successfully: exit code: 1'


def log_of(*lines: str) -> BuildLog:
    log = BuildLog()
    for line in lines:
        log.read(line)
    return log


def test_a_step_is_said_once_and_without_its_mounts() -> None:
    log = BuildLog()
    assert log.read(RUN) == "trainer 5/13: RUN python3 -m stack.image_setup trainer"
    assert log.read(RUN) == ""
    assert log.read("#5 [2/2] RUN make") == "2/2: RUN make"
    assert log.read("#1 [trainer internal] load build definition from Dockerfile") == ""


def test_a_failure_names_its_step_and_last_words() -> None:
    log = log_of(
        "#9 [trainer stage-1  2/13] COPY a b",
        "#9 DONE 0.1s",
        RUN,
        "#11 0.512 something else",
        "#12 1.000 another build, side by side",
        "#11 26.51 torch 2.13.0 for CUDA 13.0 was found on no index",
        f"#11 ERROR: {PROCESS}",
        "------",
        f"failed to solve: {PROCESS}",
    )
    assert log.step.startswith("trainer 5/13: RUN python3")
    assert log.last_lines[-1] == "torch 2.13.0 for CUDA 13.0 was found on no index"
    assert "another build" not in "".join(log.last_lines)
    assert log.reason == "exit code 1"
    assert "WHEELS" in log.advice


def test_advice_fits_the_cause() -> None:
    def advice(words: str) -> str:
        return log_of(RUN, f"#11 1.0 {words}", f"#11 ERROR: {PROCESS}").advice

    assert "PIP_CONFIG" in advice("Temporary failure in name resolution")
    assert "CA_BUNDLE" in advice("certificate verify failed: unable to get local issuer")
    assert "--prune" in advice("write /x: no space left on device")
    assert "DEEPO_IMAGE" in advice("the base has Python 3.8 and none could be fetched")
    assert "PIP_CONFIG" in advice("Loaded CA certificate; unable to resolve host address x")
    assert "docs/images.md" in advice("Killed")


def test_an_error_outside_of_any_step_is_told_too() -> None:
    log = log_of("failed to solve: nowhere.lan/x:1: failed to resolve source metadata")
    assert log.step == "" and log.reason.startswith("nowhere.lan/x:1")
