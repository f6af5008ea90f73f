"""What is predicted: one task per file, found by its file name.

A task turns a raw record into an `Example`: the prompt that the models read and the target that they write.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from kdstore.registry import Registry
from kdstore.schema import Example, Record


class Task(ABC):
    """Base of the tasks; one instance per task is registered.

    ``template`` is the prompt's format string, kept in a store's provenance. ``text_columns`` names the entries
    of `Example.texts` that a store keeps; ``target_column`` is the one that holds the target. ``losses`` and
    ``metrics`` are the defaults for training and evaluation.
    """

    name: ClassVar[str]
    template: ClassVar[str]
    text_columns: ClassVar[tuple[str, ...]]
    target_column: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def example(self, record: Record) -> Example:
        """Turn one record into an example with a text for each of ``text_columns``.

        Raises
        ------
        RowError
            The record lacks something, or holds it in the wrong type.
        """


TASKS: Registry[Task] = Registry("task", "kdstore.tasks")
