"""DiffusionNFT: reinforcement on the forward process, the alternative to the policy gradient (Zheng et al. 2025).

No probabilities, no stochastic steps to remember: a drawn picture is noised again, and the model is drawn towards what
it predicts there as far as the picture was good and away from it as far as it was bad, beside the policy that drew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charforge.adapter.lora import with_values
from charforge.families.protocol import UnifiedModel
from charforge.settings import GrpoSettings
from charforge.train.noised import Noised
from charforge.train.team import ALONE, Team


def optimality(gains: Tensor) -> Tensor:
    """Advantages (rows,) -> how good a picture is in [0, 1], 0.5 for the mean of its group."""
    return 0.5 + 0.5 * gains.clamp(-1, 1)


def negative_aware_loss(
    predicted: Tensor, old: Tensor, x_t: Tensor, x0: Tensor, t: Tensor, good: Tensor, beta: float
) -> Tensor:
    """Loss of each row (rows,): ``good`` of the implicit positive policy's error, the rest of the negative one's.

    v+ = (1 - beta) v_old + beta v, v- = (1 + beta) v_old - beta v. Errors are those of the predicted picture
    x_t - t v, each divided by its own mean absolute value as in the paper (section 3.3). All (rows, n, values) but
    t, good (rows,).
    """
    time = t[:, None, None]

    def error(of: Tensor) -> Tensor:
        off = (x_t - time * of) - x0
        scale = off.detach().abs().mean(dim=(1, 2)).clamp(min=1e-5)
        return off.pow(2).mean(dim=(1, 2)) / scale

    positive = error((1 - beta) * old + beta * predicted)
    negative = error((1 + beta) * old - beta * predicted)
    return good * positive + (1 - good) * negative


def forward_process_gradient(
    model: UnifiedModel, noised: Noised, gains: Tensor, settings: GrpoSettings, parameters: dict[str, nn.Parameter],
    old: dict[str, Tensor], size: int, team: Team = ALONE,
) -> None:  # fmt: skip
    """Backward through the loss of the ``noised`` pictures, ``size`` at a time; ``gains`` (pictures,) are the
    advantages of all pictures that :attr:`Noised.rows` count. Of a ``team`` each process computes its part."""
    good = optimality(gains)
    for piece in noised.pieces(model, size, team):
        denoiser = piece.denoiser(model)
        with torch.no_grad(), with_values(parameters, old):
            before = denoiser.velocity(piece.x_t, piece.times)
        predicted = denoiser.velocity(piece.x_t, piece.times)
        own = good[piece.rows].to(model.device)
        losses = negative_aware_loss(predicted, before, piece.x_t, piece.x0, piece.times, own, settings.nft_beta)
        (losses.sum() / len(noised.rows)).backward()
        # with its graph go the inputs that products of bitsandbytes hold on to, also after a backward pass
        del predicted, losses


@torch.no_grad()
def move_old_policy(old: dict[str, Tensor], parameters: dict[str, nn.Parameter], decay: float) -> None:
    """The policy that draws follows the learned one: old = decay old + (1 - decay) new."""
    for name, parameter in parameters.items():
        old[name].lerp_(parameter.detach(), 1 - decay)
