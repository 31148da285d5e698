// What a refusal said, for tests.
#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <string>

namespace longseq {

/// The message of the exception that f throws; fails the test if it has several lines, or if there is none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace longseq
