// Whether operations record the graph; per thread.
#pragma once

namespace pe {

bool grad_enabled();
void set_grad_enabled(bool enabled);

class GradMode {  // for a scope
 public:
  explicit GradMode(bool enabled) : before_(grad_enabled()) { set_grad_enabled(enabled); }
  ~GradMode() { set_grad_enabled(before_); }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};

}  // namespace pe
