"""A member's life as pure functions of a `Program`: begin, step, calibrate, predict.

A program is everything static: two members with the same program share one compilation, whatever
their seeds, ratios, rates and compression levels.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from rcm import config
from rcm.compress import Quantize, build_chain
from rcm.compress.base import Compressor
from rcm.compress.calibration import observe
from rcm.compress.distill import PROJECTION, hint_stage, make_projection
from rcm.data.augment import AUGMENTATIONS, to_float
from rcm.models import MODELS
from rcm.models.layers import FEATURES, exposed
from rcm.models.pretrained import filled
from rcm.train.losses import defers_weights
from rcm.train.optimizers import Optimizer, make_optimizer
from rcm.train.step import TrainState

PROJECTION_KEY = 1 << 30  # what a seed is folded with, far from the places of techniques


@dataclasses.dataclass(frozen=True)
class Program:
    """The static part of a population. Equal programs compile once.

    `techniques` is the chain, of which only `static` (their static parts) counts for equality.
    `model` and `teacher` are fields of `config.Model` as tuples; `image` is (H, W, 3).
    """

    model: tuple
    teacher: tuple | None
    classes: int
    image: tuple[int, int, int]
    batch: int
    optimizer: tuple  # kind, momentum, clip_norm, decay_norms
    augment: str
    static: tuple
    techniques: tuple = dataclasses.field(compare=False)
    distillation: str = "hinton"  # the kind, where there is a teacher
    deferred: bool = False  # class weights come in at a step of their own

    @property
    def precision(self) -> str:
        return config.Model(*self.model).precision


class Parts(NamedTuple):
    """What a program is made of, ready to call."""

    model: Any  # a module of rcm.models
    teacher: nn.Module | None
    chain: Compressor
    optimizer: Optimizer
    augment: Callable[[Array, Array], Array]
    distillation: str


def make_program(
    model: config.Model,
    teacher: config.Model | None,
    recipe: config.Train,
    techniques: tuple,
    classes: int,
    image: tuple[int, int, int],
    distillation: str = "hinton",
) -> Program:
    """The program of a member of this model, teacher, recipe, chain and kind of distillation.

    Raises ValueError for LDAM without a cosine classifier, of which it is the loss.
    """
    config.require(
        recipe.loss != "ldam" or model.classifier == "cosine",
        "The loss 'ldam' sets margins between cosines: set model.classifier to 'cosine'.",
    )
    return Program(
        model=dataclasses.astuple(model),
        teacher=dataclasses.astuple(teacher) if teacher else None,
        classes=classes,
        image=image,
        batch=recipe.batch,
        optimizer=_optimizer(recipe),
        augment=recipe.augment,
        static=tuple((type(t).__name__, t.static()) for t in techniques),
        techniques=techniques,
        distillation=distillation,
        deferred=defers_weights(recipe),
    )


def without_recipe(program: Program) -> Program:
    """The program as inference needs it: equal for members that differ in their recipes alone."""
    recipe = config.Train()
    parts = {"optimizer": _optimizer(recipe), "augment": recipe.augment}
    return dataclasses.replace(program, teacher=None, batch=0, **parts)


def _optimizer(recipe: config.Train) -> tuple:
    return recipe.optimizer, recipe.momentum, recipe.clip_norm, recipe.decay_norms


def complete(model: config.Model) -> config.Model:
    """The model, a width of 0 replaced by the published one and inputs by the usual ones.

    ValueError for an unknown name and for a network without a choice of inputs.
    """
    config.choose("model", model.name, MODELS)
    network, inputs = MODELS[model.name].func, model.inputs or "symmetric"
    config.require(
        inputs == "symmetric" or hasattr(network, "inputs"),
        f"model.inputs: {model.name} reads symmetric inputs only, not {inputs}.",
    )
    return dataclasses.replace(model, width=model.width or network.width, inputs=inputs)


def make_model(model: config.Model, classes: int) -> nn.Module:
    """The network that a `config.Model` names. Raises ValueError for an unknown name."""
    model = complete(model)
    constructor = MODELS[model.name]
    dtype = jnp.bfloat16 if model.precision == "bfloat16" else jnp.float32
    taken = {field.name for field in dataclasses.fields(constructor.func)}
    words = ("shortcut", "stem", "classifier", "inputs")
    extra = {name: getattr(model, name) for name in words if name in taken}
    return constructor(classes=classes, width=model.width, dtype=dtype, **extra)


@cache
def parts_of(program: Program) -> Parts:
    """The callable parts of a program."""
    teacher = config.Model(*program.teacher) if program.teacher else None
    model: Any = make_model(config.Model(*program.model), program.classes)
    return Parts(
        model=model,
        teacher=make_model(teacher, program.classes) if teacher else None,
        chain=build_chain(program.techniques, model),
        optimizer=make_optimizer(*program.optimizer),
        augment=AUGMENTATIONS[program.augment],
        distillation=program.distillation,
    )


def fresh(program: Program, seed: Array, levels: tuple, weights: Any = None) -> TrainState:
    """A newly initialised member; its chain starts on the initial weights.

    weights: arrays by `rcm.models.pretrained`'s names that replace initial ones, or None.
    """
    parts = parts_of(program)
    init_key, chain_key = jax.random.split(jax.random.key(seed))
    variables: Any = parts.model.init(init_key, jnp.zeros((1, *program.image)))
    variables = variables if weights is None else filled(variables, weights)
    compression = parts.chain.init(chain_key, variables, levels)
    variables = _with_projection(program, variables, seed)
    return TrainState(
        variables, parts.optimizer.init(variables["params"]), compression, jnp.bool_(True)
    )


def begin(
    program: Program,
    parent: TrainState,
    seed: Array,
    levels: tuple,
    calibration: Array | None,
    early: Any = None,
) -> TrainState:
    """The next stage of `parent`: techniques that it lacks start on what it has become.

    `levels` are those of the new techniques alone; `calibration` are uint8 images [n, H, W, 3] of
    the member's own training table, or None when nothing observes activations; `early` are
    variables that take the place of the parent's once the techniques have started, under the whole
    chain, or None. The optimizer starts anew.
    """
    parts = parts_of(program)
    old = len(parent.compression)
    variables = parent.variables
    if calibration is not None:
        variables = {**variables, "quant": calibrate(program, parent, calibration, levels)}
    seen = effective_variables(program, parent._replace(variables=variables))
    added = []
    for i, level in enumerate(levels):
        key = jax.random.fold_in(jax.random.key(seed), old + i)
        earlier, technique = program.techniques[: old + i], program.techniques[old + i]
        compressor = technique.build(earlier, parts.model)
        added.append(compressor.init(key, seen, level))
        seen = compressor.apply(seen, added[-1])
    compression = (*parent.compression, *added)
    if early is not None:
        variables = parts.chain.apply(early, compression)
    variables = _with_projection(program, variables, seed)
    return TrainState(
        variables, parts.optimizer.init(variables["params"]), compression, parent.alive
    )


def _with_projection(program: Program, variables: dict[str, Any], seed: Array) -> dict[str, Any]:
    """The variables with which a stage that learns a teacher's features begins."""
    if program.teacher is None or program.distillation != "features":
        return variables
    parts = parts_of(program)
    student, teacher = (stage_shapes(net, program.image) for net in (parts.model, parts.teacher))
    ours, theirs = hint_stage(student, teacher)
    key = jax.random.fold_in(jax.random.key(seed), PROJECTION_KEY)
    made = make_projection(key, ours.shape[-1], theirs.shape[-1])
    if made is None:
        return variables
    return {**variables, "params": {**variables["params"], PROJECTION: made}}


def stage_shapes(network: Any, image: tuple[int, int, int]) -> tuple[Any, ...]:
    """Shapes of what a network's stages put out for one image, without running it."""

    def look(images: Array) -> tuple[Array, ...]:
        variables = network.init(jax.random.key(0), images)
        return exposed(network.apply(variables, images, mutable=[FEATURES])[1])

    return jax.eval_shape(look, jax.ShapeDtypeStruct((1, *image), jnp.float32))


def settled(state: TrainState) -> TrainState:
    """What is kept of a finished member: neither its optimizer nor the projection that only its
    training needed."""
    params = {k: v for k, v in state.variables["params"].items() if k != PROJECTION}
    return state._replace(variables={**state.variables, "params": params}, optimizer=())


def calibrate(program: Program, parent: TrainState, images: Array, levels: tuple = ()) -> Any:
    """Ranges of every layer's input over `images`, as the collection `quant`.

    levels: of the techniques that `parent` lacks, of which the first that says how observes.
    """
    model = parts_of(program).model
    added = zip(program.techniques[len(parent.compression) :], levels, strict=bool(levels))
    observers = (t.observer(level, model) for t, level in added if isinstance(t, Quantize))
    range_of = next(observers, None)
    variables = effective_variables(program, parent)
    variables = {name: leaf for name, leaf in variables.items() if name != "quant"}
    if range_of is not None:
        return observe(model, variables, to_float(images), range_of)
    return model.apply(variables, to_float(images), mutable=["quant"])[1]["quant"]


def effective_variables(program: Program, state: TrainState) -> dict[str, Any]:
    """What the forward pass sees: the chain, as far as the state has come, applied."""
    techniques = program.techniques[: len(state.compression)]
    chain = build_chain(techniques, parts_of(program).model)
    return chain.apply(state.variables, state.compression)


def predict(program: Program, state: TrainState, images: Array) -> Array:
    """Logits float32 [B, classes] of uint8 images [B, H, W, 3], in inference mode."""
    logits: Any = parts_of(program).model.apply(
        effective_variables(program, state), to_float(images)
    )
    return logits
