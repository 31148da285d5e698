import pytest

import synthetic_results


@pytest.fixture(scope="session")
def results_file(tmp_path_factory):
    """A complete file of 2 ranks."""
    return synthetic_results.write(tmp_path_factory.mktemp("results") / "two.h5", ranks=2)


@pytest.fixture(scope="session")
def scaling_files(tmp_path_factory):
    """The same four cases on 1, 2, 4 and 8 ranks."""
    folder = tmp_path_factory.mktemp("scaling")
    cases = synthetic_results.CASES[:4]
    return [synthetic_results.write(folder / f"p{ranks}.h5", ranks=ranks, cases=cases) for ranks in (1, 2, 4, 8)]
