// The summary table's rows, read back from a results file.
#pragma once

#include <vector>

#include "results/reader.h"
#include "suite/summary.h"

namespace longseq {

/// One row per finished case, in the order of the file. Throws std::runtime_error if the file lacks a column.
std::vector<SummaryRow> summary_rows(const Reader& file);

}  // namespace longseq
