"""Runs the built program for the tests in this folder: as a user would, by mpirun, within a time limit."""

import os
import pathlib
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("LONGSEQ_PROGRAM", ROOT / "build" / "longseq"))
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "LONGSEQ_DATA": os.environ.get("LONGSEQ_DATA", str(ROOT / "data")),
}
# mpirun leaves the other ranks of a job that fails two seconds. In most tests they have nothing to add.
AT_ONCE = {"OMPI_MCA_odls_base_sigkill_timeout": "0"}
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]


def command(ranks, *arguments):
    words = [str(PROGRAM), *map(str, arguments)]
    if ranks is None:
        return words
    return [*MPIRUN, "-n", str(ranks), *words]


def run(ranks, *arguments, timeout=120):
    """Runs `longseq ARGUMENTS` on so many ranks (None: without mpirun)."""
    return subprocess.run(
        command(ranks, *arguments), env=ENVIRONMENT | AT_ONCE, capture_output=True, text=True, timeout=timeout
    )


def run_apart(first, others, timeout=60):
    """Runs `first` as rank 0 and `others` as ranks 1 and 2; each is a list of words."""
    words = [*MPIRUN, "-n", "1", *first, ":", "-n", "2", *others]
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


def start(ranks, *arguments):
    """Starts it in a process group of its own and does not wait."""
    return subprocess.Popen(
        command(ranks, *arguments), env=ENVIRONMENT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def kill_one_rank(pid):
    os.kill(pid, signal.SIGKILL)


def error_lines(finished):
    """What longseq itself said on stderr; mpirun adds a banner of its own to a non-zero end."""
    return [line for line in finished.stderr.splitlines() if line.startswith("longseq: ")]
