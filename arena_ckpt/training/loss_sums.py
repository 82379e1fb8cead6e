"""Losses of an epoch, added up batch by batch, and the means that are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arena_ckpt.data.samples import Rows, Samples

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over the terms of the batches that were trained.

    Attributes
    ----------
    total : float
        Of the loss; where there are several, of the penalties of regularization.
    by_loss : tuple of float
        Of each of several losses, without its weight; empty for one.
    """

    total: float = 0.0
    by_loss: tuple[float, ...] = ()

    def plus(
        self, session: Session, samples: Samples, rows: Rows, loss: float
    ) -> LossSums:
        """Return the sums with those of the batch that `session` has just trained."""
        heads = session.heads
        if not heads.are_several:
            return LossSums(self.total + loss * samples.n_terms(rows))
        penalty, found = session.penalty_and_losses()
        before = self.by_loss or (0.0,) * len(found)
        return LossSums(
            self.total + penalty * samples.n_terms(rows),
            tuple(
                summed + one * terms
                for summed, one, terms in zip(
                    before, found, terms_of(session, samples, rows), strict=True
                )
            ),
        )

    def means(
        self, session: Session, n_terms: float, by_loss: tuple[float, ...]
    ) -> tuple[float, dict[str, float]]:
        """Return the mean of the loss, and of each of several losses by name.

        Parameters
        ----------
        session : Session
        n_terms : float
            What the sum of the loss is divided by in its mean; of several, samples.
        by_loss : tuple of float
            What that of each of several losses is divided by.
        """
        total = self.total / (n_terms or 1)
        if not self.by_loss:
            return total, {}
        found = [
            one / (terms or 1) for one, terms in zip(self.by_loss, by_loss, strict=True)
        ]
        heads = session.heads
        return heads.total(total, found), heads.by_name(found)


def terms_of(
    session: Session, samples: Samples, rows: Rows = None
) -> tuple[float, ...]:
    """Return what the sums of several losses are divided by; empty for one."""
    heads = session.heads
    if not heads.are_several:
        return ()
    return tuple(head.samples(samples).n_terms(rows) for head in heads.all)
