#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "epd/core/interrupt.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/run_main.h"

namespace epd {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class Stopping : public ::testing::Test {
 protected:
  ~Stopping() override {
    clear_stop_request();
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGHUP, SIG_DFL);
    std::signal(SIGUSR1, SIG_DFL);
  }

  /// The exit code of this work, and the stderr it left.
  std::pair<int, std::string> ended(const std::function<void()>& work) {
    CaptureStderr();
    const int code = run_main(work);
    return {code, GetCapturedStderr()};
  }
};

TEST_F(Stopping, GoodWorkIsSilentAndZero) {
  EXPECT_EQ(ended([] {}), std::pair(0, std::string()));
}

TEST_F(Stopping, AnErrorIsOneLineAndOne) {
  EXPECT_EQ(ended([] { throw Error("cannot read a.ts"); }), std::pair(1, std::string("error: cannot read a.ts\n")));
}

TEST_F(Stopping, WrongUsageIsTwo) {
  EXPECT_EQ(ended([] { throw UsageError("--batch 0"); }).first, 2);
}

TEST_F(Stopping, WhatAnotherProcessReportedIsNotSaidAgain) {
  EXPECT_EQ(ended([] { throw AlreadyReported("elsewhere", 2); }), std::pair(2, std::string()));
}

TEST_F(Stopping, WhateverIsThrownIsOneLineAndOne) {
  EXPECT_EQ(ended([] { throw std::bad_alloc(); }).second,
            "error: out of memory: try smaller --batch, --batch_gpu or --chunk\n");
  EXPECT_EQ(ended([] { throw std::runtime_error("first\nsecond"); }).second, "error: first\n");
  EXPECT_EQ(ended([] { throw 3; }), std::pair(1, std::string("error: unknown error\n")));
}

TEST_F(Stopping, MemoryThatRanOutIsNamedWithWhatHelps) {
  const auto line = [](const std::string& what) -> std::string {
    const auto out = out_of_memory(std::runtime_error(what), "--chunk");
    return out ? out->what() : "";
  };
  EXPECT_EQ(line("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.65 GiB of which "
                 "512.00 MiB is free. Process 7 has 20 GiB memory in use."),
            "out of memory: try smaller --chunk (2.5 GiB asked for, 512 MiB of 23.6 GiB free)");
  EXPECT_EQ(line("The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript\n  h = x\n"
                 "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                 "memory: you tried to allocate 3145728 bytes. Error code 12 (Cannot allocate memory)"),
            "out of memory: try smaller --chunk (3 MiB asked for)");
  EXPECT_EQ(
      line("standin out of memory. Tried to allocate 1048576 bytes. Device 0 has a total capacity of 2097152 bytes "
           "of which 524288 are free."),
      "out of memory: try smaller --chunk (1 MiB asked for, 0.5 MiB of 2 MiB free)");
  EXPECT_EQ(line("CUDA error: out of memory"), "out of memory: try smaller --chunk");
  EXPECT_EQ(line("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out of memory: try smaller --chunk");
  EXPECT_EQ(line("mat1 and mat2 shapes cannot be multiplied"), "");
}

TEST_F(Stopping, ASignalEndsTheWorkWhereItLooks) {
  for (const auto& [signal, code] :
       {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}, std::pair{SIGHUP, 143}, std::pair{SIGUSR1, 143}}) {
    clear_stop_request();
    EXPECT_EQ(ended([signal] {
                std::raise(signal);
                EXPECT_EQ(pending_signal(), signal);
                EXPECT_TRUE(stop_requested());
                check_interrupt();
              }).first,
              code);
  }
}

TEST_F(Stopping, ASecondSignalKills) {
  catch_signals();
  EXPECT_EXIT(
      {
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST_F(Stopping, WarningsNeverKill) {
  catch_signals();
  for (const int signal : {SIGHUP, SIGUSR1, SIGHUP, SIGTERM, SIGUSR1}) std::raise(signal);
  EXPECT_THROW(check_interrupt(), Interrupted);
}

TEST_F(Stopping, AHangupThatIsIgnoredStaysSo) {
  std::signal(SIGHUP, SIG_IGN);  // as nohup does
  catch_signals();
  std::raise(SIGHUP);
  EXPECT_FALSE(stop_requested());
}

TEST_F(Stopping, AnotherProcessesSignalDoesNotCountAsTheFirst) {
  catch_signals();
  request_stop(SIGINT);
  std::raise(SIGINT);  // Ctrl-C reaches every process of a terminal
  EXPECT_THROW(check_interrupt(), Interrupted);
}

TEST_F(Stopping, NothingIsThrownWithoutARequest) {
  EXPECT_FALSE(stop_requested());
  EXPECT_NO_THROW(check_interrupt());
}

TEST_F(Stopping, TheFirstReasonStaysAndIsThrown) {
  request_stop("rank 1: the disk is full");
  request_stop("rank 2: connection lost");
  try {
    check_interrupt();
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "rank 1: the disk is full");
  }
}

TEST_F(Stopping, AnotherProcessesSignalCountsLikeOurs) {
  request_stop(SIGTERM);
  try {
    check_interrupt();
    FAIL() << "nothing was thrown";
  } catch (const Interrupted& e) {
    EXPECT_EQ(e.exit_code(), 143);
  }
}

TEST(OneLine, LeavesOutTheStackOfATorchError) {
  EXPECT_EQ(one_line("mat1 and mat2 differ\nException raised from meta at x.cpp:1 (most recent call first):\nframe #0"),
            "mat1 and mat2 differ");
}

TEST(OneLine, TakesTheErrorAtTheEndOfATorchScriptTraceback) {
  EXPECT_EQ(one_line("The following operation failed in the TorchScript interpreter.\n"
                     "Traceback of TorchScript, serialized code (most recent call last):\n"
                     "  File \"code/x.py\", line 9, in forward\n    y = x @ x\n        ~~~~~ <--- HERE\n"
                     "RuntimeError: mat1 and mat2 differ\n"),
            "RuntimeError: mat1 and mat2 differ");
}

TEST(OneLine, SaysInPlainWordsWhatLibrariesSay) {
  const auto words_of = [](const std::function<void()>& work) {
    try {
      work();
    } catch (const std::exception& e) {
      return one_line(e.what());
    }
    return std::string("nothing was thrown");
  };
  namespace fs = std::filesystem;
  EXPECT_EQ(words_of([] { fs::directory_iterator("/no/where"); }),
            "cannot open directory /no/where: No such file or directory");
  EXPECT_EQ(words_of([] { fs::create_directories("/proc/self/x: y"); }),
            "cannot create directories /proc/self/x: y: No such file or directory");
  EXPECT_EQ(words_of([] { fs::rename("/no/a", "/no/b"); }), "cannot rename /no/a and /no/b: No such file or directory");
  EXPECT_EQ(one_line("[json.exception.type_error.316] invalid UTF-8 byte at index 0: 0xFF"),
            "cannot use JSON: invalid UTF-8 byte at index 0: 0xFF");
  for (const auto& work : std::vector<std::function<void()>>{
           [] { std::string("a").substr(2); }, [] { std::vector<int>(1).at(1); }, [] { std::stoi("x"); },
           [] { std::map<int, int>().at(1); }, [] { std::optional<int>().value(); }}) {
    EXPECT_EQ(words_of(work), "this is a bug of the program; --verbose shows more");
  }
}

TEST(OneLine, IsNeverEmpty) {
  EXPECT_EQ(one_line(""), "unknown error");
  EXPECT_EQ(one_line("\n \n"), "unknown error");
  EXPECT_EQ(one_line("\n  cause \nmore"), "cause");
}

}  // namespace
}  // namespace epd
