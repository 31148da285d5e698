#include "suite/summary.h"

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

namespace longseq {
namespace {

SummaryRow good_row() {
  return {.label = "full causal ring/zigzag",
          .seq_len = 4096,
          .ranks = 2,
          .threads = 4,
          .median_seconds = 0.01234,
          .half_width = 0.0123,
          .tflops = 0.3217,
          .peak_fraction = 0.805,
          .bound_fraction = 0.913,
          .imbalance = 1.04,
          .bytes_sent = 8 << 20,
          .verdict = {true, true, true, {}}};
}

TEST(Summary, ShowsTheFiguresOfAVerdictThatHolds) {
  EXPECT_EQ(summary_table(std::vector{good_row()}),
            "#  case                        S  P×T    median      ±  TFLOP/s  of peak  of bound  imbalance   "
            "  sent  "
            "verdict\n"
            "1  full causal ring/zigzag  4096  2×4  12.34 ms  1.2 %    0.322   80.5 %    91.3 %       1.04  "
            "8.0 MiB  "
            "VALID CONVERGED CLEAN\n");
}

TEST(Summary, WithholdsFiguresAndSaysWhy) {
  SummaryRow bad = good_row();
  bad.verdict = {true, false, true, {"at most 20 s, after 7 repetitions"}};
  const std::string table = summary_table(std::vector{good_row(), bad});
  std::istringstream lines(table);
  std::string head, first, second, reason;
  std::getline(lines, head);
  std::getline(lines, first);
  std::getline(lines, second);
  std::getline(lines, reason);
  EXPECT_NE(first.find("12.34 ms"), std::string::npos);
  for (const char* figure : {"12.34", "0.322", "80.5", "91.3", "1.04"}) {
    EXPECT_EQ(second.find(figure), std::string::npos) << figure;
  }
  EXPECT_NE(second.find("—"), std::string::npos);
  EXPECT_NE(second.find("8.0 MiB"), std::string::npos);  // what the plan sends is no measurement
  EXPECT_NE(second.find("VALID NOT CONVERGED CLEAN"), std::string::npos);
  EXPECT_EQ(reason, "case 2: at most 20 s, after 7 repetitions");
}

TEST(Summary, ChoosesUnits) {
  SummaryRow row = good_row();
  row.median_seconds = 25e-6;
  row.bytes_sent = 1000;
  row.half_width.reset();
  const std::string table = summary_table(std::vector{row});
  for (const char* part : {"25.0 µs", "1000 B", "unknown"})
    EXPECT_NE(table.find(part), std::string::npos) << table;
  row.median_seconds = 2.5;
  EXPECT_NE(summary_table(std::vector{row}).find("2.500 s"), std::string::npos);
}

SummaryRow predicted(const char* strategy, double median, double prediction) {
  SummaryRow row;
  row.label = std::string("full ") + strategy + "/zigzag S=1024";
  row.ranks = 2;
  row.threads = 1;
  row.strategy = strategy;
  row.median_seconds = median;
  row.predicted_seconds = prediction;
  row.verdict = {true, true, true, {}};
  return row;
}

TEST(PredictionText, SaysHowManyWereCloseAndWhatThePickWouldHaveCost) {
  const std::vector<SummaryRow> rows{predicted("ring", 1.05, 1.0), predicted("ulysses", 1.0, 1.1),
                                     predicted("halo", 2.0, 1.5)};
  EXPECT_EQ(prediction_text(rows),
            "predicted within 15 % of the median: 2 of 3 cases\n"
            "full */zigzag S=1024 on 2x1: predicted best ring, measured best ulysses, regret 5.0 %\n");
}

TEST(PredictionText, LeavesOutWhatDoesNotHold) {
  std::vector<SummaryRow> rows{predicted("ring", 1, 1), predicted("halo", 0.5, 3)};
  rows[1].verdict.clean = false;
  EXPECT_EQ(prediction_text(rows), "predicted within 15 % of the median: 1 of 1 cases\n");
  rows[0].verdict.valid = false;
  EXPECT_EQ(prediction_text(rows), "");
}

}  // namespace
}  // namespace longseq
