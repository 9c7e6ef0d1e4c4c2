"""Where each number lives in the scoreboard, to the byte, and why a reader may trust it.

The board is one anonymous shared mapping made before any fork. Every cell is an IEEE 754
double in native order on an 8-byte boundary, at ``8 * index``:

    master row      MASTER_CELLS cells               written by the master
    listener table  LISTENER_CELLS cells a listener  written by the master
    exporter row    EXPORTER_CELLS cells             written by whoever exports
    directory       DIRECTORY_CELLS cells a slot     written by the master
    -- next page --
    slot rows       SLOT_CELLS cells (1 page) each   written by that slot's worker
    thread rows     THREAD_CELLS cells (2 pages)     row of (slot, index) is number
                                                     slot * threads + index; written by
                                                     that one pool thread

One type for all cells keeps one view and one index arithmetic; counts are exact in a double
up to 2**53. Rows are whole pages and the kernel gives a page only when it is touched, so
capacity nobody uses costs address space alone. A read touches too (a shared mapping has no
common zero page), hence the directory: it tells a reader which rows were ever in use.

Tearing. A cell is stored by one aligned 8-byte copy, so it holds the old number or the new
one, also when its writer is killed. Time integrals (busy, saturated) change state and total
in that one store:

    cell >= 0   idle; the cell is the finished seconds
    cell <  0   running since t; the cell is finished - t, so ``cell + now`` is the integral

``t`` is CLOCK_MONOTONIC: nothing on the board can have been busy for as long as the machine
is up, so a running cell is always negative. A request's count is the histogram bucket it
falls in, kept per (method, code): requests_total and the histogram are sums over the same
cells and cannot disagree. For the rest a thread row has a sequence cell, odd while the row
is being written; a reader copies the row and retries when the cell was odd or has moved.
(CPython offers no store fence; on a weakly ordered machine a copy may therefore mix two
neighbouring states of a row for some nanoseconds. Every single cell is still true.)

Indices and sizes only: no code that reads or writes, no clock, no import beside labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from gthreadsrv_metrics import labels

if TYPE_CHECKING:
    Cells: TypeAlias = memoryview[float]  # subscriptable at run time from 3.14 only

CELL_BYTES: Final = 8
PAGE_CELLS: Final = 512  # 4 KiB; on larger pages rows share one, which costs memory only

# Master row. Counter groups take one cell per label value, in the order of labels.py.
M_START_TIME: Final = 0  # unix seconds
M_HEARTBEAT: Final = 1  # monotonic seconds; 0: the master has not beaten yet
M_SHUTTING_DOWN: Final = 2  # 0 or 1
M_TARGET_WORKERS: Final = 3
M_SHARED_QUEUES: Final = 4  # 1 while another master accepts from the same listeners
M_CONFIG: Final = 5  # seven cells, in the order of CONFIG_FIELDS
CONFIG_FIELDS: Final = (
    "workers", "threads", "worker_connections", "backlog", "keepalive_seconds", "timeout_seconds",
    "max_workers",
)  # fmt: skip
M_RELOAD_SUCCESS: Final = M_CONFIG + len(CONFIG_FIELDS)  # unix seconds; 0: never
M_RELOADS: Final = M_RELOAD_SUCCESS + 1
M_SCALES: Final = M_RELOADS + len(labels.RELOAD_RESULTS)
M_SCALE_REFUSALS: Final = M_SCALES + len(labels.SCALE_DIRECTIONS)
M_SPAWNS: Final = M_SCALE_REFUSALS + len(labels.SCALE_REFUSALS)
M_EXITS: Final = M_SPAWNS + len(labels.SPAWN_REASONS)
M_BOOT: Final = M_EXITS + len(labels.EXIT_REASONS)  # histogram: sum, then buckets
MASTER_CELLS: Final = M_BOOT + 1 + len(labels.BOOT_BOUNDS) + 1

# Listener table.
L_BACKLOG_LIMIT: Final = 0  # 0: unknown
LISTENER_CELLS: Final = 1

# Exporter row: its error counts, in the order of SCRAPE_SOURCES, here to outlive it.
EXPORTER_CELLS: Final = len(labels.SCRAPE_SOURCES)

# Directory: what the master knows of a slot. 16 cells are two cache lines.
D_STATE: Final = 0  # index into labels.STATES
D_PID: Final = 1
D_GENERATION: Final = 2
D_START_TIME: Final = 3  # unix seconds
D_LEASED_AT: Final = 4  # monotonic seconds
D_THREADS: Final = 5  # of this lease
D_THREADS_EVER: Final = 6  # the most any lease had: rows a reader must add up
D_BUSY_AT_LEASE: Final = 7  # busy integral of the slot when the lease began
D_CPU: Final = 8  # user, system seconds of reaped processes
DIRECTORY_CELLS: Final = 16

# Slot row: what a worker tells about itself as a whole.
S_HEARTBEAT: Final = 0  # monotonic seconds; 0: none in this lease
S_SATURATED: Final = 1  # time integral
S_INTERPRETER_WAIT: Final = 2
S_GC_PAUSE: Final = 3
S_GC_COLLECTIONS: Final = 4
S_CONNECTIONS: Final = S_GC_COLLECTIONS + len(labels.GC_GENERATIONS)
S_RUNQUEUE_WAIT: Final = S_CONNECTIONS + len(labels.CONNECTION_STATES)
S_REQUEST_CPU: Final = S_RUNQUEUE_WAIT + 1
S_CPU: Final = S_REQUEST_CPU + 1  # user, system seconds of all leases, at the last heartbeat
S_KERNEL_TIMES: Final = S_CPU + len(labels.CPU_MODES)  # 1 once the kernel gave run-queue times
S_SAMPLES: Final = 64  # ring of (monotonic seconds, busy integral)
SAMPLE_COUNT: Final = 24
SAMPLE_PERIOD_S: Final = 1.0  # 24 samples a second apart: always more than 15 s of history
SLOT_CELLS: Final = PAGE_CELLS

# Thread row. What every request writes comes first and close together.
T_SEQUENCE: Final = 0  # odd while finish() writes
T_BUSY: Final = 1  # time integral
T_SINCE: Final = 2  # start of the running request; meaningful while T_BUSY is running
T_NATIVE_ID: Final = 3
T_BODY_IN: Final = 4
T_BODY_OUT: Final = 5
T_BLOCKS: Final = 6  # how many request blocks are claimed
T_EXEMPLARS: Final = 7  # 1 once an exemplar was written
T_ACCEPTED: Final = 8
T_CLOSED: Final = 9
T_ERRORS: Final = T_CLOSED + len(labels.CLOSE_REASONS)
T_TIMEOUTS: Final = T_ERRORS + len(labels.ERROR_REASONS)
# Histograms: sum, then one cell per bound and one for +Inf (not cumulative).
DURATION_CELLS: Final = 1 + len(labels.DURATION_BOUNDS) + 1
QUEUE_CELLS: Final = 1 + len(labels.QUEUE_BOUNDS) + 1
T_APPLICATION: Final = T_TIMEOUTS + len(labels.TIMEOUT_ACTIONS)
T_QUEUE_KERNEL: Final = T_APPLICATION + DURATION_CELLS
T_QUEUE_USER: Final = T_QUEUE_KERNEL + QUEUE_CELLS
T_QUEUE_PROXY: Final = T_QUEUE_USER + QUEUE_CELLS
T_REQUESTS: Final = T_QUEUE_PROXY + QUEUE_CELLS  # request blocks
# A block: its key (1000 * method + code, +1 so that 0 is free), then a duration histogram.
BLOCK_CELLS: Final = 1 + DURATION_CELLS
# 44 pairs of method and code in one thread, then one block per class for all others.
PAIR_BLOCKS: Final = 44
MAX_BLOCKS: Final = PAIR_BLOCKS + len(labels.CODE_CLASSES)
# The last exemplar per duration bucket: class, duration, monotonic seconds (0: none),
# and the trace id as 32 ASCII bytes.
T_EXEMPLAR: Final = T_REQUESTS + MAX_BLOCKS * BLOCK_CELLS
X_CLASS: Final = 0
X_DURATION: Final = 1
X_AT: Final = 2
X_TRACE: Final = 3
TRACE_BYTES: Final = 32
EXEMPLAR_CELLS: Final = 3 + TRACE_BYTES // CELL_BYTES
THREAD_USED: Final = T_EXEMPLAR + (len(labels.DURATION_BOUNDS) + 1) * EXEMPLAR_CELLS
THREAD_CELLS: Final = 2 * PAGE_CELLS
