"""All tasks of an agent: what runs, what waits for its ResultAck, what is granted."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

from .._generated import agents_pb2 as agents
from .._generated import common_pb2 as common
from ..capability import Capability
from .credit import CreditLedger
from .execution import Outcome, Stopped, execute
from .keys import TaskKey
from .link import Limits, Link
from .task import Finished, RunningTask, Stop

log = logging.getLogger("parallax_sdk")

#: Results that may wait for their ResultAck; beyond it no credit is granted, so
#: that a server that never acknowledges cannot fill the memory.
MAX_UNACKED = 256
#: Ended tasks that a late Cancel still finds, to be answered `too_late`.
MAX_REMEMBERED = 4096


class Worker:
    """Outlives every stream. All methods are called on the event loop."""

    def __init__(
        self, agent_name: str, capabilities: Mapping[str, Capability], concurrency: int
    ) -> None:
        self.link = Link()
        self._agent_name = agent_name
        self._capabilities = capabilities
        self._credit = CreditLedger(concurrency)
        self._gates = _Gates(capabilities, concurrency)
        self._running: dict[TaskKey, RunningTask] = {}
        self._finished: dict[TaskKey, Finished] = {}
        self._ended: OrderedDict[TaskKey, None] = OrderedDict()
        self._jobs: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()

    @property
    def inflight(self) -> int:
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Nothing runs, and the server has every result."""
        return not self._running and not self._finished

    def hello_credit(self) -> int:
        return self._credit.restate(len(self._running), self._paused)

    def inventory(self) -> list[agents.InventoryItem]:
        """Every running task and every result without a ResultAck."""
        finished = [
            agents.InventoryItem(
                ref=item.frame.ref,
                state=agents.InventoryItem.STATE_FINISHED,
                last_up_seq=item.last_seq,
            )
            for item in self._finished.values()
        ]
        return [task.inventory() for task in self._running.values()] + finished

    def welcomed(
        self, inventory: list[agents.InventoryItem], verdicts: list[agents.Verdict], limits: Limits
    ) -> None:
        """Follows the verdicts, which are in the inventory's order."""
        self._credit.limit(limits.max_credit)
        judged = {TaskKey.of(verdict.ref): verdict for verdict in verdicts}
        for index, item in enumerate(inventory):
            key = TaskKey.of(item.ref)
            verdict = judged.get(key)
            if verdict is None and index < len(verdicts):
                verdict = verdicts[index]
            self._follow(key, verdict or agents.Verdict(), limits)
        self._grant()

    def task(self, task: agents.Task) -> None:
        self._credit.spend()
        key = TaskKey.of(task.ref)
        if key in self._running:
            self._accept(task.ref)
            return
        if key in self._finished:
            self._send_finished(key)
            return
        running = RunningTask(task, self.link)
        self._running[key] = running
        self._accept(task.ref)
        job = asyncio.ensure_future(self._run(running))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def acked(self, ref: common.TaskRef) -> None:
        if self._finished.pop(TaskKey.of(ref), None) is not None:
            self._grant()
            self._settled.set()

    def cancel(self, cancel: agents.Cancel) -> None:
        key = TaskKey.of(cancel.ref)
        running = self._running.get(key)
        if running is not None:
            running.stop(Stop.CANCEL)
        elif key in self._finished or key in self._ended:
            self._ack_cancel(cancel.ref, agents.CancelAck.OUTCOME_TOO_LATE)
        else:
            self._ack_cancel(cancel.ref, agents.CancelAck.OUTCOME_UNKNOWN)

    def input(self, message: agents.Input) -> None:
        self._with_running(message.ref, lambda task: task.push_input(message))

    def partial_credit(self, credit: agents.PartialCredit) -> None:
        self._with_running(credit.ref, lambda task: task.partials.credit(credit.bytes))

    def close_to_new_tasks(self) -> None:
        self._credit.close()

    def stop_all(self, reason: Stop) -> None:
        for task in tuple(self._running.values()):
            task.stop(reason)

    async def until_idle(self) -> None:
        while not self.idle:
            self._settled.clear()
            await self._settled.wait()

    async def until_stopped(self) -> None:
        """Waits until no handler runs."""
        while self._running:
            self._settled.clear()
            await self._settled.wait()

    @property
    def _paused(self) -> bool:
        return len(self._finished) >= MAX_UNACKED

    async def _run(self, task: RunningTask) -> None:
        capability = self._capabilities.get(task.wire.capability)
        outcome = await execute(task, capability, self._gates, self.link, self._agent_name)
        self._settle(task, outcome)

    def _settle(self, task: RunningTask, outcome: Outcome) -> None:
        del self._running[task.key]
        self._remember(task.key)
        self._settled.set()
        if task.stop_reason is Stop.FORGOTTEN:
            self._grant()
            return
        if isinstance(outcome, Stopped):
            self._settle_stopped(task)
            return
        if task.ack_owed:
            self._ack_cancel(task.ref, agents.CancelAck.OUTCOME_TOO_LATE)
        self._finished[task.key] = Finished(outcome, task.partials.last_seq)
        self._send_finished(task.key)

    def _settle_stopped(self, task: RunningTask) -> None:
        if self.link.is_live:
            self._ack_cancel(task.ref, agents.CancelAck.OUTCOME_STOPPED)
            self._grant()
            return
        # Nobody would hear the CancelAck, and the next inventory must not let
        # the task vanish without a word.
        frame = agents.TaskFailed(
            ref=task.ref, code="cancelled", message="the task was cancelled as asked"
        )
        self._finished[task.key] = Finished(frame, task.partials.last_seq)

    def _follow(self, key: TaskKey, verdict: agents.Verdict, limits: Limits) -> None:
        kind = verdict.WhichOneof("verdict")
        running = self._running.get(key)
        if running is not None:
            if kind == "cancel":
                running.stop(Stop.CANCEL)
            elif kind == "forget":
                running.stop(Stop.FORGOTTEN)
            else:
                running.partials.resume(verdict.keep.after_seq, limits.partial_window)
        elif key in self._finished:
            if kind in ("cancel", "forget"):
                del self._finished[key]
                self._settled.set()
            else:
                # `keep` here answers an inventory that was written before the end.
                self._send_finished(key)

    def _send_finished(self, key: TaskKey) -> None:
        if self.link.is_live:
            credit = self._credit.grant(len(self._running), self._paused)
            self.link.send(self._finished[key].to_up(credit))

    def _grant(self) -> None:
        """For slots that became free without a result to carry their credit."""
        if not self.link.is_live:
            return
        credit = self._credit.grant(len(self._running), self._paused)
        if credit:
            self.link.send(agents.AgentUp(credit=agents.Credit(n=credit)))

    def _accept(self, ref: common.TaskRef) -> None:
        self.link.send(agents.AgentUp(accepted=agents.TaskAccepted(ref=ref)))

    def _ack_cancel(self, ref: common.TaskRef, outcome: agents.CancelAck.Outcome) -> None:
        self.link.send(agents.AgentUp(cancel_ack=agents.CancelAck(ref=ref, outcome=outcome)))

    def _with_running(self, ref: common.TaskRef, act: Callable[[RunningTask], None]) -> None:
        """Frames for a task that has just ended cross its result on the way: nothing to do."""
        task = self._running.get(TaskKey.of(ref))
        if task is not None:
            act(task)

    def _remember(self, key: TaskKey) -> None:
        self._ended[key] = None
        if len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)


class _Gates:
    """The agent's own slots and those of each limited capability."""

    def __init__(self, capabilities: Mapping[str, Capability], concurrency: int) -> None:
        self._agent = asyncio.Semaphore(concurrency)
        self._own = {
            name: asyncio.Semaphore(capability.max_concurrency)
            for name, capability in capabilities.items()
            if capability.max_concurrency
        }

    def of(self, capability: str) -> tuple[asyncio.Semaphore, ...]:
        own = self._own.get(capability)
        return (self._agent,) if own is None else (own, self._agent)
