# cython: language_level=3
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


# Rough costs of CPython's objects, in bytes: the order of magnitude suffices to protect the host.
cdef enum:
    POINTER_COST = 8
    STRING_COST = 56
    LIST_COST = 72
    OBJECT_COST = 56
    DICT_COST = 200
    # Objects made by Python code cost time, about as much as copying this many bytes.
    CALL_COST = 400


cdef inline void set_item(tuple values, Py_ssize_t i, object value) noexcept:
    # Fills new tuples; the macro steals the reference.
    Py_INCREF(value)
    PyTuple_SET_ITEM(values, i, value)


cdef class Codec:
    cdef readonly object type
    cdef readonly uint32_t size
    cdef readonly uint8_t alignment
    cdef uint8_t reallocates               # storing a value runs the guest's realloc, which may move its memory
    cdef uint8_t lends                     # lifting a value may borrow from the guest
    cdef readonly tuple flat
    cdef uint32_t width                    # number of flat values
    cdef readonly uint32_t cost            # estimated bytes of a value on the host, without string and list content

    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int store(self, LiftLowerContext cx, object value, uint64_t pointer) except -1
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
    cdef list load_many(self, LiftLowerContext cx, uint8_t* place, uint32_t count)
    cdef int put_many(self, LiftLowerContext cx, tuple values, uint8_t* place) except -1


cdef wasmtime_val_raw_t* raw_values(object values, uint32_t width) except NULL
cdef str show(object value)
cdef class PointerLengthCodec(Codec):
    cdef object load_range(self, LiftLowerContext cx, uint32_t pointer, uint32_t length)
    cdef int store_range(self, LiftLowerContext cx, object value, uint32_t* pair) except -1
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int store(self, LiftLowerContext cx, object value, uint64_t pointer) except -1
