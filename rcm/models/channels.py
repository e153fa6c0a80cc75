"""Groups of channels that exist together: what filter pruning may take out, and `shrink` does.

Paths are those of modules, such as `stage1_block1/conv1`. A group's channels are the outputs of all
its `outputs` (convolutions, and norms that stand alone behind a sum) and the inputs of all its
`inputs`. A group of one producer can be pruned freely; a residual stream, to which every block of a
stage adds, only as a whole. A network's method `channels()` lists its groups; its field `sizes`
gives (name, channels) of those that differ from the family's rule.
"""

from typing import NamedTuple

Sizes = tuple[tuple[str, int], ...]


class Channels(NamedTuple):
    """stage: counted from 1, 0 is none (the stem); stream: a residual stream, else inner."""

    name: str
    stage: int
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    stream: bool = False


def block_name(stage: int, block: int) -> str:
    """Name of the module, both counted from 0."""
    return f"stage{stage + 1}_block{block + 1}"


def inner_channels(blocks: tuple[int, ...], convolutions: int) -> list[Channels]:
    """The channels between a block's convolutions conv1, conv2, ..., each read by the next.

    blocks: of each stage; convolutions: of each block.
    """
    return [
        Channels(f"{name}/conv{i}", stage + 1, (f"{name}/conv{i}",), (f"{name}/conv{i + 1}",))
        for stage, count in enumerate(blocks)
        for name in (block_name(stage, block) for block in range(count))
        for i in range(1, convolutions)
    ]


def residual_streams(
    blocks: tuple[int, ...], last: str, first: tuple[str, ...], joined: bool
) -> list[Channels]:
    """The streams of a network with projecting shortcuts (modules `project`), stem first.

    blocks: of each stage; last, first: a block's modules that add to the stream and that read it;
    joined: the first stage continues the stem's stream, without a projection.
    """
    names = [[block_name(s, b) for b in range(count)] for s, count in enumerate(blocks)]
    readers = [f"{names[0][0]}/{module}" for module in first]
    streams = (
        [] if joined else [Channels("stem", 0, ("stem",), (*readers, f"{names[0][0]}/project"))]
    )
    for stage, blocks_of_stage in enumerate(names):
        outputs = [f"{name}/{last}" for name in blocks_of_stage]
        inputs = [f"{name}/{module}" for name in blocks_of_stage[1:] for module in first]
        if stage == 0 and joined:
            outputs, inputs = ["stem", *outputs], [*readers, *inputs]
        else:
            outputs.append(f"{blocks_of_stage[0]}/project")
        if stage + 1 < len(names):
            following = names[stage + 1][0]
            inputs += [*(f"{following}/{module}" for module in first), f"{following}/project"]
        else:
            inputs.append("head")
        streams.append(
            Channels(f"stage{stage + 1}", stage + 1, tuple(outputs), tuple(inputs), True)
        )
    return streams
