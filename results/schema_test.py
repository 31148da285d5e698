"""Opens the file of write_sample with h5py and with xarray/h5netcdf, and holds it against SCHEMA.md. The file
was written by two launches: the first was killed after two of the three cases.

    schema_test.py FILE RANKS    (exit status 77: h5py, xarray or h5netcdf is not installed)
"""

import re
import sys
import unittest

try:
    import h5netcdf  # noqa: F401 (xarray's engine)
    import h5py
    import numpy as np
    import xarray
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

CASES = 3
CREATED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"
PHASES = ["compute", "communication", "waiting", "merging", "total"]


def expected_samples(case: int) -> np.ndarray:
    """The values of sample_record.h, written down a second time."""
    phase, rank, repetition = np.ogrid[0:5, 0:RANKS, 0 : 2 + case]
    return 1000.0 * case + 100 * phase + 10 * rank + repetition + 0.25


def open_group(group: str) -> xarray.Dataset:
    with xarray.open_dataset(PATH, engine="h5netcdf", group=group) as dataset:
        return dataset.load()


class EveryObject(unittest.TestCase):
    """SCHEMA.md, "Rules for every object"."""

    def setUp(self):
        self.file = h5py.File(PATH)
        self.addCleanup(self.file.close)
        self.groups, self.datasets = {"/": self.file}, {}
        self.file.visititems(
            lambda name, item: (self.groups if isinstance(item, h5py.Group) else self.datasets).update({name: item})
        )

    def assert_stored_type(self, item_id, name):
        data_type = item_id.get_type()
        if isinstance(data_type, h5py.h5t.TypeStringID):
            self.assertFalse(data_type.is_variable_str(), name)
            self.assertEqual(data_type.get_cset(), h5py.h5t.CSET_UTF8, name)
            self.assertEqual(data_type.get_strpad(), h5py.h5t.STR_NULLPAD, name)
        else:
            self.assertIn(data_type.dtype, (np.int64, np.float64, np.uint8), name)

    def test_there_are_some(self):
        self.assertGreaterEqual(len(self.groups), 10)
        self.assertGreaterEqual(len(self.datasets), 30)

    def test_types(self):
        own = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"}  # the dimension scales' own
        for name, item in {**self.groups, **self.datasets}.items():
            for attribute in set(item.attrs) - own:
                attribute_id = item.attrs.get_id(attribute)
                self.assert_stored_type(attribute_id, f"{name}@{attribute}")
                self.assertEqual(attribute_id.shape, (), f"{name}@{attribute}")
        for name, dataset in self.datasets.items():
            self.assert_stored_type(dataset.id, name)

    def test_creation_order(self):
        tracked = h5py.h5p.CRT_ORDER_TRACKED
        root = h5py.h5g.open(self.file.id, b"/")
        for name, item in {**self.groups, **self.datasets}.items():
            properties = (root if name == "/" else item.id).get_create_plist()
            self.assertTrue(properties.get_attr_creation_order() & tracked, name)
            if name in self.groups:
                self.assertTrue(properties.get_link_creation_order() & tracked, name)
        names = []
        group = self.file["cases/0000"]
        group.id.links.iterate(names.append, idx_type=h5py.h5.INDEX_CRT_ORDER)
        self.assertEqual(names[:2] + names[-1:], [b"phase", b"repetition", b"peak_memory"])

    def test_labels(self):
        for name, dataset in self.datasets.items():
            for label in ("units", "long_name"):
                self.assertIsInstance(dataset.attrs[label], np.bytes_, f"{name}@{label}")
            text = isinstance(dataset.id.get_type(), h5py.h5t.TypeStringID)
            self.assertEqual(dataset.attrs.get("_Encoding"), b"utf-8" if text else None, name)
        self.assertEqual(self.file["cases/0000/samples"].attrs["units"], b"s")

    def test_every_dimension_has_its_scale_in_the_same_group(self):
        for name, dataset in self.datasets.items():
            if dataset.is_scale:
                self.assertEqual(dataset.ndim, 1, name)
                continue
            for dimension in dataset.dims:
                self.assertEqual(len(dimension), 1, name)
                scale = dimension[0]
                self.assertEqual(scale.parent, dataset.parent, name)
                self.assertIn(scale.name.split("/")[-1], dataset.parent, name)


class Root(unittest.TestCase):
    def test_attributes(self):
        with h5py.File(PATH) as file:
            attributes = dict(file.attrs)
            names = list(file.attrs)
        self.assertEqual(sorted(names), sorted(["schema_name", "schema_version", "run_uuid", "created",
                                                "configuration_id", "complete"]))
        self.assertEqual(attributes["schema_name"], b"longseq-results")
        self.assertEqual(attributes["schema_version"], b"1.1.0")
        self.assertEqual(attributes["configuration_id"], b"d1ge57")
        self.assertEqual((attributes["complete"], attributes["complete"].dtype), (1, np.uint8))
        self.assertRegex(attributes["created"].decode(), CREATED)
        self.assertTrue(re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
                                     attributes["run_uuid"]))

    def test_groups(self):
        with h5py.File(PATH) as file:
            self.assertEqual(set(file), {"environment", "config", "calibration", "summary", "cases", "resumed"})
            self.assertEqual(list(file["resumed"]), ["0001"])
            self.assertEqual(set(file["resumed/0001"]), {"environment", "calibration"})
            self.assertRegex(file["resumed/0001"].attrs["created"].decode(), CREATED)
            self.assertEqual(list(file["cases"]), [f"{case:04}" for case in range(CASES)])


class Launch(unittest.TestCase):
    def test_environment(self):
        environment = open_group("environment")
        self.assertEqual(environment.attrs["mpi_library"], "Open MPI ü")
        self.assertEqual(environment.attrs["cores"], 64)
        self.assertEqual(environment.attrs["slurm_job_id"], "")
        self.assertEqual(list(environment.hostname.values), ["node-é" + "xxx" * rank for rank in range(RANKS)])
        self.assertEqual(list(environment["rank"].values), list(range(RANKS)))

    def test_config(self):
        config = open_group("config")
        self.assertEqual(config.text.item(), "pattern = full\nseq-len = 8\n")
        self.assertEqual(list(config.arguments.values), ["longseq", "bench", "x"])
        self.assertEqual(config.arguments.dims, ("argument",))
        self.assertEqual(config.attrs["confidence"], 0.95)

    def test_calibration(self):
        calibration = open_group("calibration")
        np.testing.assert_array_equal(calibration.fma_peak_f32, 1e11 + np.arange(RANKS))
        self.assertEqual(calibration.pingpong_latency.sel(message_size=1024), 2e-6)
        self.assertEqual(calibration.timer_cost.item(), 2.5e-8)
        self.assertEqual(calibration.fma_peak_f32.attrs, {"units": "flop/s", "long_name": "FMA peak in f32"})


class Summary(unittest.TestCase):
    def test_table(self):
        table = open_group("summary").to_dataframe()
        self.assertEqual(list(table.index), list(range(CASES)))
        self.assertEqual(list(table.columns), ["launch", "pattern", "seq_len", "causal", "median_time"])
        self.assertEqual(list(table.launch), [0, 0, 1])
        self.assertEqual(list(table.pattern), ["full", "local", "full"])
        self.assertEqual(list(table.seq_len), [1024, 2048, 3072])
        self.assertEqual(list(table.causal), [0, 1, 0])
        self.assertEqual(list(table.median_time), [0.5, 1.5, 2.5])

    def test_case_is_unlimited(self):
        with h5py.File(PATH) as file:
            self.assertEqual(file["summary/case"].maxshape, (None,))


class Cases(unittest.TestCase):
    def test_datasets(self):
        for number in range(CASES):
            case = open_group(f"cases/{number:04}")
            self.assertEqual(case.samples.dims, ("phase", "rank", "repetition"))
            self.assertEqual(list(case.phase.values), PHASES)
            np.testing.assert_array_equal(case.samples, expected_samples(number))
            np.testing.assert_array_equal(case.samples.sel(phase="total"), expected_samples(number)[4])
            self.assertEqual(case.bytes_sent.dims, ("rank", "peer"))
            np.testing.assert_array_equal(
                case.bytes_sent, 7 * np.arange(RANKS)[:, None] + 100 * np.arange(RANKS)[None, :]
            )
            self.assertEqual(case.warmup.dtype, np.uint8)
            self.assertEqual(list(case.warmup.values), [1] + [0] * (1 + number))
            self.assertEqual(list(case.peak_memory.values), list(range(1, RANKS + 1)))

    def test_attributes(self):
        attributes = open_group("cases/0001").attrs
        self.assertEqual(list(attributes)[:3], ["case", "launch", "pattern"])
        self.assertEqual((attributes["case"], attributes["launch"], attributes["pattern"]), (1, 0, "local"))
        self.assertEqual((attributes["causal"], attributes["causal"].dtype), (1, np.uint8))
        self.assertEqual(attributes["reasons"], "nothing to complain of: ≤ 2 %")


if __name__ == "__main__":
    PATH, RANKS = sys.argv[1], int(sys.argv[2])
    unittest.main(argv=sys.argv[:1], verbosity=2)
