"""A rank that is killed: everybody ends soon and in error, finished cases are safe, and the same command goes on."""

import time

import h5py

from program import kill_one_rank, run, start

SWEEP = ["--seq-len", "512,640,768,896", "--heads", "1,2", "--repetitions", "10", "--max-time", "0.6"]


def finished_cases(path):
    try:
        with h5py.File(path, "r") as file:
            return len(file["cases"])
    except (OSError, KeyError):
        return 0


def ranks_of(mpirun):
    """Process numbers of the ranks under this mpirun."""
    children = []
    for task in (f"/proc/{mpirun}/task/{mpirun}/children",):
        with open(task) as file:
            children += file.read().split()
    return [int(child) for child in children]


def test_a_killed_rank_ends_the_job_and_the_sweep_continues(tmp_path):
    output = tmp_path / "sweep.h5"
    job = start(3, "bench", *SWEEP, "--output", output)
    deadline = time.monotonic() + 60
    while finished_cases(output) < 2:
        assert job.poll() is None and time.monotonic() < deadline, "two cases should be finished by now"
        time.sleep(0.05)
    kill_one_rank(ranks_of(job.pid)[1])
    started = time.monotonic()
    assert job.wait(timeout=30) != 0
    assert time.monotonic() - started < 30

    done = finished_cases(output)
    assert 2 <= done < 8
    with h5py.File(output) as file:
        assert file.attrs["complete"] == 0
        kept = [file[f"cases/{index:04d}/samples"][()] for index in range(done)]

    again = run(3, "bench", *SWEEP, "--output", output)
    assert again.returncode == 0, again.stderr
    assert f"has {done} of 8 cases: continuing" in again.stdout
    with h5py.File(output) as file:
        assert file.attrs["complete"] == 1 and len(file["cases"]) == 8
        assert list(file["summary/launch"]) == [0] * done + [1] * (8 - done)
        for index, samples in enumerate(kept):
            assert (file[f"cases/{index:04d}/samples"][()] == samples).all()


def test_samples_are_real_and_traffic_meets_the_closed_form(tmp_path):
    output = tmp_path / "one.h5"
    s, heads, kv_heads, d, ranks = 1024, 4, 2, 32, 4
    finished = run(
        ranks, "bench", "--seq-len", s, "--heads", heads, "--kv-heads", kv_heads, "--head-dim", d, "--strategy",
        "ring,allgather", "--max-time", 1, "--output", output,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    per_rank = 2 * (ranks - 1) * (s // ranks) * kv_heads * d * 4
    with h5py.File(output) as file:
        for case in file["cases"].values():
            samples = case["samples"][()]
            phases = [name.decode() for name in case["phase"][()]]
            assert samples.shape == (5, ranks, len(case["repetition"]))
            total = samples[phases.index("total")]
            assert len(set(total.ravel())) > 0.8 * total.size, "hardly two totals are equal: nothing was averaged or copied"
            assert (samples[:-1].sum(axis=0) <= total * 1.0001).all()
            assert (case["bytes_sent"][()].sum(axis=1) == per_rank).all()
            assert (case["bytes_sent"][()] == case["planned_bytes"][()]).all()
            assert (case["messages_sent"][()] == case["planned_messages"][()]).all()
            assert case.attrs["valid"] == 1
