"""A model together with its loss: one module, from a batch to the loss, which processes and checkpoints share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kdstore.codecs import Codec
from kdstore.errors import UsageError
from kdtrain.losses import LOSSES, EncoderLoss, SampleLoss
from kdtrain.losses.ce import CrossEntropy
from kdtrain.losses.fused import DistillationHead, LossOut, Targets
from kdtrain.models import seq2seq
from kdtrain.policy import Policy
from kdtrain.stream.batch import IGNORED, Batch


@dataclass(frozen=True)
class Step:
    """What the loss of a batch depends on beside the batch.

    ``coefficients`` multiply the sums of components; ``temperature`` is of divergences; ``codec`` reads the batch's
    signal; ``keys`` seed the samples of its first rows; ``token_weights_BT`` multiply the terms of label losses.
    """

    coefficients: Mapping[str, float]
    temperature: float = 1.0
    codec: Codec[Any] | None = None
    keys: Sequence[int] = ()
    token_weights_BT: Tensor | None = None


class Student(nn.Module):
    """A seq2seq model and the components of its loss.

    Parameters
    ----------
    model
        Its output layer becomes a `DistillationHead` of the same weights; ``losses``, the linear maps of encoder
        losses, are trained beside it and not published.
    components
        Names.
    embeddings
        The embedding column of each encoder loss: its name and width.
    policy
        Lets the model write; needed by a sample loss alone.
    settings
        Arguments of components' constructors, by name.

    Raises
    ------
    UnknownNameError
        No such component.
    UsageError
        A sample loss has no policy.
    CapabilityError
        The model does not end in one linear layer.
    """

    def __init__(
        self,
        model: seq2seq.Model,
        components: Sequence[str],
        embeddings: Mapping[str, tuple[str, int]],
        policy: Policy | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.policy, self.components = model, policy, tuple(components)
        self._columns = {name: column for name, (column, _) in embeddings.items()}
        kinds = {name: LOSSES.get(name) for name in components}
        width = seq2seq.linear_head(model).in_features
        encoders, plain = nn.ModuleDict(), {}
        for name, kind in kinds.items():
            given = (settings or {}).get(name, {})
            if issubclass(kind, EncoderLoss):
                encoders[name] = kind(width, embeddings[name][1], **given)
            else:
                plain[name] = kind(**given)
        self.losses = encoders
        self._sampled = {name: one for name, one in plain.items() if isinstance(one, SampleLoss)}
        if self._sampled and policy is None:
            raise UsageError(
                f"Expected a policy that lets the student write for {', '.join(self._sampled)}. Got none."
            )
        # Cross-entropy gives a sample's log-probability.
        scored = {"ce": CrossEntropy()} if self._sampled else {}
        model.set_output_embeddings(DistillationHead(seq2seq.linear_head(model), {**plain, **scored}))

    @property
    def head(self) -> DistillationHead:
        """The model's output layer."""
        head: DistillationHead = self.model.get_output_embeddings()
        return head

    def forward(self, batch: Batch, step: Step) -> LossOut:
        """The loss of a batch; sums over its tokens and rows, and their total weighted by the coefficients."""
        states = self._states(batch)
        outs = [self._at_tokens(batch, step, states.decoder_BTD)]
        # All of them, whatever they weigh now: under DDP every parameter has a part in every step.
        outs += [self._of_encoder(name, batch, step, states.encoder_BSD) for name in self.losses]
        outs += [self._written(name, batch, step, states.encoder_BSD) for name in self._sampled]
        total = torch.stack([out.total.float() for out in outs]).sum()
        return LossOut(total, {name: value for out in outs for name, value in out.components.items()})

    def steepness(self, batch: Batch, step: Step) -> dict[str, tuple[float | None, float | None]]:
        """Norm of the gradient of each component's part of the loss, by the decoder's and the encoder's output.

        None where the component does not look there. Nothing is left in the parameters' gradients.
        """
        states, found = self._states(batch), dict[str, tuple[float | None, float | None]]()
        for name, coefficient in step.coefficients.items():
            alone = replace(step, coefficients={name: coefficient})
            if name in self.losses:
                out = self._of_encoder(name, batch, alone, states.encoder_BSD)
            elif name in self._sampled:
                out = self._written(name, batch, alone, states.encoder_BSD)
            else:
                out = self._at_tokens(batch, alone, states.decoder_BTD)
            at = (states.decoder_BTD, states.encoder_BSD)
            if not out.total.requires_grad:  # samples as good as the greedy outputs
                found[name] = (None, 0.0)
                continue
            slopes = torch.autograd.grad(out.total, at, retain_graph=True, allow_unused=True)
            by_decoder, by_encoder = (None if slope is None else float(slope.float().norm()) for slope in slopes)
            found[name] = (by_decoder, by_encoder)
        return found

    def _states(self, batch: Batch) -> seq2seq.States:
        inputs = {"input_ids": batch.input_ids_BS, "attention_mask": batch.attention_mask_BS}
        return seq2seq.states(self.model, batch.labels_BT, **inputs)

    def _written(self, name: str, batch: Batch, step: Step, encoder_BSD: Tensor) -> LossOut:
        coefficient = step.coefficients.get(name)
        if not coefficient or not self.policy or not step.keys:
            return LossOut(encoder_BSD.new_zeros(()), {})
        sampled = self.policy.loss(self.model, batch, encoder_BSD, step.keys, self._sampled[name])
        return LossOut(coefficient * sampled.total, sampled.components)

    def _at_tokens(self, batch: Batch, step: Step, decoder_BTD: Tensor) -> LossOut:
        real_BT = batch.labels_BT != IGNORED
        weights_BT = step.token_weights_BT
        targets = Targets(
            labels_L=batch.labels_L,
            lengths_B=real_BT.sum(-1).tolist() if self.head.sequences else (),
            weights_L=None if weights_BT is None else weights_BT[real_BT],
            codec=step.codec,
            signal=batch.signal,
            temperature=step.temperature,
        )
        out: LossOut = self.head(decoder_BTD[real_BT], targets, step.coefficients)
        return out

    def _of_encoder(self, name: str, batch: Batch, step: Step, encoder_BSD: Tensor) -> LossOut:
        # Rows of padding have no reference. In float32, because half precision tells hardly any cosines apart.
        with torch.autocast(encoder_BSD.device.type, enabled=False):
            mask_BS1 = batch.attention_mask_BS[: batch.rows, :, None]
            pooled_BD = (encoder_BSD[: batch.rows].float() * mask_BS1).sum(1) / mask_BS1.sum(1)
            value = self.losses[name](pooled_BD, batch.embeddings[self._columns[name]][: batch.rows].float())
            return LossOut(step.coefficients.get(name, 0.0) * value, {name: value.detach()})
