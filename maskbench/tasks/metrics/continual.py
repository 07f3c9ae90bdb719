"""Numbers from accuracy matrices. Undefined is None, never 0."""

from collections.abc import Sequence

from torch import Tensor

Matrix = Sequence[Sequence[float | None]]  # R[learnt so far, tested on], fractions


def average_accuracy(matrix: Matrix) -> float | None:
    """A_T = mean over stages j of R[T, j], T the last stage learnt."""
    return _mean(matrix[-1])


def accuracy_all_images(matrix: Matrix, sizes: Sequence[int]) -> float | None:
    """The same over images instead of stages: R[T, j] weighted by the images that stage j is tested on."""
    known = [(value, size) for value, size in zip(matrix[-1], sizes, strict=True) if value is not None]
    return sum(value * size for value, size in known) / sum(size for _, size in known) if known else None


def learning_accuracy(matrix: Matrix) -> float | None:
    """Mean over stages j of R[j, j]: each stage when it was just learnt. None where one of them is unknown.

    That of joint training minus that of a method is the method's intransigence.
    """
    diagonal = [row[j] for j, row in enumerate(matrix)]
    return None if None in diagonal else _mean(diagonal)


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
    return _mean_difference(matrix[last][:last], [matrix[j][j] for j in range(last)])


def forward_transfer(matrix: Matrix, start: Sequence[float | None]) -> float | None:
    """FWT = mean over j > 1 of R[j - 1, j] - b_j, b_j the untrained net's accuracy. None where either is undefined."""
    return _mean_difference([matrix[j - 1][j] for j in range(1, len(matrix))], start[1:])


def transfer_gain(matrix: Matrix, alone: Sequence[float | None]) -> float | None:
    """Mean over j > 1 of R[j, j] - S_j, S_j the accuracy of the same method that learns stage j alone. None where one of these is
    unknown."""
    diagonal = [row[j] for j, row in enumerate(matrix)]
    return None if None in diagonal else _mean_difference(diagonal[1:], alone[1:])


def summary(
    matrix: Matrix, sizes: Sequence[int], start: Sequence[float | None], alone: Sequence[float | None]
) -> dict[str, float | None]:
    """Every number above by its name, from one accuracy matrix."""
    return {
        "average_accuracy": average_accuracy(matrix),
        "accuracy_all_images": accuracy_all_images(matrix, sizes),
        "learning_accuracy": learning_accuracy(matrix),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": forward_transfer(matrix, start),
        "transfer_gain": transfer_gain(matrix, alone),
    }


def rmse(members: Tensor, y: Tensor, units: tuple[Tensor, Tensor] | None = None) -> float:
    """Root mean squared error of the mean over members, over all rows and values together, in the targets' own units.

    members: [members, n, values], or twice as many where variances follow the means; y: [n, values]. units: (mean,
    deviation), each [1, values], by which both were standardised.
    """
    error = members.double().mean(0)[..., : y.shape[-1]] - y.double()
    if units is not None:
        error = error * units[1].to(error)
    return error.square().mean().sqrt().item()


def _mean_difference(values: Sequence[float | None], less: Sequence[float | None]) -> float | None:
    pairs = zip(values, less, strict=True)
    return _mean([one - other for one, other in pairs if one is not None and other is not None])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
