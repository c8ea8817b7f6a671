"""Pictures, drawn from result files; nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bench.files import write_atomically


def save(figure: plt.Figure, path: Path) -> None:
    write_atomically(path, lambda f: figure.savefig(f, format="png", dpi=150, bbox_inches="tight"))
    plt.close(figure)


def learning_curves(
    results: Sequence[Mapping[str, Any]], published: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Validation accuracy over epochs, mean ± standard deviation over seeds, with the published final accuracies as
    marks at the right edge (Fig. 8d, f)."""
    figure, axes = plt.subplots(figsize=(5, 3.4))
    last = max(len(r["curve"]) for r in results)
    for i, r in enumerate(results):
        curve = np.array(r["curve"])  # [epochs, seeds]
        epochs = np.arange(1, len(curve) + 1)
        mean, std = curve.mean(1), curve.std(1, ddof=1) if curve.shape[1] > 1 else np.zeros(len(curve))
        color = f"C{i}"
        axes.plot(epochs, mean, color=color, label=f"{r['name']} ({r['parameters']:,} parameters)".replace(",", " "))
        axes.fill_between(epochs, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
        if r["name"] in published:  # one mark for each published row, in the colour of its own protocol
            value, spread = published[r["name"]]
            axes.errorbar([last * (1.03 + 0.02 * i)], [value], [spread], color=color, fmt="D", markersize=3, capsize=2)
    axes.set(xlabel="epoch", ylabel="validation accuracy / %", ylim=(0, 100), xlim=(0, last * 1.16))
    axes.set_title("MNIST-1D (diamonds: published)", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(alpha=0.3)
    save(figure, path)


def chain(result: Mapping[str, Any], path: Path) -> None:
    """Weights, time constants and loss over time, and the errors before and after learning (Figs. 5, 14)."""
    figure = plt.figure(figsize=(10, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2])  # type: ignore[misc]
    axes = left.subplots(3, 2)
    for i, row in enumerate(result["rows"]):
        time = np.array(row["time"])[1:]
        for (name, layer), ax in zip([("w", 0), ("w", 1), ("tau_m", 0), ("tau_m", 1)], axes[:2].flatten(), strict=True):
            ax.plot(time, np.array(row[name])[1:, layer], color=f"C{i}", linewidth=0.8)
            ax.set_title({"w": "w", "tau_m": "τm "}[name] + str(layer), fontsize=9)
        axes[2, 0].plot(time, np.exp(np.log(np.array(row["loss"])[1:]).mean(1)), color=f"C{i}", label=row["row"])
    for (name, layer), ax in zip([("w", 0), ("w", 1), ("tau_m", 0), ("tau_m", 1)], axes[:2].flatten(), strict=True):
        ax.axhline(result["teacher"][name][layer], color="0.3", linestyle=":", linewidth=1)
    for ax in axes.flatten():
        ax.set(xscale="log")
    axes[2, 0].set(yscale="log", xlabel="time", title="loss (geometric mean over students)")
    axes[2, 1].axis("off")
    axes[2, 1].legend(*axes[2, 0].get_legend_handles_labels(), loc="center", fontsize=8)
    shown = [r for r in result["rows"] if r["row"] in ("gle", "instantaneous", "bptt 4")]
    panels = right.subplots(4, 2, sharex=True)
    for column, when in enumerate(("before", "after")):
        signals = result["rows"][0][when]
        time = np.arange(len(signals["target"])) * result["options"]["dt"]
        panels[0, column].plot(time, signals["input"], color="0.6")
        panels[1, column].plot(time, signals["target"], "k:", time, signals["output"], "C3")
        for row in shown:
            color = f"C{result['rows'].index(row)}"
            for layer in (0, 1):
                panels[3 - layer, column].plot(time, row[when]["errors"][layer], color=color, linewidth=0.8)
        panels[0, column].set_title(f"{when} learning", fontsize=9)
        panels[3, column].set_xlabel("time")
    for ax, label in zip(panels[:, 0], ("input", "output, target", "error 2", "error 1"), strict=True):
        ax.set_ylabel(label, fontsize=8)
    save(figure, path)


def small(result: Mapping[str, Any], path: Path) -> None:
    """Signals, phases and amplitudes before and during learning, bottom weights and loss (Fig. 6b–f)."""
    figure, axes = plt.subplots(3, 4, figsize=(13, 8), layout="constrained")
    names, learned = ("instantaneous", "retrospective"), result["rules"]["gle"]
    for row, when in enumerate(("before", "during")):
        s = learned["spectra"][when]
        time = np.arange(len(s["target"])) * result["options"]["dt"]
        axes[row, 0].plot(time, s["input"], color="0.8", linewidth=0.7)
        axes[row, 0].plot(time, s["e"]["output"], "C3", time, s["target"], "k:", linewidth=0.9)
        axes[row, 0].set(title=f"{when} learning: output, target (…), input", xlabel="time")
        for k in range(2):
            axes[row, 1].plot(time, s["e"]["signal"][k], f"C{k}", linewidth=0.7, label=f"e {names[k]}")
            axes[row, 1].plot(
                time, s["lambda"]["signal"][k], f"C{k}", linestyle="--", linewidth=1, label=f"λ {names[k]}"
            )
            for name, style in (("e", "o"), ("lambda", "x")):
                phase, amplitude = (np.array(s[name][what][k]).mean(1) for what in ("phase", "amplitude"))
                axes[row, 2].plot(result["frequencies"], phase, style, color=f"C{k}")
                axes[row, 3].plot(result["frequencies"], amplitude, style, color=f"C{k}")
        axes[row, 1].set(title="bottom errors e, adjoint λ (--)", xlabel="time")
        axes[row, 1].legend(fontsize=6)
        axes[row, 2].set(title="phase against the output error (e: o, λ: x)", xlabel="ω")
        axes[row, 3].set(title="amplitude (e: o, λ: x)", xlabel="ω", yscale="log")
    for name, style in (("gle", "-"), ("adjoint", "--")):
        r = result["rules"][name]
        weights = np.array(r["weights"])
        for k in range(2):
            axes[2, 0].plot(r["time"], weights[:, :, k], style, color=f"C{k}", linewidth=0.7)
            axes[2, 0].axhline(result["teacher"][k], color="0.3", linestyle=":")
        axes[2, 1].semilogy(r["time"], np.array(r["loss"]).mean(1), style, color="C2", label=name)
    axes[2, 0].set(title="bottom weights (GLE —, adjoint --)", xlabel="time")
    axes[2, 1].set(title="loss, mean over students", xlabel="time")
    axes[2, 1].legend(fontsize=7)
    axes[2, 2].axis("off")
    axes[2, 3].axis("off")
    save(figure, path)


def gradient_map(result: Mapping[str, Any], path: Path) -> None:
    """Heat maps of the cosine with the exact gradient: rules × (ωτm, τm/τr; all hidden weights, bottom weights)."""
    o, depths = result["options"], list(result["depth"])
    names, n = list(result["depth"][depths[0]]), len(result["options"]["omega_tau"])
    figure, axes = plt.subplots(len(names), 4, figsize=(13, 2.6 * len(names)), layout="constrained", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for column, ((label, values, first), what) in enumerate(
            (m, what) for what in ("all", "bottom") for m in (("ωτm", o["omega_tau"], 0), ("τm/τr", o["ratios"], n))
        ):
            cosines = np.array(
                [np.mean(result["depth"][d][name][what], 1)[first : first + len(values)] for d in depths]
            )
            ax = row[column]
            image = ax.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu", origin="lower", aspect="auto")
            for (i, j), c in np.ndenumerate(cosines):
                ax.text(j, i, f"{c:.2f}", ha="center", va="center", fontsize=6)
            ax.set_xticks(range(len(values)), [f"{v:g}" for v in values])
            ax.set_yticks(range(len(depths)), depths)
            ax.set(xlabel=label, title=f"{name}: {'all hidden weights' if what == 'all' else 'bottom weights'}")
            ax.title.set_fontsize(8)
        row[0].set_ylabel("hidden layers")
    figure.colorbar(image, ax=axes, shrink=0.4, label="cosine with the exact gradient")
    save(figure, path)


def gradient_steps(result: Mapping[str, Any], path: Path) -> None:
    """The cosine over dt for each integrator, and over the coupling."""
    o = result["options"]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, rule in zip(axes, ("gle", "instantaneous"), strict=False):
        for i, (scheme, by_dt) in enumerate(result["step"].items()):
            cosines = np.array([by_dt[str(d)][rule]["all"][0] for d in o["dts"]])  # [dt, seeds]
            ax.errorbar(
                o["dts"], cosines.mean(1), cosines.std(1, ddof=1), fmt="o-", color=f"C{i}", label=scheme, capsize=2
            )
        ax.set(xscale="log", xlabel="dt", title=f"{rule}, {o['depth']} hidden layers", ylim=(-1, 1.05))
    axes[0].set_ylabel("cosine with the exact gradient")
    axes[0].legend(fontsize=7)
    cosines = np.array(result["coupling"]["gle"]["all"]).reshape(len(o["gammas"]), len(o["betas"]), -1)
    for j, beta in enumerate(o["betas"]):
        mean, std = cosines[:, j].mean(-1), cosines[:, j].std(-1, ddof=1)
        axes[2].errorbar(range(len(o["gammas"])), mean, std, fmt="o-", label=f"β = {beta:g}", capsize=2)
    axes[2].set_xticks(range(len(o["gammas"])), [f"{g:g}" for g in o["gammas"]])
    axes[2].set(xlabel="γ", title="gle", ylim=(-1, 1.05))
    axes[2].legend(fontsize=7)
    save(figure, path)


def credit(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy and alignment over epochs; memory and time over N and T."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for i, r in enumerate(result["training"]):
        accuracy = np.array(r["accuracy"])  # [epochs, seeds]
        aligned = np.array(r["alignment"]).mean(-1)  # [epochs, layers]
        epochs = np.arange(len(accuracy))
        spread = accuracy.std(1, ddof=1) if accuracy.shape[1] > 1 else None
        axes[0, 0].errorbar(epochs, accuracy.mean(1), spread, color=f"C{i}", label=r["row"], capsize=2)
        axes[0, 1].plot(epochs, aligned[:, 0], color=f"C{i}")
        axes[0, 2].plot(epochs, aligned.mean(1), color=f"C{i}")
    axes[0, 0].set(xlabel="epoch", ylabel="validation accuracy / %")
    axes[0, 0].legend(fontsize=7)
    for ax, which in ((axes[0, 1], "bottom layer"), (axes[0, 2], "mean over layers")):
        ax.set(xlabel="epoch", ylabel="cosine with the exact gradient", title=which, ylim=(-1.05, 1.05))
    panels = (("N", "bytes", axes[1, 0]), ("T", "bytes", axes[1, 1]), ("N", "ms", axes[1, 2]))
    for over, what, ax in panels:
        for i, (name, found) in enumerate(result["growth"][over].items()):
            ax.loglog(found["at"], [c[what] for c in found["cost"]], "o-", color=f"C{i}", label=name)
        ax.set(xlabel=over, ylabel="peak memory / bytes" if what == "bytes" else "ms a step")
    axes[1, 0].legend(fontsize=7)
    save(figure, path)
