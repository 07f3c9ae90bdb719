"""Of which metrics less is better: the one place that knows."""

LESS = frozenset(  # words in the name of a metric
    "rmse mse error loss nll brier ece aurc risk fpr95 forgetting intransigence drift certificate attained seconds bytes".split()
    + "cost macs collapsed size".split()
)


def lower(metric: str) -> bool:
    """Whether less of the metric is better; what is called negative is turned round already."""
    words = metric.replace("/", "_").split("_")
    return "negative" not in words and not LESS.isdisjoint(words)
