"""Of which metrics less is better, and which are shares: the one place that knows."""

LESS = frozenset(  # words in the name of a metric
    "rmse mse error loss nll brier ece aurc risk fpr95 forgetting intransigence drift certificate attained seconds bytes".split()
    + "cost macs collapsed size".split()
)
SHARES = frozenset("accuracy auroc aupr fpr95 ece coverage disagreement".split())  # words in the name of one between 0 and 1
NONE = frozenset("ci95 difference gain gap negative seconds size steps width".split())  # ... of one that is none for all that


def share(metric: str) -> bool:
    """Whether the metric is a share, from 0 to 1."""
    words = metric.replace("/", "_").split("_")
    return not SHARES.isdisjoint(words) and NONE.isdisjoint(words)


def lower(metric: str) -> bool:
    """Whether less of the metric is better; what is called negative is turned round already."""
    words = metric.replace("/", "_").split("_")
    return "negative" not in words and not LESS.isdisjoint(words)
