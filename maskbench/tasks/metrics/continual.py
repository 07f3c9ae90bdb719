"""Numbers from accuracy matrices. Undefined is None, never 0."""

from collections.abc import Sequence

from torch import Tensor

Matrix = Sequence[Sequence[float | None]]  # R[learnt so far, tested on], fractions


def average_accuracy(matrix: Matrix) -> float | None:
    """A_T = mean over stages j of R[T, j], T the last stage learnt."""
    return _mean(matrix[-1])


def forgetting(matrix: Matrix) -> float | None:
    """F = mean over j < T of (max over i < T of R[i, j]) - R[T, j]: from the best it ever was. None for one stage."""
    last = len(matrix) - 1
    drops = []
    for j in range(last):
        before = [matrix[i][j] for i in range(last) if matrix[i][j] is not None]
        if before and matrix[last][j] is not None:
            drops.append(max(before) - matrix[last][j])
    return _mean(drops)


def backward_transfer(matrix: Matrix) -> float | None:
    """BWT = mean over j < T of R[T, j] - R[j, j]. None for one stage."""
    last = len(matrix) - 1
    pairs = [(matrix[last][j], matrix[j][j]) for j in range(last)]
    return _mean([end - own for end, own in pairs if end is not None and own is not None])


def forward_transfer(matrix: Matrix, start: Sequence[float | None]) -> float | None:
    """FWT = mean over j > 1 of R[j - 1, j] - b_j, b_j the untrained net's accuracy. None where either is undefined."""
    pairs = [(matrix[j - 1][j], start[j]) for j in range(1, len(matrix))]
    return _mean([before - none for before, none in pairs if before is not None and none is not None])


def rmse(members: Tensor, y: Tensor, units: tuple[Tensor, Tensor] | None = None) -> float:
    """Root mean squared error of the mean over members, over all rows and values together, in the targets' own units.

    members: [members, n, values], or twice as many where variances follow the means; y: [n, values]. units: (mean,
    deviation), each [1, values], by which both were standardised.
    """
    error = members.double().mean(0)[..., : y.shape[-1]] - y.double()
    if units is not None:
        error = error * units[1].to(error)
    return error.square().mean().sqrt().item()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
