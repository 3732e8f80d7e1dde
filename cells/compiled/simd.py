"""Vectors of `LANES` numbers for Numba: a value of a compiled loop that lies in a register.

    total = fma(read(x, i), read(y, j), total)      # total[l] += x[i + l] * y[j + l]

Arrays are contiguous and of one dimension; indices count numbers, and nothing checks them. `read` and `write` take
all lanes; `read_part` and `write_part` the first few, for the end of what is not a multiple of `LANES` wide.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8


class Vector(types.Type):
    """Numba's type of a vector; `dtype` is that of a lane."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype}, {LANES})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        lane = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(lane, LANES))


@intrinsic
def read(typing, array, index):
    """array[index : index + LANES]."""

    def generate(context, builder, signature, arguments):
        pointer, bytes_ = _place(context, builder, signature, arguments)
        return builder.load(pointer, align=bytes_)

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def write(typing, array, index, vector):
    """array[index : index + LANES] = vector."""

    def generate(context, builder, signature, arguments):
        pointer, bytes_ = _place(context, builder, signature, arguments)
        builder.store(arguments[2], pointer, align=bytes_)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def read_part(typing, array, index, lanes):
    """The first `lanes` numbers from array[index] on, and zeros."""

    def generate(context, builder, signature, arguments):
        pointer, bytes_ = _place(context, builder, signature, arguments)
        mask, kind = _first_lanes(builder, arguments[2]), pointer.type.pointee
        types_ = [pointer.type, ir.IntType(32), mask.type, kind]
        function = _masked(builder, "load", kind, ir.FunctionType(kind, types_))
        return builder.call(function, [pointer, ir.IntType(32)(bytes_), mask, ir.Constant(kind, None)])

    return Vector(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def write_part(typing, array, index, vector, lanes):
    """array[index : index + lanes] = the first `lanes` of vector."""

    def generate(context, builder, signature, arguments):
        pointer, bytes_ = _place(context, builder, signature, arguments)
        mask, kind = _first_lanes(builder, arguments[3]), pointer.type.pointee
        types_ = [kind, pointer.type, ir.IntType(32), mask.type]
        function = _masked(builder, "store", kind, ir.FunctionType(ir.VoidType(), types_))
        builder.call(function, [arguments[2], pointer, ir.IntType(32)(bytes_), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate


@intrinsic
def splat(typing, array, index):
    """array[index] in all lanes."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _broadcast(builder, builder.load(builder.gep(data, [arguments[1]])))

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def fill(typing, number):
    """The number in all lanes."""

    def generate(context, builder, signature, arguments):
        return _broadcast(builder, arguments[0])

    return Vector(number)(number), generate


@intrinsic
def fma(typing, a, b, c):
    """a * b + c."""

    def generate(context, builder, signature, arguments):
        a, b, c = arguments
        return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    return a(a, a, a), generate


def _of_two(instruction):
    """An operation on two vectors of one type."""

    @intrinsic
    def operation(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return a(a, a), generate

    return operation


add, sub, mul = map(_of_two, ("fadd", "fsub", "fmul"))


@intrinsic
def clip(typing, x, low, high):
    """x between low and high; NaN stays NaN."""

    def generate(context, builder, signature, arguments):
        x, low, high = arguments
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return x(x, x, x), generate


@intrinsic
def where_inside(typing, x, low, high, value):
    """value where low < x < high, else zero."""

    def generate(context, builder, signature, arguments):
        x, low, high, value = arguments
        inside = builder.and_(builder.fcmp_ordered(">", x, low), builder.fcmp_ordered("<", x, high))
        return builder.select(inside, value, ir.Constant(value.type, None))

    return x(x, x, x, x), generate


@intrinsic
def where_equal(typing, a, b, value, otherwise):
    """value where a == b, else otherwise."""

    def generate(context, builder, signature, arguments):
        a, b, value, otherwise = arguments
        return builder.select(builder.fcmp_ordered("==", a, b), value, otherwise)

    return a(a, a, a, a), generate


def _place(context, builder, signature, arguments):
    """The pointer to array[index], as one to a vector, and the bytes of a number."""
    array = signature.args[0]
    pointer = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
    lane = context.get_value_type(array.dtype)
    return builder.bitcast(pointer, ir.VectorType(lane, LANES).as_pointer()), array.dtype.bitwidth // 8


def _broadcast(builder, scalar):
    vector = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _first_lanes(builder, lanes):
    numbers = ir.Constant(ir.VectorType(lanes.type, LANES), [lanes.type(lane) for lane in range(LANES)])
    return builder.icmp_unsigned("<", numbers, _broadcast(builder, lanes))


def _masked(builder, action, kind, function_type):
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    name = f"llvm.masked.{action}.v{LANES}f{bits}.p0"
    return cgutils.get_or_insert_function(builder.module, function_type, name)
