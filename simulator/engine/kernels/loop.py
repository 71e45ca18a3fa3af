"""The loop that runs lists of row operations over bands of an image, and shares them among threads."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.dense import dense_conv, winograd
from simulator.engine.kernels.neurons import count_spikes, lif, window
from simulator.engine.kernels.numbers import add, requantise, store_row, time_sum
from simulator.engine.kernels.picture import pixels, readout
from simulator.engine.kernels.places import inline
from simulator.engine.kernels.points import point_conv
from simulator.engine.kernels.spikes import conv
from simulator.engine.records import (
    ADD,
    CONV,
    COUNT,
    COUNTERS,
    DENSE_CONV,
    FIELDS,
    LIF,
    OPERATION,
    PIXELS,
    POINT_CONV,
    READOUT,
    REQUANTISE,
    STORE,
    TASK,
    TIME_SUM,
    WINDOW,
    WINOGRAD,
)
from simulator.engine.vectors import add_atomic, claim, load_atomic, record_at, wait_a_moment, yield_processor

SHARES = 2  # per thread, that a task is cut into
MOST_SHARES = 63  # bits of a word
PATIENCE = 1000  # looks at a counter before the processor is offered to others


@inline
def _run(records: Any, task: Any, first: int, end: int) -> None:
    """Run a task's records over its rows first .. end - 1 and its columns, `block` of these at a time. Its first column
    is even, and so is the end unless it is the row's: 32 lanes are written at once.

    `height` rows (1, or 2 with `first` even) go through the records together: a convolution of spikes computes both at
    once if its blocks are two rows high, and one by Winograd's filtering always; the others take them one by one.
    """
    first_record = records.ctypes.data
    height, right, block = task[TASK.height], task[TASK.end_column], task[TASK.block]
    for top in range(first, end, height):
        for x in range(task[TASK.first_column], right, block):
            n = min(block, right - x)
            for i in range(task[TASK.first_record], task[TASK.end_record]):
                op = record_at(first_record + 8 * FIELDS * i)
                operation = op[OPERATION]
                if operation == CONV.operation and op[CONV.rows] == 2:
                    conv(op, top, x, n)
                    continue
                if operation == WINOGRAD.operation:
                    winograd(op, top, x, n)
                    continue
                for y in range(top, min(top + height, end)):
                    if operation == CONV.operation:
                        conv(op, y, x, n)
                    elif operation == POINT_CONV.operation:
                        point_conv(op, y, x, n)
                    elif operation == LIF.operation:
                        lif(op, y, x, n)
                    elif operation == WINDOW.operation:
                        window(op, y, x, n)
                    elif operation == ADD.operation:
                        add(op, y, x, n)
                    elif operation == STORE.operation:
                        store_row(op, y, x, n)
                    elif operation == DENSE_CONV.operation:
                        dense_conv(op, y, x, n)
                    elif operation == REQUANTISE.operation:
                        requantise(op, y, x, n)
                    elif operation == TIME_SUM.operation:
                        time_sum(op, y, x, n)
                    elif operation == COUNT.operation:
                        count_spikes(op, y, x, n)
                    elif operation == PIXELS.operation:
                        pixels(op, y, x, n)
                    elif operation == READOUT.operation:
                        readout(op, y, x, n)


@inline
def _wait_for(done: int, count: int) -> None:
    patience = PATIENCE
    while load_atomic(done) < count:
        wait_a_moment()
        patience -= 1
        if patience < 0:  # somebody else may need this processor
            yield_processor()


@inline
def _share(records: Any, tasks: Any, thread: int, threads: int, done: int, claimed: int, stay: bool) -> None:
    """Work on tasks together with other threads, until every share is claimed, or done if `stay`.

    A task is cut into shares, which are claimed once all shares of the tasks before it are done. A thread takes those
    of its own part of the rows first, for what it wrote in the last task is in its processor's cache, and then what
    others have not begun. One that waits holds no share, so one that gets no processor (or starts late, or never) holds
    nobody up. `done` is the address of the number of shares done, `claimed` of a word of bits for each task; all are 0
    at first.
    """
    first = 0  # shares of the tasks before
    for i in range(tasks.shape[0]):
        task = tasks[i]
        height, end_row = task[TASK.height], task[TASK.end_row]
        groups = (end_row - task[TASK.first_row] + height - 1) // height  # of rows that go together
        shares = min(groups, SHARES * threads, MOST_SHARES)
        if i > 0:
            _wait_for(done, first)
        own = thread * shares // threads
        for k in range(shares):
            share = (own + k) % shares
            if not claim(claimed + 8 * i, 1 << share):
                continue
            begin = task[TASK.first_row] + groups * share // shares * height
            end = min(task[TASK.first_row] + groups * (share + 1) // shares * height, end_row)
            _run(records, task, begin, end)
            add_atomic(done, 1)
        first += shares
    if stay:
        _wait_for(done, first)


def run_tasks(records: Any, tasks: Any, thread: int, threads: int, counters: int) -> None:
    """Run `tasks` (rows of `records.Task`) in order, thread 0 until all of it is done, others as long as there is
    something to begin.

    records: the thread's own (int64 [n, FIELDS]), alike but for the addresses of scratch memory. counters: address
    of COUNTERS int64 and one for each task, 0 at first, common to the threads.
    """
    if threads > 1:
        _share(records, tasks, thread, threads, counters, counters + 8 * COUNTERS, thread == 0)
        return
    for i in range(tasks.shape[0]):
        task = tasks[i]
        _run(records, task, task[TASK.first_row], task[TASK.end_row])
