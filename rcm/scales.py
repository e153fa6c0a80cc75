"""The sizes at which studies are run: a preview's short recipe, and any study in seconds."""

from rcm.config import Data, Study, Train


def fine_tuning(epochs: float, learning_rate: float = 0.01) -> Train:
    """From `learning_rate` down a cosine, without a warm-up."""
    return Train(epochs=epochs, learning_rate=learning_rate, schedule="cosine", warmup_epochs=0)


def short_recipes(
    steps: int, fine_tune_steps: int, learning_rate: float = 0.1
) -> tuple[Train, Train]:
    """A preview's training and, from a fifth of its rate, its fine-tuning."""
    train = Train(steps=steps, learning_rate=learning_rate, schedule="cosine", warmup_epochs=0.5)
    tune = Train(
        steps=fine_tune_steps,
        learning_rate=learning_rate / 5,
        schedule="cosine",
        warmup_epochs=0,
    )
    return train, tune


def in_seconds(study: Study, ratios: tuple[int, ...] = (1,)) -> Study:
    """`study`, changed to two seeds of a tiny network and a few steps on digits: for tests."""
    study.summary = "A tiny network on digits."
    study.preview = "A rehearsal in seconds: few seeds and fewer steps, so its numbers say nothing."
    study.seeds = 2
    study.data = Data(name="digits", ratios=ratios)
    study.model.name, study.model.width = "tiny", 8
    study.train.steps, study.fine_tune.steps = 8, 4
    for recipe in (study.train, study.fine_tune):
        recipe.batch, recipe.augment, recipe.warmup_epochs = 32, "crop", 0
    return study
