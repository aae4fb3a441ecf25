#include <algorithm>
#include <map>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// How the kernel reads the last two dimensions of a tensor; copied when neither of them is contiguous.
struct Matrix {
  Tensor x;
  bool transposed;
  int64_t ld, batch_stride;
};

Matrix matrix(const Tensor& x) {  // (B, rows, cols)
  const int64_t rows = x.shape()[1], cols = x.shape()[2], rs = x.strides()[1], cs = x.strides()[2];
  if ((cs == 1 || cols == 1) && (rs >= cols || rows == 1))
    return {x, false, rows == 1 ? std::max<int64_t>(cols, 1) : rs, x.strides()[0]};
  if ((rs == 1 || rows == 1) && (cs >= rows || cols == 1))
    return {x, true, cols == 1 ? std::max<int64_t>(rows, 1) : cs, x.strides()[0]};
  const Tensor copy = contiguous(detach(x));
  return {copy, false, std::max<int64_t>(cols, 1), copy.strides()[0]};
}

void gemm(const Tensor& a, const Tensor& b, const Tensor& bias,
          const Tensor& y) {  // (B, m, k) (B, k, n) -> dense (B, m, n)
  const Matrix ma = matrix(a), mb = matrix(b);
  GemmShape s;
  s.batch = a.shape()[0], s.m = a.shape()[1], s.k = a.shape()[2], s.n = b.shape()[2];
  s.lda = ma.ld, s.ldb = mb.ld, s.ldc = std::max<int64_t>(s.n, 1);
  s.batch_a = ma.batch_stride, s.batch_b = mb.batch_stride, s.batch_c = s.m * s.n;
  s.trans_a = ma.transposed, s.trans_b = mb.transposed, s.accumulate = false;
  kernels().gemm(s, y.dtype(), ma.x.data(), mb.x.data(), bias.defined() ? bias.data() : nullptr, y.data());
}

// (B, m, k) times (B, k, n)
Tensor bmm(const Tensor& a, const Tensor& b) {
  const Tensor y = empty({a.shape()[0], a.shape()[1], b.shape()[2]}, a.dtype());
  if (y.numel() > 0) gemm(a, b, Tensor(), y);
  if (recording(a, b))
    record(
        "matmul", y, {a, b},
        [a = Saved(requires_grad(b) ? a : Tensor()), b = Saved(requires_grad(a) ? b : Tensor())](const Backward& back) {
          Grads g(2);
          if (back.needed[0]) g[0] = bmm(back.dy[0], transpose(b.get(back.node), 1, 2));
          if (back.needed[1]) g[1] = bmm(transpose(a.get(back.node), 1, 2), back.dy[0]);
          return g;
        });
  return y;
}

}  // namespace

Tensor matmul(const Tensor& a0, const Tensor& b0) {
  PE_CHECK(a0.dim() > 0 && b0.dim() > 0, Shape, "matmul: both arguments need at least one dimension, got shapes ",
           a0.shape(), " and ", b0.shape());
  const DType t = promote(a0, b0);
  if (!is_floating(t)) {  // exact up to 2^53
    PE_CHECK(t != DType::Bool, Type, "matmul: not defined for bool tensors");
    return to(matmul(to(a0, DType::Float64), to(b0, DType::Float64)), t);
  }
  const Tensor a = to(a0.dim() == 1 ? unsqueeze(a0, 0) : a0, t), b = to(b0.dim() == 1 ? unsqueeze(b0, 1) : b0, t);
  const int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  PE_CHECK(k == b.size(-2), Shape, "matmul: inner sizes differ: ", a0.shape(), " times ", b0.shape(), " (", k, " and ",
           b.size(-2), ")");

  Dims batch_a, batch_b;
  for (int i = 0; i + 2 < a.dim(); ++i) batch_a.push_back(a.shape()[i]);
  for (int i = 0; i + 2 < b.dim(); ++i) batch_b.push_back(b.shape()[i]);
  Tensor y;
  Dims shape;
  if (batch_b.empty()) {  // one big product
    y = bmm(reshape(a, {1, a.numel() / std::max<int64_t>(k, 1), k}), unsqueeze(b, 0));
    if (k == 0) {
      int64_t rows = m;
      for (int64_t s : batch_a) rows *= s;
      y = bmm(reshape(a, {1, rows, 0}), unsqueeze(b, 0));
    }
    shape = batch_a;
  } else {
    shape = broadcast_shapes(batch_a, batch_b, "matmul");
    Dims full_a = shape, full_b = shape;
    int64_t count = 1;
    for (int64_t s : shape) count *= s;
    full_a.push_back(m), full_a.push_back(k);
    full_b.push_back(k), full_b.push_back(n);
    y = bmm(reshape(expand(a, full_a), {count, m, k}), reshape(expand(b, full_b), {count, k, n}));
  }
  if (a0.dim() > 1) shape.push_back(m);
  if (b0.dim() > 1) shape.push_back(n);
  return reshape(y, shape);
}

Tensor linear(const Tensor& x0, const Tensor& weight0, const Tensor& bias0) {
  PE_CHECK(weight0.dim() == 2, Shape, "linear: weight must have 2 dimensions, got shape ", weight0.shape());
  PE_CHECK(x0.dim() > 0 && x0.size(-1) == weight0.shape()[1], Shape, "linear: weight expects ", weight0.shape()[1],
           " input features, but input has ", x0.dim() ? x0.size(-1) : 0, " (input ", x0.shape(), ", weight ",
           weight0.shape(), ")");
  PE_CHECK(!bias0.defined() || (bias0.dim() == 1 && bias0.shape()[0] == weight0.shape()[0]), Shape,
           "linear: expected a bias of shape (", weight0.shape()[0], ",), got ",
           bias0.defined() ? bias0.shape() : Dims());
  const DType t = promote(x0, weight0);
  PE_CHECK(is_floating(t), Type, "linear: expected floating point tensors, got ", dtype_name(x0.dtype()), " and ",
           dtype_name(weight0.dtype()));
  const Tensor x = to(x0, t), weight = to(weight0, t), bias = bias0.defined() ? contiguous(to(bias0, t)) : Tensor();
  const int64_t features = weight.shape()[1],
                rows = features ? x.numel() / features : checked_numel(x.shape(), "linear");
  Dims shape = x.shape();
  shape[shape.size() - 1] = weight.shape()[0];
  if (features == 0) {
    const Tensor y = full(shape, 0, t);
    return bias.defined() ? add(y, bias) : y;
  }
  const Tensor flat = reshape(x, {rows, features});
  const Tensor y = empty({rows, weight.shape()[0]}, t);
  if (y.numel() > 0)
    gemm(unsqueeze(detach(flat), 0), unsqueeze(transpose(detach(weight), 0, 1), 0), bias, unsqueeze(y, 0));
  if (recording(flat, weight, bias))
    record("linear", y, {flat, weight, bias},
           [x = Saved(requires_grad(weight) ? flat : Tensor()),
            weight = Saved(requires_grad(flat) ? weight : Tensor())](const Backward& b) {
             Grads g(3);
             if (b.needed[0]) g[0] = matmul(b.dy[0], weight.get(b.node));
             if (b.needed[1]) g[1] = matmul(transpose(b.dy[0], 0, 1), x.get(b.node));
             if (b.needed[2]) g[2] = sum(b.dy[0], {0});
             return g;
           });
  return x.dim() == 2 ? y : reshape(y, shape);
}

Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha) {
  Tensor y = matmul(a, b);
  if (alpha != 1) y = mul(y, scalar_tensor(alpha, y.dtype()));
  return add(beta == 1 ? c : mul(c, scalar_tensor(beta, c.dtype())), y);
}

namespace {

// An einsum operand: a tensor and the letter of each of its dimensions.
struct Term {
  Tensor x;
  std::string letters;
};

bool has(const std::string& letters, char c) { return letters.find(c) != std::string::npos; }

// Repeated letters become one dimension, the diagonal.
Term without_repeats(Term t) {
  for (size_t i = 0; i < t.letters.size(); ++i)
    for (size_t j = i + 1; j < t.letters.size(); ++j)
      if (t.letters[i] == t.letters[j]) {
        const char c = t.letters[i];
        PE_CHECK(t.x.shape()[int(i)] == t.x.shape()[int(j)], Shape, "einsum: subscript '", c, "' has sizes ",
                 t.x.shape()[int(i)], " and ", t.x.shape()[int(j)]);
        t.x = diagonal(t.x, 0, int64_t(i), int64_t(j));
        t.letters.erase(j, 1);
        t.letters.erase(i, 1);
        t.letters.push_back(c);
        return without_repeats(t);
      }
  return t;
}

Term sum_out(Term t, const std::string& keep) {
  Dims dims;
  std::string left;
  for (size_t i = 0; i < t.letters.size(); ++i) {
    if (has(keep, t.letters[i]))
      left.push_back(t.letters[i]);
    else
      dims.push_back(int64_t(i));
  }
  if (!dims.empty()) t.x = sum(t.x, dims, false);
  return {t.x, left};
}

Tensor arrange(const Term& t, const std::string& order) {
  Dims dims;
  for (char c : order) dims.push_back(int64_t(t.letters.find(c)));
  return permute(t.x, dims);
}

// One batched product: letters shared and kept are the batch, shared and not kept are summed over.
Term contract(Term a, Term b, const std::string& keep, std::map<char, int64_t>& sizes) {
  auto stretch = [&](Term& t) {  // sizes of 1 broadcast
    Dims shape;
    for (char c : t.letters) shape.push_back(sizes[c]);
    t.x = expand(t.x, shape);
  };
  stretch(a);
  stretch(b);
  a = sum_out(a, keep + b.letters);
  b = sum_out(b, keep + a.letters);
  std::string batch, inner, rows, cols;
  for (char c : a.letters) (has(b.letters, c) ? (has(keep, c) ? batch : inner) : rows).push_back(c);
  for (char c : b.letters)
    if (!has(a.letters, c)) cols.push_back(c);
  auto count = [&](const std::string& letters) {
    int64_t n = 1;
    for (char c : letters) n *= sizes[c];
    return n;
  };
  const Tensor left = reshape(arrange(a, batch + rows + inner), {count(batch), count(rows), count(inner)});
  const Tensor right = reshape(arrange(b, batch + inner + cols), {count(batch), count(inner), count(cols)});
  Dims shape;
  for (char c : batch + rows + cols) shape.push_back(sizes[c]);
  return {reshape(matmul(left, right), shape), batch + rows + cols};
}

}  // namespace

Tensor einsum(const std::string& equation, const std::vector<Tensor>& operands) {
  PE_CHECK(!operands.empty(), Value, "einsum: expected at least one operand");
  std::string text;
  for (char c : equation)
    if (c != ' ') text.push_back(c);
  const size_t arrow = text.find("->");
  std::vector<std::string> inputs(1);
  for (char c : text.substr(0, arrow)) {
    if (c == ',')
      inputs.emplace_back();
    else
      inputs.back().push_back(c);
  }
  PE_CHECK(inputs.size() == operands.size(), Value, "einsum: '", equation, "' names ", inputs.size(), " operands, got ",
           operands.size());

  // An ellipsis becomes upper-case control letters, counted from the last dimension.
  int most = 0;
  auto expand_ellipsis = [&](std::string letters, int hidden) {
    const size_t at = letters.find("...");
    if (at == std::string::npos) return letters;
    std::string extra;
    for (int i = hidden; i > 0; --i) extra.push_back(char(i));
    return letters.replace(at, 3, extra);
  };
  std::vector<Term> terms;
  std::map<char, int64_t> sizes;
  std::map<char, int> uses;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool dots = inputs[i].find("...") != std::string::npos;
    const int hidden = dots ? operands[i].dim() - int(inputs[i].size()) + 3 : 0;
    most = std::max(most, hidden);
    const std::string letters = hidden >= 0 ? expand_ellipsis(inputs[i], hidden) : inputs[i];
    PE_CHECK(int(letters.size()) == operands[i].dim(), Shape, "einsum: '", inputs[i], "' does not fit operand ", i,
             " of shape ", operands[i].shape());
    for (char c : letters)
      PE_CHECK(c < 13 || std::isalpha(static_cast<unsigned char>(c)), Value, "einsum: invalid subscript '", c, "' in '",
               equation, "'");
    for (size_t d = 0; d < letters.size(); ++d) {
      int64_t& n = sizes.try_emplace(letters[d], 1).first->second;
      const int64_t here = operands[i].shape()[int(d)];
      PE_CHECK(n == here || n == 1 || here == 1, Shape, "einsum: subscript '", letters[d], "' has sizes ", n, " and ",
               here);
      if (n == 1) n = here;
      ++uses[letters[d]];
    }
    terms.push_back(without_repeats({operands[i], letters}));
  }
  std::string output;
  if (arrow != std::string::npos) {
    output = expand_ellipsis(text.substr(arrow + 2), most);
  } else {  // NumPy's implicit form: letters that appear once, in alphabetical order, after the ellipsis
    for (int i = most; i > 0; --i) output.push_back(char(i));
    for (const auto& [c, n] : uses)
      if (c >= 13 && n == 1) output.push_back(c);
  }
  for (size_t i = 0; i < output.size(); ++i) {
    PE_CHECK(sizes.count(output[i]), Value, "einsum: output subscript '", output[i], "' is in no operand of '",
             equation, "'");
    PE_CHECK(output.find(output[i], i + 1) == std::string::npos, Value, "einsum: output subscript '", output[i],
             "' appears twice");
  }

  Term result = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string keep = output;
    for (size_t j = i + 1; j < terms.size(); ++j) keep += terms[j].letters;
    result = contract(result, terms[i], keep, sizes);
  }
  return arrange(sum_out(result, output), output);
}

}  // namespace pe::ops
