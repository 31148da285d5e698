// The table at the end of a run: one row per case, figures only where the verdict holds.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "suite/verdict.h"

namespace longseq {

struct SummaryRow {
  std::string label;
  std::int64_t seq_len = 0;
  int ranks = 0;
  int threads = 0;                   // per rank
  double median_seconds = 0;         // the figure of merit
  std::optional<double> half_width;  // of its interval, as a fraction of it; nothing with too few repetitions
  double tflops = 0;
  double peak_fraction = 0;     // of the FMA peak of all ranks together
  double bound_fraction = 0;    // of max(FLOPs/peak, bytes/bandwidth)
  double imbalance = 1;         // max/mean over ranks
  std::int64_t bytes_sent = 0;  // by all ranks, per repetition
  std::string strategy{};
  double predicted_seconds = 0;
  Verdict verdict;
};

/// The table and, below it, the reasons of every verdict that does not hold. Ends in a newline. Time,
/// rate and fractions are "—" where the verdict does not hold.
std::string summary_table(std::span<const SummaryRow> rows);

/// How right the predictions were, of cases whose verdict holds; and where cases differ in strategy alone,
/// what picking the predicted best would have cost: its time over that of the measured best (regret). ""
/// where there is nothing to say.
std::string prediction_text(std::span<const SummaryRow> rows);

}  // namespace longseq
