"""Plasticity (Postulate 4, Eqs. 21–24): local gradients, when they are applied, and by which optimiser.

An optimiser acts on one tensor at a time and keeps its memory in `slots` tensors of the same shape; learning rates
may differ between ensemble members. A new optimiser is one class and one line in `OPTIMIZERS`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gle.errors import share_of
from gle.network import Network
from gle.operators import euler_fraction, low_pass, prospective, rate_of_change
from gle.showing import shown
from gle.state import Local, Theta, Thetas, changed
from gle.synapses import Linear
from gle.wiring import TIME_CONSTANTS, Part, Wiring

LEARNABLE = ("W", "b", *TIME_CONSTANTS)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What learning is reckoned in: float32, or float64 for parameters in float64. In half precision Adam's ε is zero
    and its count of steps ends early, and means move by less than they can resolve."""
    return torch.promote_types(dtype, torch.float32)


class Groups(NamedTuple):
    """Neurons of a layer with the same time constants, group by group."""

    members: Tensor  # [groups, size], indices of neurons; the last one again where a group is smaller than the largest
    place: Tensor  # [n], where in `members`, flattened, each neuron stands


class Trace(NamedTuple):
    """What the synapses of a layer see through their filters; shapes as `Local.e` and `Local.pre`."""

    e: Any = None  # None where the layer is not plastic
    pre: Any = None  # of eligibility traces, one for each group of neurons: [depth, *ensemble, groups, batch, n_in] …
    low: Any = None  # … with the low-passed rates behind them …
    groups: Any = None  # … and the groups


def chain(net: Wiring) -> Network:
    """Synaptic filters and means are kept by layer. Raises ValueError for any other wiring."""
    if not isinstance(net, Network):
        raise ValueError(f"traces and centred are for a chain of layers (gle.Network), not for a {type(net).__name__}")
    return net


def gradients(
    net: Wiring,
    theta: Thetas,
    local: Sequence[Local],
    learn: Sequence[str],
    batch: int,
    traces: Sequence[Trace] | None = None,
) -> Thetas:
    """∂E/∂θ of every part, averaged over the batch (Eqs. 21–24); None for what is frozen or not in `learn`.

    Rows of `local` beyond the batch are further steps, over which gradients are summed. traces: what W and b see in
    place of e and r, where their synapses filter.
    """
    seen: Sequence[Trace | None] = traces or (None,) * len(local)
    return tuple(
        layer_gradients(part, p, l, learn, batch, trace)
        for part, p, l, trace in zip(net.parts, theta, local, seen, strict=True)
    )


def layer_gradients(
    part: Part, p: Theta, local: Local, learn: Sequence[str], batch: int, trace: Trace | None = None
) -> Theta:
    """The same of one part; with or without an axis of depth."""
    kinds = part.moved(learn)
    if not kinds:
        return Theta()
    e, pre = (local.e, local.pre) if trace is None else (trace.e, trace.pre)
    W: Any = None
    b: Any = None
    if "W" in kinds or ("B" in kinds and part.synapse.feedback.follows == "W"):
        W = part.synapse.gradient(e, pre) if trace is None or trace.groups is None else _eligible(part, trace)
    if "b" in kinds:  # of neurons whose synapses are parts of their own, each its own
        b = -e.sum(-2) if pre is None else part.synapse.bias_gradient(e, p.b)
    tau_m = tau_r = None
    if "tau_m" in kinds or "tau_r" in kinds:
        u_dot = rate_of_change(local.u, local.current, p.tau_m.unsqueeze(-2))
        tau_m = (local.e * u_dot).sum(-2) / batch if "tau_m" in kinds else None  # Eq. 23
        tau_r = -(local.e_inst * u_dot).sum(-2) / batch if "tau_r" in kinds else None  # Eq. 24
    W = W / batch if "W" in kinds else None
    B = _feedback_gradient(part, p, local, W, batch) if "B" in kinds else None
    return Theta(W, None if b is None else b / batch, tau_m, tau_r, B)


def _eligible(part: Part, trace: Trace) -> Tensor:
    """∂E/∂W of a layer in which each group of neurons has a trace of its own."""
    members, place = trace.groups
    e = trace.e.index_select(-1, members.flatten()).unflatten(-1, members.shape)  # [..., batch, groups, size]
    rows = part.synapse.gradient(e.movedim(-2, -3), trace.pre)  # [..., groups, size, n_in]
    return rows.flatten(-3, -2).index_select(-2, place)


def _feedback_gradient(part: Part, p: Theta, local: Local, W: Tensor | None, batch: int) -> Tensor:
    """Of feedback weights that follow W, or the noise below; without any below, in the input, they stay."""
    if part.synapse.feedback.follows == "W":
        return part.synapse.feedback.gradient(W, p.B)
    if local.noise is None or local.above is None:
        return torch.zeros_like(p.B)
    return part.synapse.feedback.gradient(part.synapse.gradient(local.above, local.noise) / batch, p.B)


class Optimizer(Protocol):
    """lr: broadcasts to p; step: the number of this update, a tensor counting from one."""

    slots: int

    def update(self, p: Tensor, g: Tensor, slots: tuple, lr: Tensor, step: Tensor) -> tuple[Tensor, tuple]:
        """The parameter after the update by its gradient g, and what the optimiser keeps of it: tensors like p, as many
        as `slots`."""


class SGD:
    """p ← p − lr·g, with optional (heavy-ball) momentum: m ← μ m + g, p ← p − lr·m."""

    def __init__(self, momentum: float = 0.0):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        self.momentum = momentum
        self.slots = 1 if momentum else 0

    def __repr__(self) -> str:
        return shown(self, "momentum")

    def update(self, p: Tensor, g: Tensor, slots: tuple, lr: Tensor, step: Tensor) -> tuple[Tensor, tuple]:
        if self.momentum:
            g = self.momentum * slots[0] + g
            slots = (g,)
        return p - lr * g, slots


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1), with PyTorch's default parameters.

    weight_decay: decoupled (Loshchilov & Hutter 2019): p ← (1 − lr·decay) p before each update, a leak that is local to
    the synapse. It applies to every kind of parameter that learns.
    """

    slots = 2

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0):
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must lie in [0, 1), two of them, got {betas}")
        if not 0 <= eps < math.inf:
            raise ValueError(f"eps must be ≥ 0, got {eps}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay must be ≥ 0, got {weight_decay}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def __repr__(self) -> str:
        return shown(self, "betas", "eps", "weight_decay")

    def update(self, p: Tensor, g: Tensor, slots: tuple, lr: Tensor, step: Tensor) -> tuple[Tensor, tuple]:
        m, v = slots
        if self.weight_decay:
            p = p * (1 - lr * self.weight_decay)
        beta1, beta2 = self.betas
        m = m + (1 - beta1) * (g - m)
        v = v + (1 - beta2) * (g * g - v)
        scaled = lr / (1 - beta1**step)
        denominator = v.sqrt() * (1 - beta2**step).rsqrt() + self.eps
        return p - scaled * m / denominator, (m, v)


OPTIMIZERS: dict[str, type] = {"sgd": SGD, "adam": Adam}


class TorchOptimizer:
    """Hands the gradients to any optimiser of torch.optim, which holds the learning rates (those of `Plasticity` are
    not used) and changes the module's parameters in place. Eager only. Its memory has the parameters' dtype, which in
    half precision makes an Adam of it that fails."""

    slots = 0

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def __repr__(self) -> str:
        return f"TorchOptimizer({type(self.optimizer).__name__})"

    def check(self, net: Wiring, learn: Sequence[str]) -> None:
        """Raises ValueError unless the optimiser holds every parameter that is to learn."""
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for i, layer in enumerate(net.parts):
            for kind in layer.learned(learn):
                if id(getattr(layer, kind)) not in held:
                    raise ValueError(
                        f"the optimiser does not hold {kind} of {net.part_name(i)}: give it network.parameters()"
                    )

    def held(self, net: Wiring) -> list[list[str]]:
        """The names of the parameters in each of the optimiser's groups; of those beside the network, their shapes."""
        names = {id(p): name for name, p in net.named_parameters()}
        return [[names.get(id(p), str(list(p.shape))) for p in g["params"]] for g in self.optimizer.param_groups]

    def load_state_dict(self, saved: dict) -> None:
        """The optimiser's own. Raises ValueError where it does not fit; the optimiser is then as it was."""
        own = self.optimizer.state_dict()
        try:
            groups = list(zip(own["param_groups"], saved["param_groups"], strict=True))
            if not all(
                a["params"] == b["params"] and (a.keys() <= b.keys() or b.keys() <= a.keys()) for a, b in groups
            ):
                raise ValueError("its groups have other parameters or other options")
            before = copy.deepcopy(own)
            try:
                self.optimizer.load_state_dict(copy.deepcopy(saved))  # which would share its tensors
            except Exception:
                self.optimizer.load_state_dict(before)
                raise
        except Exception as error:
            raise ValueError(f"the saved optimizer is none of this simulation's {self.kind}: {error}") from error

    @property
    def kind(self) -> str:
        return f"torch.optim.{type(self.optimizer).__name__}"

    def apply(self, net: Wiring, grads: Thetas) -> Thetas:
        # its memory must be of use outside a caller's inference mode, too
        with torch.inference_mode(net.theta()[0].tau_m.is_inference()):
            self.optimizer.zero_grad(set_to_none=True)  # what does not learn here must not move
            net.assign_grads(grads)
            self.optimizer.step()
        return net.theta()


def _optimizer(given: Any) -> Optimizer | TorchOptimizer:
    """Raises ValueError for what is none."""
    if isinstance(given, str):
        if given not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {given!r}; choose one of {', '.join(OPTIMIZERS)}")
        return OPTIMIZERS[given]()
    if isinstance(given, torch.optim.Optimizer):
        return TorchOptimizer(given)
    if isinstance(given, TorchOptimizer) or (hasattr(given, "update") and not isinstance(given, type)):
        return given
    raise ValueError(
        f"optimizer must be one of {', '.join(OPTIMIZERS)}, an object like gle.Adam(…), or one of torch.optim like "
        f"torch.optim.Adam(network.parameters(), lr=…); got {given!r}"
    )


class Learning(NamedTuple):
    """What plasticity carries from step to step; learning rates included, so that changing one recompiles nothing."""

    lr: dict[str, Tensor]  # per kind of parameter: a number, or one value per ensemble member
    step: Tensor  # updates so far
    slots: tuple[Thetas, ...]
    pending: Thetas  # gradients since the last update, where updates are rarer than steps
    traces: tuple[Trace, ...] = ()  # where synapses filter what they see
    means: tuple[Any, ...] = ()  # where W sees deviations from it: mean presynaptic rates [depth, *ensemble, 1, n_in]
    groups: tuple[Any, ...] = ()  # of eligibility traces: those of each layer
    slow: tuple[Any, ...] = ()  # where feedback learns from noise: the running means that rates above are taken off


def _groups(layer: Any) -> Groups | None:
    """Of neurons that share their time constants in all levels and members."""
    if not layer.plastic:
        return None
    both = torch.stack([layer.tau_m, layer.tau_r]).detach().flatten(0, -2)
    _, which = both.unique(dim=1, return_inverse=True)
    each = [(which == g).nonzero()[:, 0] for g in range(int(which.max()) + 1)]
    members = torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-1)
    members = torch.where(members < 0, members.amax(1, keepdim=True), members)
    place = torch.cat([g * members.shape[1] + torch.arange(len(m)).to(m) for g, m in enumerate(each)])
    return Groups(members, place[torch.cat(each).argsort()])


def _moved(old: Trace, local: Local, p: Theta, groups: Groups, share: Tensor, dt: float) -> Trace:
    """A step of eligibility traces: each neuron's own D⁺_τr I⁻_τm (Eq. 6) of the presynaptic rate."""
    rate = local.pre.to(old.e).unsqueeze(-3)
    first = groups.members[:, 0]
    tau_m, tau_r = (tau.index_select(-1, first)[..., None, None].to(old.low) for tau in (p.tau_m, p.tau_r))
    low = low_pass(old.low, rate, euler_fraction(dt, tau_m))
    filtered = prospective(old.low, rate, tau_m, tau_r)
    return Trace(local.e.to(old.e), torch.lerp(rate.expand_as(filtered), filtered, share.to(filtered)), low)


LearningRate = float | Sequence[float] | Tensor


class Plasticity:
    """How parameters follow their gradients.

    optimizer: a name, an `Optimizer`, or one of torch.optim (see `TorchOptimizer`). lr: one rate, a rate per ensemble
    member, or a mapping from parameter kinds ("W", "b", "tau_m", "tau_r") to either. learn: the kinds that are plastic.
    every: an update every k steps applies the gradients summed since the last one; 0 turns plasticity off. tau_bounds:
    time constants are kept within these; the lower default is dt, the least that the integrators resolve. traces: W and
    b see error and presynaptic rate through low-pass filters ("synaptic filtering of the plasticity signal", §2.6) with
    the time constants (τ_e, τ_pre), one pair for each layer ℓ or one for all; 0 filters nothing. Their low-pass takes
    off the high frequencies that GLE errors overemphasise; a longer τ_pre makes up for the delay of errors in deep
    networks, or for the filters that instantaneous error neurons leave out. "own" in their place: eligibility traces,
    the presynaptic rate through the postsynaptic neuron's own forward filter (1 + τr s)/(1 + τm s), as forward Euler
    has it, one for each pair of time constants in a layer. With instantaneous errors and propagation, W has the exact
    gradient where the layers above it have no memory; elsewhere they leave out what those add. share: how much of
    eligibility traces W sees, the rest is the rate itself; simulations that differ in it share a compiled step (as
    errors.Blended does). centred: a time
    constant; W then learns from the deviation of each presynaptic rate from its mean over batch and recent time (the
    covariance rule), and b takes up what each ΔW would add to the mean current. For a steady mean, learning comes to
    rest where it does without, at ⟨e⟩ = 0 and ⟨e rᵀ⟩ = 0, but mean rates no longer tie all weights of a neuron together
    on the way there. weight_decay: for W and b, or by kind: p ← (1 − lr·decay) p before each update, a leak that is
    local to the synapse. Feedback weights that learn (`synapses.KolenPollack`) move as W does, with its rate and its
    decay.

    Optimisers, traces and means are reckoned in float32 where the layers are in half precision. The parameters stay in
    it: what an update adds below their resolution is lost.

    Raises ValueError for unknown kinds, missing rates, negative `every`, empty bounds, negative time constants, decays
    that are negative or the torch.optim optimiser's own affair, and for `centred` where W and b do not both learn,
    decay, or are moved by torch.optim.
    """

    def __init__(
        self,
        optimizer: Optimizer | TorchOptimizer | torch.optim.Optimizer | str = "adam",
        lr: LearningRate | Mapping[str, LearningRate] = 1e-3,
        learn: str | Sequence[str] = ("W", "b"),
        every: int = 1,
        tau_bounds: tuple[float | None, float] = (None, math.inf),
        traces: Sequence[tuple[float, float]] | tuple[float, float] | str | None = None,
        centred: float | None = None,
        weight_decay: float | Mapping[str, float] = 0.0,
        share: float = 1.0,
    ):
        optimizer = _optimizer(optimizer)
        learn = (learn,) if isinstance(learn, str) else tuple(dict.fromkeys(learn))
        unknown = [k for k in learn if k not in (*LEARNABLE, "B")]
        if unknown or not learn:
            raise ValueError(f"learn must name some of {', '.join(LEARNABLE)}, B, got {learn}")
        if not isinstance(every, int) or every < 0:
            raise ValueError(f"every must be 0 (off) or a number of steps, got {every}")
        if isinstance(lr, Mapping) and (missing := [k for k in learn if k not in lr]):
            raise ValueError(f"lr has no rate for {', '.join(missing)}")
        lower, upper = tau_bounds
        if not upper > 0 or (lower is not None and not 0 < lower < upper):
            raise ValueError(f"tau_bounds must be 0 < lower < upper, got {tau_bounds}")
        self.optimizer = optimizer
        self.lr = dict(lr) if isinstance(lr, Mapping) else {k: lr for k in learn}
        self.learn, self.every, self.tau_bounds = learn, every, tau_bounds
        self.own = isinstance(traces, str)
        if self.own and traces != "own":
            raise ValueError(f"unknown traces {traces!r}; choose own, or give pairs (tau_e, tau_pre)")
        if self.own and set(TIME_CONSTANTS) & set(learn):
            raise ValueError('traces = "own" is for time constants that rest: leave tau_m and tau_r out of learn')
        self.share = share_of("eligibility traces", share)
        if self.share != 1 and not self.own:
            raise ValueError(f'share = {share:g} is of eligibility traces: give traces = "own", or leave it out')
        pairs = None if isinstance(traces, str) else traces
        self.traces = None if pairs is None else torch.as_tensor(pairs, dtype=torch.float64)
        if self.traces is not None and (self.traces.ndim not in (1, 2) or self.traces.shape[-1] != 2):
            raise ValueError(f"traces must be a pair (tau_e, tau_pre) or one pair per layer, got {traces}")
        if self.traces is not None and not bool(((self.traces >= 0) & self.traces.isfinite()).all()):
            raise ValueError(f"time constants of traces must be ≥ 0 and finite, got {traces}")
        if centred is not None and not 0 < centred < math.inf:
            raise ValueError(f"centred must be a positive time constant, or None for no centring; got {centred}")
        if centred is not None and (not {"W", "b"} <= set(learn) or isinstance(optimizer, TorchOptimizer)):
            raise ValueError("centred needs W and b among learn, and an optimiser of gle.plasticity: b follows each ΔW")
        decay = dict(weight_decay) if isinstance(weight_decay, Mapping) else {k: weight_decay for k in ("W", "b")}
        if unknown := [k for k in decay if k not in LEARNABLE]:
            raise ValueError(f"weight_decay names {', '.join(unknown)}; there are {', '.join(LEARNABLE)}")
        if bad := [d for d in decay.values() if not 0 <= d < math.inf]:
            raise ValueError(f"weight_decay must be ≥ 0 and finite, got {bad[0]}")
        self.weight_decay = {k: d for k, d in decay.items() if d}
        if self.weight_decay and isinstance(optimizer, TorchOptimizer):
            raise ValueError("a torch.optim optimiser has a weight_decay of its own: give it there")
        if centred is not None and (self.weight_decay or (isinstance(optimizer, Adam) and optimizer.weight_decay)):
            raise ValueError("centred goes without weight_decay: b would make up for weights that decay")
        self.centred = centred

    def __repr__(self) -> str:
        traces = "own" if self.own else None if self.traces is None else self.traces.tolist()
        return shown(
            self, "optimizer", "lr", "learn", "every", "tau_bounds", traces=traces, centred=self.centred,
            weight_decay=self.weight_decay, share=float(self.share),
        )  # fmt: skip

    def check(self, net: Wiring, dt: float) -> None:
        """Raises ValueError where this plasticity does not suit the network."""
        lower, upper = self.tau_bounds
        for kind in set(TIME_CONSTANTS) & set(self.learn):
            if (lower is not None and lower < dt) or upper < dt:
                raise ValueError(f"tau_bounds {self.tau_bounds} reach below dt = {dt:g}, which no integrator resolves")
            for part in net.parts:
                tau = getattr(part, kind)
                if part.learned((kind,)) and bool(((tau < (lower or dt)) | (tau > upper)).any()):
                    raise ValueError(f"{kind} starts outside tau_bounds {self.tau_bounds}: widen them or change {kind}")
        if self.centred is not None:
            if self.centred < dt * (1 - 1e-6):
                raise ValueError(f"centred = {self.centred:g} is below dt = {dt:g}: it averages over many steps")
            for i, layer in enumerate(chain(net).layers):
                if layer.plastic and layer.b is not None and layer.b.shape[-1] != layer.potentials:
                    raise ValueError(f"centred needs a bias of each neuron, those of layers.{i} share theirs")
                if layer.plastic and layer.b is None:
                    raise ValueError(f"centred needs biases, layers.{i} has none: give it bias=True")
                if layer.learned(("W", "b")) == ("W",):
                    raise ValueError(f"centred needs biases that learn, b of layers.{i} is frozen: freeze its W, too")
        listening = self._listening(net)
        for i, part in enumerate(net.parts):
            if listening[i] and part.B is not None and part.n_out != getattr(part, "potentials", part.n_out):
                raise ValueError(
                    f"the feedback of {net.part_name(i)} learns from rates, one for each potential: give each "
                    "compartment a projection of its own, in a Graph"
                )
            if listening[i] and part.synapse.feedback.tau <= dt * (1 + 1e-6):
                tau = part.synapse.feedback.tau
                raise ValueError(f"tau = {tau:g} of the feedback of {net.part_name(i)} is not above dt = {dt:g}")
        if "B" in self.learn and not any(listening):
            raise ValueError('learn names B, and no feedback learns from noise: gle.Linear("phaseless") does')
        if isinstance(self.optimizer, TorchOptimizer):
            self.optimizer.check(net, self.learn)
            if learning := [i for i, part in enumerate(net.parts) if "B" in part.moved(self.learn)]:
                raise ValueError(
                    f"the feedback of {net.part_name(learning[0])} learns by the optimisers of gle.plasticity alone: "
                    "use one of those"
                )
        if self.own:
            for i, layer in enumerate(chain(net).layers):
                if layer.plastic and type(layer.synapse) is not Linear:
                    raise ValueError(f'traces = "own" is for dense synapses, layers.{i} has {layer.synapse!r}')
        if self.traces is not None:
            chain(net)
            if self.traces.ndim == 2 and len(self.traces) != net.depth:
                raise ValueError(f"traces has {len(self.traces)} pairs, the network {net.depth} layers: give one each")
            between = self.traces[(self.traces > 0) & (self.traces < dt * (1 - 1e-6))]
            if len(between):
                raise ValueError(f"traces holds {between[0]:g}, below dt = {dt:g}: use 0 for no filter, or at least dt")

    def check_groups(self, net: Wiring, learning: Learning | None) -> None:
        """Raises ValueError where other neurons share their time constants than when the traces were made."""
        if not self.own or learning is None:
            return
        for i, (layer, g) in enumerate(zip(chain(net).layers, learning.groups, strict=True)):
            new = _groups(layer)
            if g is not None and new is not None and not torch.equal(g.members, new.members):
                raise ValueError(
                    f"other neurons of layers.{i} share their time constants than when its eligibility traces were "
                    "made: make the Simulation anew"
                )

    def description(self, net: Wiring) -> dict[str, Any]:
        """What a saved `Learning` depends on: it fits no simulation in which any of this differs."""
        own = self.optimizer
        described = {
            "optimizer": own.kind if isinstance(own, TorchOptimizer) else type(own).__name__,
            "slots": own.slots,
            "learned": [sorted(part.moved(self.learn)) for part in net.parts],
            "updates": "rarer than steps" if self.every > 1 else "at every step",
            "traces": "own" if self.own else self.traces is not None,
            "centred": self.centred is not None,
        }
        return {**described, "held": own.held(net)} if isinstance(own, TorchOptimizer) else described

    @property
    def filters(self) -> bool:
        """Whether W and b see other signals than e and r."""
        return self.own or self.traces is not None or self.centred is not None

    def init(self, net: Wiring) -> Learning:
        """The memory of a fresh start."""
        theta = net.theta()
        zeros = self._zeros(net, theta)
        return Learning(
            self.learning_rates(net, self.lr),
            torch.zeros((), dtype=wide(net.dtype), device=net.device),
            tuple(self._zeros(net, theta) for _ in range(self.optimizer.slots)),
            zeros if self.every > 1 else (),
            groups=tuple(_groups(layer) for layer in chain(net).layers) if self.own else (),
            means=()
            if self.centred is None
            else tuple(self._empty(l, 1, l.n_in) if l.plastic else None for l in chain(net).layers),
        )

    def _listening(self, net: Wiring) -> list[bool]:
        """Of each part, whether its feedback learns from noise."""
        return ["B" in part.moved(self.learn) and part.synapse.feedback.follows == "noise" for part in net.parts]

    def needs_noise(self, net: Wiring) -> bool:
        return any(self._listening(net))

    def at_rest(self, net: Wiring, learning: Learning, batch: int) -> Learning:
        """The same with empty traces, for a batch of this size; running means of presynaptic rates go on."""
        if self.needs_noise(net):
            slow = (
                self._empty(part, batch, part.n_out) if hears else None
                for hears, part in zip(self._listening(net), net.parts, strict=True)
            )
            learning = changed(learning, slow=tuple(slow))
        if self.own:
            traces = (
                Trace(self._empty(l, batch, l.potentials), *(self._empty(l, len(g.members), batch, l.n_in),) * 2)
                if g is not None
                else Trace()
                for l, g in zip(chain(net).layers, learning.groups, strict=True)
            )
            return changed(learning, traces=tuple(traces))
        if self.traces is None:
            return learning
        traces = (
            Trace(self._empty(l, batch, l.potentials), self._empty(l, batch, l.n_in)) if l.plastic else Trace()
            for l in chain(net).layers
        )
        return changed(learning, traces=tuple(traces))

    @staticmethod
    def _empty(layer: Any, *rows: Any) -> Tensor:
        return layer.W.new_zeros(layer.depth, *layer.ensemble, *rows, dtype=wide(layer.W.dtype))

    def trace(self, net: Wiring, theta: Thetas, learning: Learning, local: Sequence[Local], dt: float) -> Learning:
        """One step of the synaptic filters and of the running means."""
        if self.own:
            eligible = (
                old if old.e is None else _moved(old, l, p, g, self.share, dt)
                for old, l, p, g in zip(learning.traces, local, theta, learning.groups, strict=True)
            )
            learning = changed(learning, traces=tuple(eligible))
        if self.traces is not None:
            fractions = torch.where(self.traces > 0, euler_fraction(dt, self.traces), 1.0).clamp(max=1.0)
            per_layer = fractions.expand(net.depth, 2).split([layer.depth for layer in net.neurons])
            traces = []
            for old, l, a in zip(learning.traces, local, per_layer, strict=True):
                if old.e is None:
                    traces.append(old)
                    continue
                a_e, a_pre = a.to(old.e).T.reshape(2, -1, *(1,) * (l.e.ndim - 1)).unbind()
                traces.append(Trace(low_pass(old.e, l.e.to(old.e), a_e), low_pass(old.pre, l.pre.to(old.e), a_pre)))
            learning = changed(learning, traces=tuple(traces))
        if self.centred is not None:
            a = euler_fraction(dt, torch.as_tensor(self.centred, dtype=wide(net.dtype), device=net.device))
            seen: Sequence[Trace | Local] = local if self.own else learning.traces or local
            means = (
                None if m is None else low_pass(m, s.pre.mean(-2, keepdim=True).to(m), a)
                for m, s in zip(learning.means, seen, strict=True)
            )
            learning = changed(learning, means=tuple(means))
        if learning.slow:
            slow = (
                None
                if s is None
                else low_pass(s, l.above.to(s), euler_fraction(dt, s.new_tensor(part.synapse.feedback.tau)))
                for part, s, l in zip(net.parts, learning.slow, local, strict=True)
            )
            learning = changed(learning, slow=tuple(slow))
        return learning

    @staticmethod
    def risen(learning: Learning, local: Sequence[Local]) -> Sequence[Local]:
        """The same, with rates above as they deviate from their running means."""
        if not learning.slow:
            return local
        return [
            l if s is None else changed(l, above=l.above - s.to(l.above))
            for s, l in zip(learning.slow, local, strict=True)
        ]

    def seen(self, learning: Learning, local: Sequence[Local]) -> Sequence[Trace] | None:
        """What W and b learn from in place of e and r; None where these are it."""
        if not self.filters:
            return None
        signals: Sequence[Trace | Local] = learning.traces or local
        means = learning.means or (None,) * len(local)
        seen = []
        groups = learning.groups or (None,) * len(local)
        for s, mean, l, g in zip(signals, means, local, groups, strict=True):
            if s.e is None:
                seen.append(Trace())
                continue
            if g is not None:  # the mean rate goes through each of these filters as it is
                each = s.pre if mean is None else s.pre - mean.unsqueeze(-3)
                seen.append(Trace(l.e, each.to(l.pre), groups=g))
                continue
            pre = s.pre if mean is None else s.pre - mean
            seen.append(Trace(s.e.to(l.e), pre.to(l.pre)))
        return seen

    def learning_rates(self, net: Wiring, lr: LearningRate | Mapping[str, LearningRate]) -> dict[str, Tensor]:
        """Learning rates as tensors. Raises ValueError where their shape is neither () nor the ensemble axes."""
        given = lr if isinstance(lr, Mapping) else {k: lr for k in self.learn}
        if missing := [k for k in self.learn if k not in given]:
            raise ValueError(f"lr has no rate for {', '.join(missing)}")
        if unknown := [k for k in given if k not in (*LEARNABLE, "B")]:
            raise ValueError(f"lr names unknown parameters {', '.join(unknown)}; there are {', '.join(LEARNABLE)}, B")
        rates = {}
        for kind in self.learn:
            rate = torch.as_tensor(given[kind], dtype=wide(net.dtype), device=net.device)
            if rate.shape not in ((), net.ensemble):
                raise ValueError(
                    f"lr of {kind} has shape {tuple(rate.shape)}; give a number or one per member {net.ensemble}"
                )
            if not bool(((rate >= 0) & rate.isfinite()).all()):
                raise ValueError(f"lr of {kind} must be ≥ 0 and finite, got {rate.tolist()}")
            rates[kind] = rate.expand(net.ensemble).clone()
        return rates

    def _zeros(self, net: Wiring, theta: Thetas) -> Thetas:
        return tuple(
            Theta(**{k: torch.zeros_like(getattr(p, k), dtype=wide(net.dtype)) for k in part.moved(self.learn)})
            for part, p in zip(net.parts, theta, strict=True)
        )

    def accumulate(self, learning: Learning, grads: Thetas) -> Learning:
        """Adds gradients to those that wait for the next update."""
        added = (
            Theta(*(None if a is None or b is None else a + b for a, b in zip(old, new, strict=True)))
            for old, new in zip(learning.pending, grads, strict=True)
        )
        return changed(learning, pending=tuple(added))

    def apply(
        self, net: Wiring, theta: Thetas, learning: Learning, grads: Thetas, dt: float
    ) -> tuple[Thetas, Learning]:
        """One update (Eq. 5)."""
        if isinstance(self.optimizer, TorchOptimizer):
            moved = self.optimizer.apply(net, grads)
            with torch.no_grad():
                for p, g in zip(moved, grads, strict=True):
                    for k in TIME_CONSTANTS:
                        if getattr(g, k) is not None:
                            getattr(p, k).copy_(self._bounded(k, getattr(p, k), dt))
            return moved, learning
        step = learning.step + 1
        thetas: list[Theta] = []
        slots: list[list[Theta]] = [[] for _ in range(self.optimizer.slots)]
        for i, (p, g) in enumerate(zip(theta, grads, strict=True)):
            new_p = p._asdict()
            new_slots: list[dict[str, Tensor]] = [{} for _ in slots]
            for kind in dict.fromkeys((*self.learn, "B")):
                value, grad = getattr(p, kind), getattr(g, kind)
                if kind == "B" and grad is None and g.W is not None and "B" in net.parts[i].moved(self.learn):
                    grad = net.parts[i].synapse.feedback.gradient(g.W, value)  # the rule knows of no feedback weights
                if grad is None or value is None:
                    continue
                # feedback that follows W does what W does
                own = "W" if kind == "B" and net.parts[i].synapse.feedback.follows == "W" else kind
                lr = learning.lr[own][(...,) + (None,) * (value.ndim - 1 - len(net.ensemble))]
                old = tuple(getattr(s[i], kind) for s in learning.slots)
                kept = value.to(step)
                if decay := self.weight_decay.get(own, 0.0):
                    kept = kept * (1 - lr * decay)
                new, memory = self.optimizer.update(kept, grad.to(step), old, lr, step)
                new_p[kind] = self._bounded(kind, new.to(value), dt)
                for slot_of, m in zip(new_slots, memory, strict=True):
                    slot_of[kind] = m
            if self.centred is not None and learning.means[i] is not None:
                added = chain(net).layers[i].synapse.current((new_p["W"] - p.W).to(step), None, learning.means[i])
                new_p["b"] = new_p["b"] - added.squeeze(-2).to(p.b)  # W moved, the mean current did not
            thetas.append(Theta(**new_p))
            for slot, memories in zip(slots, new_slots, strict=True):
                slot.append(Theta(**memories))
        return tuple(thetas), changed(learning, step=step, slots=tuple(map(tuple, slots)))

    def settle(self, net: Wiring, theta: Thetas, learning: Learning, dt: float) -> tuple[Thetas, Learning]:
        """One update by the gradients that waited."""
        theta, learning = self.apply(net, theta, learning, learning.pending, dt)
        return theta, self.clear(learning)

    def clear(self, learning: Learning) -> Learning:
        """Forgets the gradients that waited."""
        return changed(
            learning,
            pending=tuple(Theta(*(None if t is None else torch.zeros_like(t) for t in g)) for g in learning.pending),
        )

    def _bounded(self, kind: str, value: Tensor, dt: float) -> Tensor:
        if kind not in TIME_CONSTANTS or kind not in self.learn:
            return value
        lower, upper = self.tau_bounds
        return value.clamp(dt if lower is None else lower, upper)
