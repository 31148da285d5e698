// What the writer refuses: on all ranks alike, at once, leaving what lies on the disk as it was.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "results/hdf5_objects.h"
#include "results/reader.h"
#include "results/replacement_file.h"
#include "results/sample_record.h"
#include "results/test_directory.h"
#include "results/writer.h"

namespace longseq {
namespace {

using sample::kConfigurationId;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class WriterRefusalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
  }

  Writer open(const std::string& configuration_id = kConfigurationId) {
    return Writer(MPI_COMM_WORLD, path_, configuration_id);
  }

  /// A file with one finished case.
  void make_file() {
    Writer writer = open();
    writer.begin(sample::header(MPI_COMM_WORLD));
    writer.append(sample::case_record(MPI_COMM_WORLD, 0));
  }

  /// The message, which is one line and the same on all ranks, of the Error that work() must throw.
  template <class Error, class Work>
  std::string refusal(const Work& work) {
    std::string message;
    try {
      work();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    std::string of_rank_0 = message;
    of_rank_0.resize(2000);
    MPI_Bcast(of_rank_0.data(), 2000, MPI_CHAR, 0, MPI_COMM_WORLD);
    EXPECT_EQ(message, of_rank_0.c_str());
    return message;
  }

  /// Expects that the file there is refused as it is, and that it stays.
  void expect_refused(const std::string& because, const std::string& configuration_id = kConfigurationId) {
    MPI_Barrier(MPI_COMM_WORLD);
    const std::string before = contents(path_);
    const auto message = refusal<std::invalid_argument>([&] { open(configuration_id); });
    EXPECT_NE(message.find(because), std::string::npos) << message;
    EXPECT_NE(message.find(path_.string()), std::string::npos) << message;
    EXPECT_EQ(contents(path_), before);
    EXPECT_FALSE(std::filesystem::exists(partial_path(path_)));
  }

  /// Expects that the record is refused, that the file stays, and that a good record then goes in.
  void expect_refused(const CaseRecord& record, const std::string& because) {
    Writer writer = open();
    writer.begin({});
    const std::string before = contents(path_);
    const auto message = refusal<std::invalid_argument>([&] { writer.append(record); });
    EXPECT_NE(message.find(because), std::string::npos) << message;
    EXPECT_EQ(contents(path_), before);
    MPI_Barrier(MPI_COMM_WORLD);
    const std::int64_t next = writer.finished_cases();
    writer.append(sample::case_record(MPI_COMM_WORLD, next));
    EXPECT_EQ(Reader(path_.string()).finished_cases(), next + 1);
    MPI_Barrier(MPI_COMM_WORLD);
  }

  int rank_ = 0;
  int ranks_ = 1;
  TestDirectory directory_{MPI_COMM_WORLD};
  std::filesystem::path path_ = directory_ / "run.h5";
};

TEST_F(WriterRefusalTest, AnotherConfiguration) {
  make_file();
  expect_refused("another configuration (d1ge57, expected other); hint: choose another --output or remove it",
                 "other");
}

TEST_F(WriterRefusalTest, FilesThatAreNoResults) {
  if (rank_ == 0) std::ofstream(path_) << "these are somebody's notes\n";
  expect_refused("not a readable HDF5 file");

  MPI_Barrier(MPI_COMM_WORLD);
  if (rank_ == 0) std::ofstream{path_};
  expect_refused("not a readable HDF5 file");

  MPI_Barrier(MPI_COMM_WORLD);
  if (rank_ == 0) {
    hdf5::Handle(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), "create");
  }
  expect_refused("not a longseq results file: its attribute 'schema_name' is missing");
}

TEST_F(WriterRefusalTest, ATruncatedFile) {
  make_file();
  if (rank_ == 0) std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  expect_refused("truncated");
}

TEST_F(WriterRefusalTest, AnUnknownMajorVersion) {
  make_file();
  if (rank_ == 0) {
    const hdf5::Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), "open");
    hdf5::check(H5Adelete(file, "schema_version"), "delete");
    hdf5::write_attribute(file, "schema_version", "2.0.0");
  }
  expect_refused("schema version '2.0.0', expected 1.x");
}

TEST_F(WriterRefusalTest, PlacesThatCannotBeWritten) {
  const auto at = [&](const std::filesystem::path& path) {
    return [=] { Writer(MPI_COMM_WORLD, path, kConfigurationId); };
  };
  const auto missing = refusal<std::runtime_error>(at(directory_ / "missing/run.h5"));
  EXPECT_NE(missing.find("missing' is not a directory; hint"), std::string::npos) << missing;
  const auto forbidden = refusal<std::runtime_error>(at("/proc/longseq.h5"));  // not even by root
  EXPECT_NE(forbidden.find("cannot write '/proc/longseq.h5.partial'"), std::string::npos) << forbidden;
  const auto directory = refusal<std::invalid_argument>(at(directory_ / ""));
  EXPECT_NE(directory.find("it is no file name"), std::string::npos) << directory;
}

TEST_F(WriterRefusalTest, AWrongSizeOnOneRank) {
  CaseRecord record = sample::case_record(MPI_COMM_WORLD, 0);
  if (rank_ == ranks_ - 1) record.group.arrays[0].values = std::vector<double>(11);
  expect_refused(record, "array 'samples' in /cases/0000 has 11 values on rank " +
                             std::to_string(ranks_ - 1) + ", expected 10 by its axes");
}

TEST_F(WriterRefusalTest, AnotherTypeOrNumberOfArraysOnOneRank) {
  if (ranks_ == 1) GTEST_SKIP() << "needs two ranks";
  CaseRecord record = sample::case_record(MPI_COMM_WORLD, 0);
  if (rank_ == 1) record.group.arrays[0].values = std::vector<std::int64_t>(10);
  expect_refused(record, "is 'samples' on rank 1 and 'samples' on rank 0; expected the same name, type");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  if (rank_ == 1) record.group.arrays.pop_back();
  expect_refused(record, "rank 1 gives 3 arrays");
}

TEST_F(WriterRefusalTest, UnknownAxesAndBadNames) {
  CaseRecord record = sample::case_record(MPI_COMM_WORLD, 0);
  record.group.arrays[0].dims[2] = "repetitions";
  expect_refused(record, "uses the axis 'repetitions', which is not there");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns[0].name = "seq-len";
  expect_refused(record, "name 'seq-len' in /cases/0001: expected");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.group.attributes.push_back({"pattern", "full"});
  expect_refused(record, "name 'pattern' in /cases/0002 is given twice");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.group.attributes.push_back({"log", std::string(70000, 'x')});
  expect_refused(record, "attribute 'log' has 70000 bytes, at most 60000 fit");
}

TEST_F(WriterRefusalTest, OtherColumnsThanTheCasesBefore) {
  make_file();
  CaseRecord record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns.pop_back();
  expect_refused(record, "case 1 has 4 columns, expected the 5 of the cases before it");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns[0].name = "patron";
  expect_refused(record, "case 2 has a column 'patron', which the cases before it have not");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns[3].value = "fast";
  expect_refused(record, "column 'median_time' of the summary changes its type");
  record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns[1].value = 0.5;
  expect_refused(record, "column 'seq_len' of the summary changes its type");
}

/// Lets this process write no file beyond `bytes` while it lives: the nearest thing to a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  sighandler_t handler_;
  rlimit before_;
};

TEST_F(WriterRefusalTest, AFullDisk) {
  make_file();
  Writer writer = open();
  writer.begin({});
  const std::string before = contents(path_);
  MPI_Barrier(MPI_COMM_WORLD);
  const auto append_within = [&](std::size_t bytes) {
    CaseRecord record = sample::case_record(MPI_COMM_WORLD, 1);
    for (int i = 0; i < 300; ++i) {  // so that what the objects take outweighs what the file does
      record.group.arrays.push_back(
          {fmt::format("a{}", i), {"repetition"}, std::vector<double>(3), "1", "one of many"});
    }
    const FileSizeLimit limit(bytes);
    writer.append(record);
  };
  const auto copying = refusal<std::runtime_error>([&] { append_within(before.size() / 2); });
  EXPECT_EQ(copying.rfind("cannot copy", 0), 0u) << copying;
  const auto reserving = refusal<std::runtime_error>([&] { append_within(before.size() + 64); });
  EXPECT_EQ(reserving.rfind("cannot reserve", 0), 0u) << reserving;
  EXPECT_EQ(contents(path_), before);
  EXPECT_FALSE(std::filesystem::exists(partial_path(path_)));
  MPI_Barrier(MPI_COMM_WORLD);

  // The first room that is enough to begin is enough to end.
  int refused = 0;
  for (std::size_t bytes = before.size(); writer.finished_cases() == 1; bytes += 16384) {
    try {
      append_within(bytes);
    } catch (const std::runtime_error& error) {
      ASSERT_EQ(std::string(error.what()).rfind("cannot reserve", 0), 0u) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(Reader(path_.string()).finished_cases(), 2);
}

}  // namespace
}  // namespace longseq
