#include "results/writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "results/reader.h"
#include "results/replacement_file.h"
#include "results/sample_record.h"
#include "results/test_directory.h"

namespace longseq {
namespace {

using sample::kConfigurationId;

class WriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
  }

  Writer open() { return Writer(MPI_COMM_WORLD, path_, kConfigurationId); }

  void append_samples(Writer& writer, std::int64_t up_to) {
    for (std::int64_t i = writer.finished_cases(); i < up_to; ++i) {
      writer.append(sample::case_record(MPI_COMM_WORLD, i));
    }
  }

  template <class T>
  static std::vector<T> values(const Group& group, const std::string& name) {
    const Array* array = find_array(group, name);
    if (array == nullptr) throw std::runtime_error("no array " + name);
    return std::get<std::vector<T>>(array->values);
  }

  void expect_sample_case(const Group& group, std::int64_t index) const {
    const Array* samples = find_array(group, "samples");
    ASSERT_NE(samples, nullptr);
    EXPECT_EQ(samples->dims, (std::vector<std::string>{"phase", "rank", "repetition"}));
    EXPECT_EQ(samples->units, "s");
    std::vector<double> expected;
    for (int phase = 0; phase < 5; ++phase) {
      for (int rank = 0; rank < ranks_; ++rank) {
        for (int i = 0; i < 2 + index; ++i) expected.push_back(sample::seconds(index, phase, rank, i));
      }
    }
    EXPECT_EQ(values<double>(group, "samples"), expected);
    const auto sent = values<std::int64_t>(group, "bytes_sent");
    ASSERT_EQ(sent.size(), static_cast<std::size_t>(ranks_ * ranks_));
    for (int rank = 0; rank < ranks_; ++rank) {
      for (int peer = 0; peer < ranks_; ++peer) {
        EXPECT_EQ(sent[static_cast<std::size_t>(rank * ranks_ + peer)], sample::bytes(rank, peer));
      }
    }
    EXPECT_EQ(std::get<std::vector<std::string>>(find_axis(group, "phase")->coordinate), sample::kPhases);
    EXPECT_EQ(std::get<std::int64_t>(*find_attribute(group, "seq_len")), 1024 * (index + 1));
    EXPECT_EQ(std::get<bool>(*find_attribute(group, "causal")), index % 2 == 1);
    EXPECT_EQ(std::get<std::string>(*find_attribute(group, "reasons")), "nothing to complain of: ≤ 2 %");
  }

  int rank_ = 0;
  int ranks_ = 1;
  TestDirectory directory_{MPI_COMM_WORLD};
  std::filesystem::path path_ = directory_ / "run.h5";
};

TEST_F(WriterTest, RoundTrip) {
  Writer writer = open();
  EXPECT_EQ(writer.finished_cases(), 0);
  EXPECT_FALSE(writer.complete());
  writer.begin(sample::header(MPI_COMM_WORLD));
  append_samples(writer, 3);
  EXPECT_FALSE(Reader(path_.string()).identity().complete);
  writer.finish();
  EXPECT_TRUE(writer.complete());

  const Reader reader(path_.string());  // every rank reads the whole file
  EXPECT_TRUE(reader.identity().complete);
  EXPECT_EQ(reader.identity().schema_version, "1.1.0");
  EXPECT_EQ(reader.identity().configuration_id, kConfigurationId);
  EXPECT_EQ(reader.identity().run_uuid.size(), 36u);
  EXPECT_EQ(reader.identity().run_uuid[14], '4');
  ASSERT_EQ(reader.finished_cases(), 3);
  for (std::int64_t i = 0; i < 3; ++i) expect_sample_case(reader.case_group(i), i);

  const Group summary = reader.summary();
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(find_axis(summary, "case")->coordinate),
            (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(values<std::string>(summary, "pattern"), (std::vector<std::string>{"full", "local", "full"}));
  EXPECT_EQ(values<std::int64_t>(summary, "seq_len"), (std::vector<std::int64_t>{1024, 2048, 3072}));
  EXPECT_EQ(values<std::uint8_t>(summary, "causal"), (std::vector<std::uint8_t>{0, 1, 0}));
  EXPECT_EQ(values<double>(summary, "median_time"), (std::vector<double>{0.5, 1.5, 2.5}));
  EXPECT_EQ(find_array(summary, "median_time")->dims, std::vector<std::string>{"case"});

  std::vector<std::string> hostnames;
  for (int rank = 0; rank < ranks_; ++rank) hostnames.push_back(sample::hostname(rank));
  EXPECT_EQ(values<std::string>(reader.environment(), "hostname"), hostnames);
  EXPECT_EQ(std::get<std::string>(*find_attribute(reader.environment(), "mpi_library")), "Open MPI ü");
  EXPECT_EQ(values<std::string>(reader.config(), "text").at(0), "pattern = full\nseq-len = 8\n");
  EXPECT_EQ(values<double>(reader.calibration(), "fma_peak_f32").back(), 1e11 + ranks_ - 1);
  EXPECT_EQ(values<double>(reader.calibration(), "timer_cost"), std::vector<double>{2.5e-8});
}

TEST_F(WriterTest, EveryCaseIsOnDiskAtOnceAndNoPartialFileStays) {
  Writer writer = open();
  EXPECT_FALSE(std::filesystem::exists(path_));
  writer.begin(sample::header(MPI_COMM_WORLD));
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(Reader(path_.string()).finished_cases(), i);
    MPI_Barrier(MPI_COMM_WORLD);
    append_samples(writer, i + 1);
    EXPECT_FALSE(std::filesystem::exists(partial_path(path_)));
    expect_sample_case(Reader(path_.string()).case_group(i), i);
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST_F(WriterTest, NoCases) {
  Writer writer = open();
  writer.begin({});
  writer.finish();
  const Reader reader(path_.string());
  EXPECT_TRUE(reader.identity().complete);
  EXPECT_EQ(reader.finished_cases(), 0);
  EXPECT_TRUE(reader.summary().arrays.empty());
  EXPECT_THROW(reader.case_group(0), std::invalid_argument);
}

TEST_F(WriterTest, ContinuesAfterTheLastFinishedCase) {
  {
    Writer first = open();
    first.begin(sample::header(MPI_COMM_WORLD));
    append_samples(first, 2);
  }
  const std::string uuid = Reader(path_.string()).identity().run_uuid;
  MPI_Barrier(MPI_COMM_WORLD);
  {
    Writer second = open();
    EXPECT_EQ(second.finished_cases(), 2);
    EXPECT_EQ(second.launch(), 1);
    EXPECT_FALSE(second.complete());
    RunHeader header = sample::header(MPI_COMM_WORLD);
    header.environment.attributes[1].value = std::int64_t{65};
    second.begin(header);
    append_samples(second, 3);
    second.finish();
  }
  Writer third = open();
  EXPECT_TRUE(third.complete());
  EXPECT_EQ(third.finished_cases(), 3);
  EXPECT_THROW(third.begin({}), std::logic_error);

  const Reader reader(path_.string());
  EXPECT_EQ(reader.identity().run_uuid, uuid);
  EXPECT_EQ(reader.launches(), 2);
  EXPECT_EQ(values<std::int64_t>(reader.summary(), "launch"), (std::vector<std::int64_t>{0, 0, 1}));
  EXPECT_EQ(std::get<std::int64_t>(*find_attribute(reader.environment(0), "cores")), 64);
  EXPECT_EQ(std::get<std::int64_t>(*find_attribute(reader.environment(1), "cores")), 65);
  EXPECT_EQ(values<double>(reader.calibration(1), "timer_cost"), std::vector<double>{2.5e-8});
  for (std::int64_t i = 0; i < 3; ++i) expect_sample_case(reader.case_group(i), i);
}

TEST_F(WriterTest, APartialFileOfACrashMeansNothing) {
  {
    Writer killed = open();
    killed.begin(sample::header(MPI_COMM_WORLD));
    append_samples(killed, 1);
  }
  if (rank_ == 0) {  // half of the next version, as a killed launch leaves it
    std::filesystem::copy_file(path_, partial_path(path_));
    std::filesystem::resize_file(partial_path(path_), std::filesystem::file_size(path_) / 2);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  Writer writer = open();
  EXPECT_FALSE(std::filesystem::exists(partial_path(path_)));
  EXPECT_EQ(writer.finished_cases(), 1);
  writer.begin(sample::header(MPI_COMM_WORLD));
  append_samples(writer, 2);
  const Reader reader(path_.string());
  for (std::int64_t i = 0; i < 2; ++i) expect_sample_case(reader.case_group(i), i);
}

TEST_F(WriterTest, RankZeroDecidesWhatAllRanksSay) {
  Writer writer = open();
  writer.begin({});
  CaseRecord record = sample::case_record(MPI_COMM_WORLD, 0);
  record.columns[1].value = std::int64_t{100 + rank_};
  record.group.attributes = {{"reasons", std::string(static_cast<std::size_t>(rank_ + 1), 'r')}};
  record.group.arrays[1].values =
      std::vector<std::uint8_t>(rank_ == 0 ? 2 : 0, 9);  // warmup: only rank 0's counts
  writer.append(record);
  const Group group = Reader(path_.string()).case_group(0);
  EXPECT_EQ(std::get<std::int64_t>(*find_attribute(group, "seq_len")), 100);
  EXPECT_EQ(std::get<std::string>(*find_attribute(group, "reasons")), "r");
  EXPECT_EQ(values<std::uint8_t>(group, "warmup"), (std::vector<std::uint8_t>{9, 9}));
}

TEST_F(WriterTest, LongerTextsAndManyRows) {
  Writer writer = open();
  writer.begin({});
  std::vector<std::string> texts;
  std::vector<double> numbers;
  for (int i = 0; i < 70; ++i) {  // past one chunk of rows and two widths of text
    texts.emplace_back(static_cast<std::size_t>(i * 3), static_cast<char>('a' + i % 26));
    numbers.push_back(i == 3 ? std::numeric_limits<double>::infinity() : i / 7.0);
    writer.append({{{"text", texts.back(), "", "a text"}, {"number", numbers.back(), "1", "a number"}}, {}});
  }
  const Group summary = Reader(path_.string()).summary();
  EXPECT_EQ(values<std::string>(summary, "text"), texts);
  EXPECT_EQ(values<double>(summary, "number"), numbers);
  EXPECT_EQ(find_array(summary, "text")->dims, std::vector<std::string>{"case"});
  EXPECT_EQ(find_array(summary, "text")->long_name, "a text");
}

TEST_F(WriterTest, EmptyAxesAndNotANumber) {
  Writer writer = open();
  writer.begin({});
  CaseRecord record;
  record.columns = {{"figure", std::numeric_limits<double>::quiet_NaN(), "s", "withheld"}};
  record.group.axes = {{"repetition", std::vector<std::int64_t>{}, "1", "none was done"}};
  record.group.arrays = {{"samples", {"rank", "repetition"}, std::vector<double>{}, "s", "times", true},
                         {"notes", {"repetition"}, std::vector<std::string>{}, "", "texts"}};
  writer.append(record);
  const Reader reader(path_.string());
  EXPECT_TRUE(std::isnan(values<double>(reader.summary(), "figure").at(0)));
  const Group group = reader.case_group(0);
  EXPECT_TRUE(values<double>(group, "samples").empty());
  EXPECT_EQ(size_of(find_axis(group, "rank")->coordinate), ranks_);
}

}  // namespace
}  // namespace longseq
