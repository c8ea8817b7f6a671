"""Synapses: the forward current, the error sent back, and the local gradient.

All three work on the last two axes, rows × features, and broadcast over every axis in front (stacked layers, ensemble
members); the leading axes of rates and errors are those of W. Rows are samples, or samples of several time steps. A
new kind of synapse is one class with these methods and one line in `SYNAPSES`; a new feedback pathway likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from gle.given import positive, whole
from gle.showing import shown


class Feedback(Protocol):
    """The weights that carry errors down (B in Fig. 4), shaped as W. follows: what B learns from: "W", the steps that W
    takes, "noise", what noise on the rates below does to the rates above, or None where B is fixed (see `Plasticity`).
    """

    follows: str | None

    def allocate(self, W: Tensor) -> Tensor | None:
        """An empty B, or None where the pathway has no weights of its own."""

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        """The matrix whose transpose multiplies the error from above."""

    def gradient(self, seen: Tensor, B: Tensor) -> Tensor:
        """B goes along −this. seen: what it follows, shaped as B: ∂E/∂W; or −⟨r̂ ξᵀ⟩, with r̂ the high-passed rates
        above and ξ the noise on the rates below."""


class Transpose:
    """B = Wᵀ exactly: weight transport, as in the published runs (Eq. 17)."""

    follows: str | None = None

    def allocate(self, W: Tensor) -> None:
        return None

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        return W

    def gradient(self, seen: Tensor, B: Tensor) -> Tensor:
        raise ValueError("transposed feedback has no weights of its own that could learn")


class FixedRandom:
    """B random and fixed: feedback alignment."""

    follows: str | None = None

    def allocate(self, W: Tensor) -> Tensor:
        return torch.empty_like(W)

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        assert B is not None
        return B

    def gradient(self, seen: Tensor, B: Tensor) -> Tensor:
        raise ValueError("fixed feedback does not learn")


class KolenPollack(FixedRandom):
    """B starts at random and takes the same steps as W, whose local rule, error times rate, has all that it needs
    (Kolen & Pollack 1994; Akrout et al. 2019). Both forget where they began by `Plasticity(weight_decay=…)`, at the
    rate at which B then approaches Wᵀ."""

    follows: str | None = "W"

    def gradient(self, seen: Tensor, B: Tensor) -> Tensor:
        return seen


class Phaseless(FixedRandom):
    """B learns from noise alone, at any time and whatever W does: phaseless alignment (Max et al. 2024),
    ∂B = −⟨r̂ ξᵀ⟩ + decay · B. ξ is the noise that each neuron below adds to its rate (`gle.Noise("rate", …)`), r̂ what
    is left of the rate above once a running mean with the time constant tau is taken off. It settles at
    ⟨φ′⟩ W σ²/decay, times what the neurons pass on of the noise; with decay near σ² its size is that of W. It learns
    where `Plasticity(learn=(…, "B"))` names it, and is fixed else.

    Raises ValueError for a tau or a decay that is not positive.
    """

    follows: str | None = "noise"

    def __init__(self, tau: float = 1.0, decay: float = 1.0):
        self.tau, self.decay = (
            positive("tau of phaseless feedback", tau),
            positive("decay of phaseless feedback", decay),
        )

    def options(self) -> dict[str, Any]:
        """What it was made with."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return shown(self, *self.options())

    def gradient(self, seen: Tensor, B: Tensor) -> Tensor:
        return seen + self.decay * B


FEEDBACKS: dict[str, type[Feedback]] = {
    "transpose": Transpose,
    "fixed_random": FixedRandom,
    "kolen_pollack": KolenPollack,
    "phaseless": Phaseless,
}


def feedback_pathway(given: str | Feedback) -> Feedback:
    """The pathway called so, with its defaults, or itself. Raises ValueError for what is none."""
    if isinstance(given, str) and given in FEEDBACKS:
        return FEEDBACKS[given]()
    if isinstance(given, (str, type)) or not hasattr(given, "allocate"):
        raise ValueError(
            f"unknown feedback {given!r}; choose one of {', '.join(FEEDBACKS)}, or an object of gle.synapses"
        )
    return given


class Synapse(Protocol):
    feedback: Feedback

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Shapes of W and b of one layer, None for what these synapses have not. Raises ValueError for sizes that they
        cannot join."""

    def initial_bound(self, n_in: int) -> float:
        """Weights and biases start uniform between ± this."""

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        """W r + b."""

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        """Wᵀ e, or B e: the error that the layer below receives."""

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        """∂E/∂W, summed over rows."""

    def bias_gradient(self, e: Tensor, b: Tensor) -> Tensor:
        """∂E/∂b, shaped as b, summed over rows."""


class Linear:
    """Dense synapses. W: [..., out, in], b: [..., out], rates and errors: [..., rows, features]."""

    def __init__(self, feedback: str | Feedback = "transpose"):
        self.feedback = feedback_pathway(feedback)

    def __repr__(self) -> str:
        bare = (name for name, kind in FEEDBACKS.items() if type(self.feedback) is kind and not vars(self.feedback))
        return shown(self, feedback=next(bare, self.feedback))

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_out, n_in), (n_out,)

    def initial_bound(self, n_in: int) -> float:
        """√k with k = 1/fan-in (Table 1)."""
        return 1 / math.sqrt(n_in)

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        """W r + b (Eq. 6)."""
        current = torch.matmul(r, W.mT)
        return current if b is None else current + b.unsqueeze(-2)

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        """Wᵀ e (Eq. 17)."""
        return torch.matmul(e, self.feedback.weights(W, B))

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        """−e rᵀ (Eq. 21), summed over rows."""
        return -torch.matmul(e.mT, r)

    def bias_gradient(self, e: Tensor, b: Tensor) -> Tensor:
        """−e (Eq. 22), summed over rows."""
        return -e.sum(-2)


class _Shaped:
    """What is common to synapses with a shape of their own."""

    feedback: Feedback

    def __init__(self, feedback: str | Feedback = "transpose"):
        self.feedback = feedback_pathway(feedback)

    def options(self) -> dict[str, Any]:
        """What it was made with, but for the feedback."""
        return {k: v for k, v in vars(self).items() if k != "feedback"}

    def __repr__(self) -> str:
        return shown(self, *self.options())

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        return self.transposed(self.feedback.weights(W, B), e)

    def transposed(self, W: Tensor, e: Tensor) -> Tensor:
        """Wᵀ e."""
        raise NotImplementedError


class Identity(_Shaped):
    """The rate itself, without weights: sums and skips."""

    def shapes(self, n_in: int, n_out: int) -> tuple[None, None]:
        if n_in != n_out:
            raise ValueError(f"an identity joins as many neurons, not {n_in} and {n_out}")
        return None, None

    def initial_bound(self, n_in: int) -> float:
        return 0.0

    def current(self, W: Tensor | None, b: Tensor | None, r: Tensor) -> Tensor:
        return r

    def backproject(self, W: Tensor | None, B: Tensor | None, e: Tensor) -> Tensor:
        return e

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        raise ValueError("an identity has no weights that could learn")

    bias_gradient = Linear.bias_gradient


class Masked(Linear):
    """Dense synapses of which only those exist where the mask is not zero, [out, in]."""

    def __init__(self, mask: Tensor, feedback: str | Feedback = "transpose"):
        super().__init__(feedback)
        mask = torch.as_tensor(mask)
        if mask.ndim != 2:
            raise ValueError(f"a mask is [out, in], got shape {tuple(mask.shape)}")
        self.mask = mask != 0

    def options(self) -> dict[str, Any]:
        return {"mask": self.mask}

    def __repr__(self) -> str:
        return shown(self, mask=f"{int(self.mask.sum())} of {self.mask.numel()}")

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if tuple(self.mask.shape) != (n_out, n_in):
            raise ValueError(f"a mask of shape {tuple(self.mask.shape)} does not fit synapses [{n_out}, {n_in}]")
        return super().shapes(n_in, n_out)

    def initial_bound(self, n_in: int) -> float:
        """From the mean number of inputs that a neuron has."""
        return super().initial_bound(1) / max(float(self.mask.sum(-1).double().mean()), 1.0) ** 0.5

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        return super().current(W * self.mask.to(W), b, r)

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        return torch.matmul(e, self.feedback.weights(W, B) * self.mask.to(W))

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        W = super().gradient(e, r)
        return W * self.mask.to(W)


class Diagonal(_Shaped):
    """One synapse for each neuron, from the one at the same place: w ⊙ r with w [n]."""

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if n_in != n_out:
            raise ValueError(f"diagonal synapses join as many neurons, not {n_in} and {n_out}")
        return (n_out,), (n_out,)

    def initial_bound(self, n_in: int) -> float:
        return 1.0  # fan-in of one

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        current = r * W.unsqueeze(-2)
        return current if b is None else current + b.unsqueeze(-2)

    def transposed(self, W: Tensor, e: Tensor) -> Tensor:
        return e * W.unsqueeze(-2)

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        return -(e * r).sum(-2)

    bias_gradient = Linear.bias_gradient


class Positions(_Shaped):
    """A dense product over positions, the same for each feature: of rates [positions · features], position by position,
    W r with W [positions out, positions in]. Mixes tokens, where Linear over features does not see their order."""

    def __init__(self, positions: int, feedback: str | Feedback = "transpose"):
        super().__init__(feedback)
        self.positions = whole("positions", positions)

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        features = n_in // self.positions
        if n_in % self.positions or not features or n_out % features:
            raise ValueError(
                f"{self.positions} positions do not divide {n_in} inputs into features that also divide {n_out} outputs"
            )
        return (n_out // features, self.positions), (n_out // features,)

    def initial_bound(self, n_in: int) -> float:
        return 1 / math.sqrt(self.positions)

    def _apart(self, x: Tensor, positions: int) -> Tensor:
        return x.unflatten(-1, (positions, -1))  # [..., rows, positions, features]

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        current = torch.matmul(W.unsqueeze(-3), self._apart(r, self.positions))
        return (current if b is None else current + b[..., None, :, None]).flatten(-2)

    def transposed(self, W: Tensor, e: Tensor) -> Tensor:
        return torch.matmul(W.mT.unsqueeze(-3), self._apart(e, W.shape[-2])).flatten(-2)

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        pre = self._apart(r, self.positions)
        post = self._apart(e, e.shape[-1] // pre.shape[-1])
        return -torch.matmul(post, pre.mT).sum(-3)

    def bias_gradient(self, e: Tensor, b: Tensor) -> Tensor:
        return -self._apart(e, b.shape[-1]).sum((-1, -3))


class Tokens(_Shaped):
    """A dense product over features, the same at each position: rates [positions · features], W [features out, features
    in]."""

    def __init__(self, positions: int, feedback: str | Feedback = "transpose"):
        super().__init__(feedback)
        self.positions = whole("positions", positions)

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if n_in % self.positions or n_out % self.positions:
            raise ValueError(f"{self.positions} positions do not divide {n_in} inputs and {n_out} outputs")
        return (n_out // self.positions, n_in // self.positions), (n_out // self.positions,)

    def initial_bound(self, n_in: int) -> float:
        return 1 / math.sqrt(n_in // self.positions)

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.positions, -1))

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        current = self._product(r, W.mT)
        return (current if b is None else current + b[..., None, None, :]).flatten(-2)

    def transposed(self, W: Tensor, e: Tensor) -> Tensor:
        return self._product(e, W).flatten(-2)

    def _product(self, x: Tensor, W: Tensor) -> Tensor:
        """One for all positions of all rows."""
        x = self._apart(x)
        return torch.matmul(x.flatten(-3, -2), W).unflatten(-2, x.shape[-3:-1])

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        post, pre = (self._apart(x).flatten(-3, -2) for x in (e, r))  # positions are further rows
        return -torch.matmul(post.mT, pre)

    def bias_gradient(self, e: Tensor, b: Tensor) -> Tensor:
        return -self._apart(e).sum((-3, -2))


def two(name: str, given: Any, least: int = 1) -> tuple[int, int]:
    """A number for both, or two of them."""
    parts = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    if len(parts) != 2:
        raise ValueError(f"{name} must be one number or two, got {given!r}")
    return whole(name, parts[0], least), whole(name, parts[1], least)


class Conv2d(_Shaped):
    """Convolution. Rates are images [channels · height · width], flattened, or, with channels_last, [height · width ·
    channels].

    channels: of input and output. size: height and width of the input. kernel, stride, padding: as in torch, one number
    or two; average: a frozen average over each window in place of weights (then both channels must agree).

    Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        size: tuple[int, int],
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        average: bool = False,
        channels_last: bool = False,
        feedback: str | Feedback = "transpose",
    ):
        super().__init__(feedback)
        self.channels, self.size = two("channels", channels), two("size", size)
        self.kernel, self.stride = two("kernel", kernel), two("stride", stride)
        self.padding, self.average = two("padding", padding, 0), bool(average)
        self.channels_last = bool(channels_last)
        if self.average and self.channels[0] != self.channels[1]:
            raise ValueError(f"an average keeps the channels, got {self.channels[0]} and {self.channels[1]}")
        if min(self.size_out) < 1:
            raise ValueError(f"a kernel of {self.kernel} does not fit into {self.size} with padding {self.padding}")

    @property
    def size_out(self) -> tuple[int, int]:
        """Height and width of the output."""
        size = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((n + 2 * pad - k) // step + 1 for n, k, step, pad in size)
        return height, width

    @property
    def n_out(self) -> int:
        """Neurons that the target must have."""
        return self.channels[1] * math.prod(self.size_out)

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        expected = self.channels[0] * math.prod(self.size), self.n_out
        if (n_in, n_out) != expected:
            raise ValueError(
                f"this convolution joins {expected[0]} inputs to {expected[1]} outputs, not {n_in} to {n_out}"
            )
        return (None, None) if self.average else ((*self.channels[::-1], *self.kernel), (self.channels[1],))

    def initial_bound(self, n_in: int) -> float:
        return 1 / math.sqrt(self.channels[0] * math.prod(self.kernel))

    @property
    def _how(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding}

    def _weights(self, W: Tensor | None, like: Tensor) -> Tensor:
        """[..., out, in, height, width]; of an average, the same for every leading axis."""
        if W is not None:
            return W
        eye = torch.eye(self.channels[0], dtype=like.dtype, device=like.device)[..., None, None]
        weights = eye.expand(-1, -1, *self.kernel) / math.prod(self.kernel)
        return weights.expand(*like.shape[:-2], *weights.shape)

    @staticmethod
    def _over_leading(f: Callable[..., Tensor], W: Tensor, *others: Tensor) -> Tensor:
        """f for each of the leading axes, those in front of [rows, channels, height, width]; W's own are the last of
        them."""
        lead = others[0].shape[:-4]
        flat = [t.reshape(-1, *t.shape[len(lead) :]) for t in (W.expand(*lead, *W.shape[-4:]), *others)]
        made = torch.stack([f(*parts) for parts in zip(*flat, strict=True)])
        return made.reshape(*lead, *made.shape[1:])

    def _images(self, x: Tensor, channels: int, size: tuple[int, ...]) -> Tensor:
        return (
            x.unflatten(-1, (*size, channels)).movedim(-1, -3)
            if self.channels_last
            else x.unflatten(-1, (channels, *size))
        )

    def _flat(self, images: Tensor) -> Tensor:
        return (images.movedim(-3, -1) if self.channels_last else images).flatten(-3)

    def current(self, W: Tensor | None, b: Tensor | None, r: Tensor) -> Tensor:
        images = self._images(r, self.channels[0], self.size)
        made = self._over_leading(lambda w, x: F.conv2d(x, w, **self._how), self._weights(W, r), images)
        return self._flat(made if b is None else made + b[..., None, :, None, None])

    def backproject(self, W: Tensor | None, B: Tensor | None, e: Tensor) -> Tensor:
        weights = self._weights(W if W is None else self.feedback.weights(W, B), e)
        shape = (e.shape[-2], self.channels[0], *self.size)
        images = self._images(e, self.channels[1], self.size_out)
        return self._flat(self._over_leading(lambda w, x: conv2d_input(shape, w, x, **self._how), weights, images))

    def gradient(self, e: Tensor, r: Tensor) -> Tensor:
        if self.average:
            raise ValueError("an average has no weights that could learn")
        shape = (*self.channels[::-1], *self.kernel)
        post = self._images(e, self.channels[1], self.size_out)
        lead = len(post.shape[:-4])
        flat = [x.reshape(-1, *x.shape[lead:]) for x in (self._images(r, self.channels[0], self.size), post)]
        W = torch.stack([conv2d_weight(x, shape, y, **self._how) for x, y in zip(*flat, strict=True)])
        return -W.reshape(*post.shape[:lead], *shape)

    def bias_gradient(self, e: Tensor, b: Tensor) -> Tensor:
        return -self._images(e, self.channels[1], self.size_out).sum((-1, -2, -4))


SYNAPSES: dict[str, type[Synapse]] = {
    "linear": Linear,
    "identity": Identity,
    "diagonal": Diagonal,
    "masked": Masked,
    "positions": Positions,
    "tokens": Tokens,
    "conv2d": Conv2d,
}


def synapse(given: str | Synapse) -> Synapse:
    """The synapses called so, with their defaults, or themselves. Raises ValueError for what is none."""
    if given in ("linear", "identity", "diagonal"):
        return SYNAPSES[given]()
    if isinstance(given, (str, type)) or not hasattr(given, "backproject"):
        raise ValueError(
            "synapse must be one of linear, identity, diagonal, or an object like gle.synapses.Conv2d(…); got "
            f"{given!r}"
        )
    return given
