// A computation in parts, which the threads of XLA's pool take one after the other.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

// All that the threads share; the last of them to end finishes and fulfils the promise.
template <class Parts>
struct Work {
  Parts parts;  // has count(), take(n) for n below it, and finish()
  std::atomic<int64_t> next{0}, done{0};
  ffi::Promise promise;

  explicit Work(Parts all) : parts(std::move(all)) {}

  void run() {
    const int64_t count = parts.count();
    for (int64_t n; (n = next++) < count;) {
      parts.take(n);
      if (++done == count) {
        parts.finish();
        promise.SetAvailable();
      }
    }
  }
};

template <class Parts>
ffi::Future start(ffi::ThreadPool pool, Parts parts) {
  auto work = std::make_shared<Work<Parts>>(std::move(parts));
  ffi::Future future(work->promise);
  const int64_t helpers = std::min(pool.num_threads(), work->parts.count()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([work] { work->run(); });
  work->run();
  return future;
}
