"""On a CUDA device the loader gives the batches that it gives on the CPU."""

import pytest
import torch

from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("codec", ["lowrank", "topp"])
@pytest.mark.parametrize("changes", [{}, {"residency": "full"}, {"last": "pad"}, {"length_grouped": True}], ids=str)
def test_batches_equal_those_on_the_cpu(make_store, tmp_path, codec, changes):
    store = make_store(tmp_path / "a.kd", 150, codec=codec, part_rows=32, block_rows=8)
    config = LoaderConfig(
        **{"batch_rows": 16, "order": OrderConfig(1, streams=2, group_blocks=2), "residency": "window", **changes},
        embeddings=("mini",),
    )
    loaders = [Loader(store, config, torch.device(name)) for name in ("cpu", "cuda")]
    for _ in range(3):  # memory of earlier groups is used again meanwhile
        for one, other in zip(*loaders, strict=True):
            assert other.input_ids_BS.is_cuda
            assert one.positions_BP.tolist() == other.positions_BP.tolist()
            moved = other.to("cpu")
            for name in ("input_ids_BS", "attention_mask_BS", "labels_BT", "labels_L"):
                assert torch.equal(getattr(one, name), getattr(moved, name))
            for found, expected in ((moved.signal, one.signal), (moved.embeddings, one.embeddings)):
                assert all(torch.equal(found[key], expected[key]) for key in expected)
            signals = [loader.signal(batch, 2.0) for loader, batch in zip(loaders, (one, other), strict=True)]
            assert type(signals[0]) is type(signals[1])
