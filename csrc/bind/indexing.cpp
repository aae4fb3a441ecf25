// x[key]: integers, slices, None, Ellipsis, bool masks and index tensors, with NumPy's meaning.
#include "bind/casters.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

struct Key {
  Tensor view;           // x after the integers, slices and Nones
  ops::Indices indices;  // for its dimensions; empty: no advanced indexing
};

bool is_advanced(PyObject* item) {
  return is_tensor(item) || PyList_Check(item) ||
         (PySequence_Check(item) && !PyTuple_Check(item) && !PySlice_Check(item) && !PyUnicode_Check(item));
}

Tensor as_index(PyObject* item) {
  Tensor t = is_tensor(item) ? ops::detach(unwrap(item)) : tensor_from(item);
  if (t.numel() == 0 && is_floating(t.dtype())) t = ops::to(t, DType::Int64);  // x[[]]
  PE_CHECK(!is_floating(t.dtype()), Index, "tensors used as indices must be of an integer or bool dtype, got ",
           dtype_name(t.dtype()));
  return t;
}

Key resolve(const Tensor& x, PyObject* key) {
  std::vector<PyObject*> items;
  if (PyTuple_Check(key))
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i) items.push_back(PyTuple_GET_ITEM(key, i));
  else
    items.push_back(key);

  std::vector<Tensor> advanced(items.size());
  int used = 0;
  bool ellipsis = false;
  for (size_t i = 0; i < items.size(); ++i) {
    PyObject* item = items[i];
    if (item == Py_Ellipsis) {
      PE_CHECK(!ellipsis, Index, "an index can only have a single ellipsis ('...')");
      ellipsis = true;
    } else if (is_advanced(item) &&
               !(is_tensor(item) && unwrap(item).dim() == 0 && is_integral(unwrap(item).dtype()))) {
      advanced[i] = as_index(item);
      used += advanced[i].dtype() == DType::Bool ? advanced[i].dim() : 1;
    } else if (item != Py_None && !PyBool_Check(item)) {
      ++used;
    }
  }
  PE_CHECK(used <= x.dim(), Index, "too many indices for a tensor of dimension ", x.dim());

  Key result{x, {}};
  int64_t d = 0;
  bool any_advanced = false;
  auto whole = [&](int64_t n) {
    for (int64_t i = 0; i < n; ++i) result.indices.emplace_back();
    d += n;
  };
  for (size_t i = 0; i < items.size(); ++i) {
    PyObject* item = items[i];
    Tensor& view = result.view;
    if (item == Py_Ellipsis) {
      whole(x.dim() - used);
    } else if (item == Py_None) {
      view = ops::unsqueeze(view, d);
      whole(1);
    } else if (PyBool_Check(item)) {  // a scalar mask: a new dimension of size 0 or 1
      view = ops::slice(ops::unsqueeze(view, d), d, 0, item == Py_True ? 1 : 0, 1);
      whole(1);
    } else if (PySlice_Check(item)) {
      Py_ssize_t start, stop, step;
      if (PySlice_Unpack(item, &start, &stop, &step) < 0) throw py::error_already_set();
      PE_CHECK(step > 0, Value, "slice step must be positive, got ", int64_t(step), "; use flip()");
      PySlice_AdjustIndices(Py_ssize_t(view.shape()[int(d)]), &start, &stop, step);
      if (!(start == 0 && step == 1 && stop == view.shape()[int(d)])) view = ops::slice(view, d, start, stop, step);
      whole(1);
    } else if (advanced[i].defined()) {
      const Tensor& index = advanced[i];
      if (index.dtype() == DType::Bool && index.dim() == 0) {
        view = ops::slice(ops::unsqueeze(view, d), d, 0, *index.data_as<bool>() ? 1 : 0, 1);
        whole(1);
      } else {
        any_advanced = true;
        result.indices.push_back(index);
        d += index.dtype() == DType::Bool ? index.dim() : 1;
      }
    } else if (PyIndex_Check(item)) {
      const Py_ssize_t n = PyNumber_AsSsize_t(item, PyExc_IndexError);
      if (n == -1 && PyErr_Occurred()) throw py::error_already_set();
      view = ops::select(view, d, n);
    } else {
      fail(ErrorKind::Type, "tensor indices must be integers, slices, None, Ellipsis, tensors or lists, not ",
           Py_TYPE(item)->tp_name);
    }
  }
  if (!any_advanced) result.indices.clear();
  return result;
}

}  // namespace

Tensor get_item(const Tensor& x, PyObject* key) {
  const Key k = resolve(x, key);
  if (!k.indices.empty()) return ops::index(k.view, k.indices);
  return k.view.same(x) ? ops::view_as_is(x) : k.view;
}

void set_item(const Tensor& x, PyObject* key, PyObject* value) {
  const Key k = resolve(x, key);
  Tensor v;
  Scalar scalar(0);
  if (is_tensor(value))
    v = unwrap(value);
  else if (to_scalar(value, scalar))
    v = ops::scalar_tensor(scalar, x.dtype());
  else
    v = tensor_from(value);
  // NumPy's leniency: leading dimensions of size 1 are dropped.
  while (v.dim() > k.view.dim() && k.indices.empty() && v.shape()[0] == 1) v = ops::squeeze(v, {0});
  if (k.indices.empty())
    ops::copy_(k.view, v);
  else
    ops::index_put_(k.view, k.indices, v, false);
}

}  // namespace pe::bind
