"""A process of a test of shared batch normalisation: `python batch_norm_worker.py FOLDER`.

Takes its rank's part of the images in FOLDER/given.pt through each of the norms there, twice, and saves what comes out.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.training.batch_norm import keep_statistics_apart, share_statistics


def main(folder):
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    ranks.join()
    given = torch.load(folder / "given.pt", weights_only=True)
    parts = slice(None, given["split"]) if ranks.rank == 0 else slice(given["split"], None)
    found = []
    for settings in given["norms"]:
        norm = nn.BatchNorm2d(given["images"].shape[1], **settings).to(given["images"].dtype)
        network = nn.Sequential(norm)
        network.load_state_dict(given["state"], strict=False)
        share_statistics(network, torch.device("cpu"))
        images = given["images"][parts].requires_grad_()
        outputs = network(images), network(2 * images)
        sum((output * factor[parts]).sum() for output, factor in zip(outputs, given["factors"], strict=True)).backward()
        keep_statistics_apart(network)
        assert type(norm) is nn.BatchNorm2d
        gradients = [images.grad, *(parameter.grad for parameter in norm.parameters())]
        found.append({"outputs": outputs, "gradients": gradients, "state": network.state_dict()})
    torch.save(found, folder / f"found-{ranks.rank}.pt")
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main(Path(sys.argv[1]))
