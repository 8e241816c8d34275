"""What a worker is told when it starts."""

from typing import Mapping, NamedTuple, Sequence

from .failures import Abort


class Output(NamedTuple):
    """A declared output, as `Context.output` finds it."""

    index: int


class Context:
    """A worker's deployment, input and configuration."""

    def __init__(
        self,
        deployment: str,
        topic: str,
        partition: int,
        outputs: Sequence[str],
        config: Mapping[str, str],
    ):
        self.deployment = deployment
        """The deployment's name."""
        self.topic = topic
        """The input topic."""
        self.partition = partition
        """The partition of it whose records this worker handles, counted from 0."""
        self.outputs = tuple(outputs)
        """The names of the declared outputs."""
        self.config = config
        """The deployment's configuration: texts by their names."""

    def output(self, name: str) -> Output:
        """The output of this name. When the deployment declares none, the worker does not start."""
        try:
            return Output(self.outputs.index(name))
        except ValueError:
            declared = ", ".join(f"`{output}`" for output in self.outputs) or "none"
            raise Abort(
                f"the deployment declares no output `{name}` (it declares {declared})"
            ) from None
