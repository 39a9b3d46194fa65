"""Threads that work in step, inside compiled code."""

import sys

from ..compiled import external, inner, intrinsic, item_pointer, types


@intrinsic
def _atomic_add(typing_context, array, index, value):
    """array[index] += value, seen by all threads at once; the value before."""

    def generate(context, builder, signature, arguments):
        pointer = item_pointer(context, builder, signature, arguments)
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def _atomic_load(typing_context, array, index):
    """array[index] as the other threads see it."""

    def generate(context, builder, signature, arguments):
        pointer = item_pointer(context, builder, signature, arguments)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, types.intp), generate


_give_way = external("SwitchToThread" if sys.platform == "win32" else "sched_yield", "int32")
_SPINS = 4000
"""Looks at a barrier (some 10 microseconds) before the processor is offered to others."""
_ARRIVED, _ROUND = 0, 8
"""Places of a barrier's two counters, a cache line apart."""
BARRIER_SIZE = 16


@inner
def wait_for_all(barrier, threads):
    """Returns when all threads have called it.

    Args:
        barrier: (BARRIER_SIZE,) int64, zeros at first; the same for all.
        threads: Number of threads.
    """
    this_round = _atomic_load(barrier, _ROUND)
    if _atomic_add(barrier, _ARRIVED, 1) == threads - 1:
        _atomic_add(barrier, _ARRIVED, -threads)
        _atomic_add(barrier, _ROUND, 1)
        return
    spins = 0
    while _atomic_load(barrier, _ROUND) == this_round:
        spins += 1
        if spins > _SPINS:
            _give_way()


@inner
def portion(count, thread, threads):
    """A thread's portion of range(count).

    Args:
        count: Units of work.
        thread: Which of the threads, from 0.
        threads: Number of threads.

    Returns:
        (first, last); last is excluded.
    """
    return count * thread // threads, count * (thread + 1) // threads
