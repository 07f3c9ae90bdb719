"""Every method's net leaves as a plain one that answers alike, or the method says in a sentence why no one net does."""

import torch

from maskbench.backbones.batch_statistics import uses_batches
from maskbench.backbones.compact.smaller import compact, largest_difference
from maskbench.common.errors import UsageError
from maskbench.runs.plain import plain

NO_ONE_NET = {  # method -> why
    "supermask": "mean of 10 draws or nets",
    "mc_dropout": "mean of 2 draws or nets",
    "mc_dropout_ensemble": "draws or nets",
    "masksembles_ensemble": "draws or nets",
    "malach_neuron": "differs from the run's own answers",  # which are a net's times a number
}


def test_a_plain_net_answers_as_the_method_does_or_is_refused(calm) -> None:
    name, before = calm.cfg.method.name, calm.state
    refused = {}
    for stage in calm.stages:
        try:
            member = 0 if hasattr(calm.method, "member") else None
            one = plain(calm.method, stage, member=member, name=name)
        except UsageError as error:
            refused[stage.index] = str(error)
            continue
        with torch.no_grad():
            assert largest_difference(one.net(one.x), one.answers) <= one.tolerance
            if not uses_batches(one.net):
                assert largest_difference(compact(one.net, one.x).net(one.x), one.answers) <= one.tolerance
        assert all(not one.net.get_parameter(weight)[~mask].any() for weight, mask in one.masks.items())
    assert all(torch.equal(before[key], value) for key, value in calm.state.items())
    wanted = NO_ONE_NET.get(name, "answers episodes" if calm.cfg.task.name == "meta" else "")
    assert bool(wanted) == bool(refused) and all(wanted in text for text in refused.values()), refused
