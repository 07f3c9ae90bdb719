"""All masks of one net at once, each with a coefficient, and which of them is to grow for surer answers (SupSup, 2006.14769).

At W * sum_t alpha_t M_t the derivative of an uncertainty along alpha_t is <d uncertainty / d W_eff * W, M_t>, summed over
layers: one forward and one backward pass give the slopes of a group of images, and every mask costs one dot product.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from maskbench.backbones.per_stage import NormStatistics
from maskbench.masks.stores import MaskBank
from maskbench.training.stand_in import call

NUMBERS = 2**24  # of slopes that are held at a time (64 MB): a mask is unpacked once for all groups among them
Objective = Callable[[Tensor], Tensor]  # logits [images, outputs] -> uncertainty [images]


class Superposition:
    """The masks of a bank over the weights of a net.

    Args:
        net: whose weights `w`, by name, they are over.
        book: the masks.
        statistics: the norm statistics of each stage: the net answers with their mean over the stages superposed, which are
            those of no net that was trained.
    """

    def __init__(self, net: nn.Module, w: dict[str, Tensor], book: MaskBank, statistics: NormStatistics) -> None:
        self.net, self.w, self.book, self.statistics = net, w, book, statistics

    @torch.no_grad()
    def along(self, groups: Tensor, rows: Tensor, objective: Objective) -> Tensor:
        """d objective / d alpha at alpha = 1/k, mean over a group: [groups, images, ...] -> [groups, k].

        Args:
            groups: of images.
            rows: the k masks that are superposed for each group, places in the bank, [groups, k].
        """
        sets, which = rows.sort(1).values.unique(dim=0, return_inverse=True)  # groups with the same masks share a net
        at_once = max(1, NUMBERS // sum(w.numel() for w in self.w.values()))
        held = {name: w.new_empty(min(at_once, len(groups)), *w.shape) for name, w in self.w.items()}
        along = groups.new_empty(rows.shape)
        for some in which.argsort(stable=True).split(at_once):
            for place, grads in enumerate(self._grads(groups[some], sets, which[some], objective)):
                for name, w in self.w.items():
                    torch.mul(grads[name], w, out=held[name][place])
            wanted = rows[some].unique()
            dots = self.book.dot({name: slopes[: len(some)] for name, slopes in held.items()}, wanted)
            along[some] = dots.gather(1, torch.searchsorted(wanted, rows[some]))
        return along

    def _grads(self, groups: Tensor, sets: Tensor, which: Tensor, objective: Objective) -> Iterator[dict[str, Tensor]]:
        """`grads` of each group under the masks `sets[which]`; groups with the same ones stand together."""
        made, weights, norms = -1, {}, {}
        for images, number in zip(groups, which.tolist(), strict=True):
            if number != made:
                made, weights = number, self.weights(self.book.mean(sets[number]))
                norms = self.statistics.mean(self.book.store["stages"][sets[number]].tolist())
            yield self.grads(weights, images, objective, norms)

    def weights(self, mean: dict[str, Tensor]) -> dict[str, Tensor]:
        """W times the mean of masks: alpha = 1/k."""
        return {name: (w * mean[name]).requires_grad_() for name, w in self.w.items()}

    def grads(
        self, weights: dict[str, Tensor], images: Tensor, objective: Objective, norms: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """d objective / d W_eff, mean over images, for every weight: W times it is what masks are multiplied with."""
        with torch.enable_grad():
            uncertainty = objective(call(self.net, weights | norms, images)).mean()
            return dict(zip(weights, torch.autograd.grad(uncertainty, list(weights.values())), strict=True))
