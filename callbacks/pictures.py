"""Which epochs of a run are pictured? Every one of a short run, a hundred of a long one."""

from __future__ import annotations

import math

from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import TrainerFn

MOST_PICTURES = 100
"""How many pictures of one tag a run of known length puts into TensorBoard."""


def planned_epochs(trainer: Trainer) -> int | None:
    """How many epochs will the run have, as far as `max_epochs` and `max_steps` say? None where neither does."""
    plans = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        plans.append(trainer.max_epochs)
    if trainer.max_steps >= 0 and trainer.num_training_batches < math.inf:
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        plans.append(math.ceil(trainer.max_steps / max(1, steps)))
    return min(plans) if plans else None


def is_last(trainer: Trainer) -> bool:
    """Whether this epoch is the last: of those planned, or because something has asked the run to stop."""
    return trainer.should_stop or trainer.current_epoch + 1 == planned_epochs(trainer)


def is_pictured(trainer: Trainer, every_n_epochs: int = 1) -> bool:
    """Whether what is asked every so many epochs, and at the last, is drawn in this one.

    It depends on the epoch and on the planned length alone, so that a run that was interrupted and resumed shows the
    pictures of one that never stopped. The last epoch is always drawn, and so is everything outside of fit.
    """
    if trainer.state.fn != TrainerFn.FITTING or trainer.should_stop:
        return True
    epoch, epochs = trainer.current_epoch + 1, planned_epochs(trainer)
    if epoch % every_n_epochs and epoch != epochs:
        return False
    number = -(-epoch // every_n_epochs)
    return among_pictured(number, None if epochs is None else -(-epochs // every_n_epochs))


def among_pictured(number: int, of: int | None) -> bool:
    """Whether one occasion of many is pictured: at most `MOST_PICTURES` are, spread evenly, the last among them.

    Args:
        number: of the occasion, from 1.
        of: how many there will be; None where nobody knows. Then the first hundred are pictured, every second of the
            next hundred, every fourth of the next two hundred, and so on: about fifty more for each doubling.
    """
    if of is None:
        return number % (1 << ((number - 1) // MOST_PICTURES).bit_length()) == 0
    share = max(of, MOST_PICTURES)
    return number * MOST_PICTURES // share > (number - 1) * MOST_PICTURES // share
