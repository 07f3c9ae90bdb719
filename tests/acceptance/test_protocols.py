"""One run read by every protocol (specification of the continual family, sections 7 and 9b): what fine-tuning keeps of a stage
that is named, and what of one that is not; what heads and masks lose without the stage."""

import pytest

pytestmark = pytest.mark.slow

PLAIN = ("data=splitmnist", "optimizer=adam", "backbone.init=torch")


def test_fine_tuning_keeps_much_of_a_stage_that_is_named_and_nothing_of_one_that_is_not(runs) -> None:
    """The loss sees all outputs: earlier classes are never answered again, though they are still told apart among themselves."""
    done = runs("method=finetune", "data.labels=kept", *PLAIN)
    assert all(0.6 <= value <= 0.85 for value in done.values("average_accuracy"))
    assert all(0.19 <= value <= 0.205 for value in done.values("average_accuracy_class_il"))
    assert all(value > 0.99 for value in done.values("forgetting_class_il"))
    assert all(value < 0.5 for value in done.values("forgetting"))
    assert done.values("average_accuracy_domain_il") == done.values("average_accuracy_inferred") == [None] * 3


def test_fine_tuning_of_shifted_labels_is_domain_il(runs) -> None:
    done = runs("method=finetune", *PLAIN)
    assert done.values("average_accuracy_class_il") == [None] * 3
    assert done.values("average_accuracy_domain_il") == done.values("average_accuracy")


def test_masks_lose_nothing_with_the_stage_and_much_without_it(runs) -> None:
    done = runs("method=piggyback", "data=splitmnist")
    assert set(done.values("forgetting")) == {0.0}
    for name in ("class_il", "inferred"):
        assert all(0.35 <= value <= 0.75 for value in done.values(f"average_accuracy_{name}"))
    assert all(value >= 0.9 for value in done.values("task_inference_accuracy/brute_force_H_128"))


def test_stages_learnt_alone_are_not_learnt_better(runs) -> None:
    """A net per stage gains nothing from the others: it is trained as if alone, up to the order of its data."""
    done = runs("method=separate", *PLAIN, "task.alone=true")
    assert all(abs(value) < 0.004 for value in done.values("transfer_gain"))
