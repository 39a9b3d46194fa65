"""Threads that work in step, inside compiled code."""

import os
import platform
import sys

from ..compiled import external, inner, intrinsic, ir, item_pointer, types
from .addresses import data_address


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


@intrinsic
def _pause(typing_context):
    """Leaves a core's units to the other thread on it for a moment: says that this one waits."""

    def generate(context, builder, signature, arguments):
        name = {"x86_64": "llvm.x86.sse2.pause"}.get(platform.machine())
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic(name, fnty=kind), [])
        return context.get_dummy_value()

    return types.void(), generate


_SPINS = 5_000
"""Looks at a barrier (some 100 microseconds) before the thread sleeps. Threads that sleep sooner
are woken on one and the same core; those that never sleep hold up each other beside other work."""
_ARRIVED, _ROUND, _ASLEEP = 0, 8, 16
"""Places of a barrier's counters, a cache line apart."""
BARRIER_SIZE = 24

_FUTEX = 0
"""The number of Linux's system call for threads that wait for a change in memory."""
if sys.platform == "linux":
    _FUTEX = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine, 0)
_WAIT, _WAKE = 128, 129
"""What it does, for threads of one process."""

if _FUTEX:
    # A thread that only offers its processor to others, time and again, gets its next turn late:
    # beside other work, a step would take ten times as long.
    _system_call = external("syscall", "int64", *["int64"] * 7)

    @inner
    def _sleep(barrier, this_round):
        """Sleeps until the round has ended."""
        counter = data_address(barrier) + 8 * _ROUND
        _atomic_add(barrier, _ASLEEP, 1)
        _system_call(_FUTEX, counter, _WAIT, this_round & 0xFFFFFFFF, 0, 0, 0)
        _atomic_add(barrier, _ASLEEP, -1)

    @inner
    def _wake(barrier, threads):
        """Wakes those that sleep, once the round has ended."""
        if _atomic_load(barrier, _ASLEEP) > 0:
            _system_call(_FUTEX, data_address(barrier) + 8 * _ROUND, _WAKE, threads, 0, 0, 0)

else:
    _give_way = external("SwitchToThread" if sys.platform == "win32" else "sched_yield", "int32")

    @inner
    def _sleep(barrier, this_round):
        """Offers the processor to others."""
        _give_way()

    @inner
    def _wake(barrier, threads):
        """Nobody sleeps."""


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
        _wake(barrier, threads)
        return
    spins = 0
    while _atomic_load(barrier, _ROUND) == this_round:
        spins += 1
        if spins <= _SPINS:
            _pause()
        else:
            _sleep(barrier, this_round)


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
