"""One-line sabotages, each of which a named test must catch: `python tests/sabotage.py` runs them all.

Every sabotage is applied to a copy of the tree, where the named test must then fail (untouched, it passes in the
suite itself).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from warm import RAN, Change, Warm, run_cold

ROOT = Path(__file__).parents[1]
FAILED = RAN + 1  # tests ran and failed; anything else is an accident, not a catch


class Sabotage(NamedTuple):
    name: str
    file: str
    line: str
    replacement: str
    test: str  # the test that must fail


FILTERS, SCHEME = "tests/theory/test_filters.py", "tests/theory/test_published_scheme.py"
CORE, LOCAL = "tests/contract/test_core.py", "tests/gradients/test_local_gradients.py"
LIBRARY, SAVED = "tests/contract/test_library.py", "tests/contract/test_checkpoints.py"
CHAOS = "tests/bench/test_mackey_glass.py"
GRAPH, RECURRENT = "tests/contract/test_graph.py", "tests/theory/test_recurrent.py"
RATES = "tests/gradients/test_rate_functions.py"
RULES, THEORY, HRM = "tests/gradients/test_rules.py", "tests/theory", "tests/hrm"
COMMANDS, LINE = "tests/commands/test_commands.py", "tests/bench/test_command_line.py"
CONTRACT = "tests/bench/test_contract.py"

EXCHANGE = "tests/contract/test_exchange.py"

SPEECH = "tests/bench/test_speech.py"

SWEEP = "tests/bench/test_sweep.py"

STAGES = "tests/bench/test_learning.py::test_a_stage_learns_by_its_own_errors_and_traces"

SABOTAGES = [
    Sabotage(
        "turned mazes that follow another order than the stored ones",
        "hrm/tasks/maze.py",
        "answer = solve(maze, self.moves)[0]",
        "answer = solve(maze)[0]",
        f"{HRM}/test_maze.py::test_augmentation_of_stored_paths",
    ),
    Sabotage(
        "a curriculum whose weights are not gone on with",
        "bench/puzzles/reasoning.py",
        "own = resized(model, of) if before else model",
        "own = build(o, of, seed)",
        "tests/bench/test_reasoning.py::test_curriculum",
    ),
    Sabotage(
        "leaky integrators in NIR that forget the look ahead",
        "gle/export.py",
        "r=(1 - ratio).reshape(shape)",
        "r=np.ones_like(ratio).reshape(shape)",
        f"{EXCHANGE}::test_a_network_goes_to_nir_and_back[chain]",
    ),
    Sabotage(
        "any φ in NIR",
        "gle/export.py",
        'if part.phi is not ACTIVATIONS["linear"] and type(part.phi) is not Spike:',
        "if False:",
        f"{EXCHANGE}::test_what_is_not_written",
    ),
    Sabotage(
        "combinations that are computed twice",
        "bench/sweep.py",
        "if jobs.done(job.folder) is None]",
        "if job]",
        f"{SWEEP}::test_what_fails_or_is_lost_takes_nothing_with_it",
    ),
    Sabotage(
        "combinations that no check has seen",
        "bench/sweep.py",
        "            reader.benchmark.check(prepared(reader.benchmark, options))",
        "            pass",
        f"{SWEEP}::test_grids_that_are_refused",
    ),
    Sabotage(
        "the largest loss as the best",
        "bench/sweep.py",
        'sign = -1 if result["score"]["larger"] else 1',
        "sign = -1",
        f"{SWEEP}::test_ranks_and_marginal_effects",
    ),
    Sabotage(
        "streams whose weights belong to the next sample",
        "bench/learning/streams.py",
        "torch.where(turned.unsqueeze(-1), new[m, b, since], old[m, b, since])",
        "new[m, b, since]",
        f"{SPEECH}::test_streams_carry_steps_weights_and_variants",
    ),
    Sabotage(
        "lags that look ahead",
        "bench/data/series.py",
        "F.pad(x, (0, 0, lag, 0))[..., : x.shape[-2], :]",
        "F.pad(x, (0, 0, 0, lag))[..., lag:, :]",
        f"{SPEECH}::test_variants_and_lags",
    ),
    Sabotage(
        "a cached array that is not compared",
        "bench/data/cache.py",
        'if _digest(path) == json.loads(info.read_text("utf-8"))["sha256"]:',
        "if path.exists():",
        f"{SPEECH}::test_a_damaged_cache_is_made_anew",
    ),
    Sabotage(
        "recordings that changed and are not read anew",
        "bench/data/speech_commands.py",
        'return f"{clip.path} {status.st_size} {status.st_mtime_ns}"',
        'return f"{clip.path} {status.st_size}"',
        f"{SPEECH}::test_changed_recordings_are_read_anew",
    ),
    Sabotage(
        "speakers split by word",
        "bench/data/speech_commands.py",
        "hashlib.sha1(speaker_of(name).encode())",
        "hashlib.sha1(name.encode())",
        f"{SPEECH}::test_the_hash_says_what_the_published_lists_say",
    ),
    Sabotage(
        "dropout from a generator that nobody keeps",
        "bench/learning/trainers.py",
        "torch.manual_seed(int(torch.randint(2**62, (), generator=dropout)))",
        "torch.seed()",
        f"{SPEECH}::test_baselines_go_on_where_they_stopped[mlp]",
    ),
    Sabotage(
        "instants that all count alike",
        "gle/inputs.py",
        "return v * w.to(v.device)",
        "return v * torch.ones_like(w)",
        "tests/contract/test_series.py::test_weights_count_instants",
    ),
    Sabotage(
        "a readout that does not weigh",
        "bench/learning/trainers.py",
        "named = {r: READOUTS[r](outputs, w).argmax(-1) for r in set(readouts)}",
        "named = {r: READOUTS[r](outputs, torch.ones_like(w)).argmax(-1) for r in set(readouts)}",
        f"{SPEECH}::test_what_counts_little_says_little",
    ),
    Sabotage(
        "a live stream that lags by a frame",
        "bench/learning/listening.py",
        "if k > 1 else frame[None]",
        "if k > 1 else before[None]",
        f"{SPEECH}::test_streaming_is_predicting[1.0]",
    ),
    Sabotage(
        "an interruption that nobody remembers",
        "bench/kit/interruption.py",
        "_Asked.once = True",
        "pass",
        f"{CONTRACT}::test_an_interruption_that_was_swallowed_is_heeded",
    ),
    Sabotage(
        "eligibility traces a step ahead",
        "gle/plasticity.py",
        "filtered = prospective(old.low, rate, tau_m, tau_r)",
        "filtered = prospective(low, rate, tau_m, tau_r)",
        f"{LOCAL}::test_each_neuron_has_an_eligibility_trace_of_its_own",
    ),
    Sabotage(
        "eligibility traces of other neurons",
        "gle/plasticity.py",
        "return rows.flatten(-3, -2).index_select(-2, place)",
        "return rows.flatten(-3, -2)[..., : len(place), :]",
        f"{LOCAL}::test_each_neuron_has_an_eligibility_trace_of_its_own",
    ),
    Sabotage(
        "a stream that begins anew with each segment",
        "hrm/act.py",
        "each = [task.shown(x, y, segment * steps + i) for i in range(steps)]",
        "each = [task.shown(x, y, 0 * segment + i) for i in range(steps)]",
        "tests/hrm/test_stabilisers.py::test_a_segment_goes_on_where_the_last_one_ended[blocks]",
    ),
    Sabotage(
        "the same noise in every segment",
        "hrm/train.py",
        "draws, parts = (slots.drawn - 1).tolist(), (slots.segments + 1).tolist()",
        "draws, parts = (slots.drawn - 1).tolist(), (0 * slots.segments + 1).tolist()",
        "tests/hrm/test_stabilisers.py::test_noise_has_the_size_asked_for[blocks]",
    ),
    Sabotage(
        "damped modules that learn by the share they move",
        "hrm/credit.py",
        "(leaf, z), e = activity, e / self.share",
        "(leaf, z), e = activity, e",
        "tests/hrm/test_stabilisers.py::test_local_errors_of_a_damped_module",
    ),
    Sabotage(
        "answers that depend on who else is asked",
        "hrm/model.py",
        "drawn = np.random.default_rng(draw).standard_normal((1, *shape), dtype=np.float32).repeat(batch, 0)",
        "drawn = np.random.default_rng(draw).standard_normal((batch, *shape), dtype=np.float32)",
        "tests/hrm/test_stabilisers.py::test_every_puzzle_begins_elsewhere[blocks]",
    ),
    Sabotage(
        "a rule's memory that is not saved",
        "gle/resuming.py",
        "if sim.carry.memory is not None:",
        "if False:",
        "tests/contract/test_assigned.py::test_saved_in_the_middle_goes_on[rtrl]",
    ),
    Sabotage(
        "a rule whose gradients are forgotten between updates",
        "gle/engines.py",
        "learning = plasticity.accumulate(learning, grads)",
        "learning = plasticity.accumulate(plasticity.clear(learning), grads)",
        "tests/contract/test_assigned.py::test_rules_that_run_forward_stream_and_record",
    ),
    Sabotage(
        "noise whose size depends on its memory",
        "gle/noise.py",
        "fresh = self.sigma * math.sqrt(1 - kept * kept)",
        "fresh = self.sigma",
        "tests/theory/test_noise.py::test_spectrum",
    ),
    Sabotage(
        "noise that begins anew in each block",
        "gle/simulate.py",
        "steps_of = xs.shape[-2], range(self.step, self.step + n)",
        "steps_of = xs.shape[-2], range(n)",
        "tests/theory/test_noise.py::test_interrupted_is_uninterrupted",
    ),
    Sabotage(
        "feedback that learns by another rate than W",
        "gle/plasticity.py",
        "return part.synapse.feedback.gradient(W, p.B)",
        "return 0.9 * part.synapse.feedback.gradient(W, p.B)",
        "tests/theory/test_feedback.py::test_difference_falls_with_the_decay",
    ),
    Sabotage(
        "errors that come back without control",
        "hrm/credit.py",
        "return e * (most / own.clamp_min(torch.finfo(e.dtype).tiny)).clamp(max=1.0)",
        "return e",
        "tests/hrm/test_local.py::test_gain_control_holds_what_comes_back",
    ),
    Sabotage(
        "errors that come back from one module alone",
        "hrm/credit.py",
        "self._returning(waiting.H + waiting.L, fresh)",
        "self._returning(waiting.H, fresh)",
        f"{HRM}/test_local.py::test_at_a_fixed_point_errors_relax_to_the_implicit_gradient[instantaneous-tau0-0.3]",
    ),
    Sabotage(
        "a Q-head taught the contrary",
        "hrm/credit.py",
        "halt = q_weight * (marked.correct.to(out.q_halt) - out.q_halt.sigmoid())",
        "halt = q_weight * (out.q_halt.sigmoid() - marked.correct.to(out.q_halt))",
        f"{HRM}/test_local.py::test_output_errors_are_the_losses_own[softmax]",
    ),
    Sabotage(
        "updates that wait for the end of the segment",
        "hrm/credit.py",
        'if last or self.plasticity == "step":',
        "if last:",
        f"{HRM}/test_local.py::test_online_is_an_update_a_step",
    ),
    Sabotage(
        "feedback that the optimiser forgets",
        "hrm/train.py",
        "B.copy_(W.detach() + difference)",
        "pass",
        f"{HRM}/test_local.py::test_kolen_pollack_feedback_takes_the_steps_of_the_weights",
    ),
    Sabotage(
        "errors that outlive their puzzle",
        "hrm/train.py",
        "errors = act.select(where, self.credit.at_rest(self.model, len(done)), slots.errors)",
        "errors = slots.errors",
        f"{HRM}/test_local.py::test_memories_inside_are_part_of_the_carry[sizes2]",
    ),
    Sabotage(
        "a rotation that is not undone",
        "hrm/local.py",
        "-sin if back else sin",
        "sin",
        f"{HRM}/test_local.py::test_local_one_step_is_autograd_s[by attention-gle]",
    ),
    Sabotage(
        "a loop that looks at numbers",
        "gle/simulate.py",
        "if self.step // CHECK_EVERY != checked:",
        "if True:",
        "tests/contract/test_engines.py::test_no_number_is_looked_at_while_it_runs[every step]",
    ),
    Sabotage(
        "feedback that listens to another layer's noise",
        "gle/network.py",
        "[*self.presynaptic(torch.zeros_like(x), dynamics.noise.rate)]",
        "[r.roll(1, -1) for r in self.presynaptic(torch.zeros_like(x), dynamics.noise.rate)]",
        "tests/theory/test_feedback.py::test_phaseless_alignment_finds_the_weights[False]",
    ),
    Sabotage(
        "running means that a saved state leaves out",
        "gle/plasticity.py",
        "learning = changed(learning, slow=tuple(slow))\n        return learning",
        "pass\n        return learning",
        "tests/theory/test_feedback.py::test_phaseless_alignment_finds_the_weights[False]",
    ),
    Sabotage(
        "errors that an all-pass filter attenuates",
        "gle/errors.py",
        "return 2 * v - e_inst",
        "return v",
        "tests/theory/test_filters.py::test_all_pass_errors_are_late_and_whole",
    ),
    Sabotage(
        "a refusal that became an answer",
        "gle/rules/base.py",
        "if not isinstance(layer.phi, Activation):",
        "if False:",
        "tests/contract/test_parts.py::test_table_of_rules_and_parts",
    ),
    Sabotage(
        "what comes back through a loop is lost",
        "gle/graph.py",
        "state[self._ends[k][1]].sent[self._slots[k]] if late or given.delay else back.pop(k)",
        "state[self._ends[k][1]].sent[self._slots[k]] * (not given.delay) if late or given.delay else back.pop(k)",
        f"{RECURRENT}::test_settled_errors_are_the_implicit_gradient[relaxing-0.9-2000-delayed]",
    ),
    Sabotage(
        "a graph's rates see the step before where nothing is delayed",
        "gle/graph.py",
        "state[source].r if late or projection.given.delay else outputs[source][0]",
        "state[source].r",
        f"{GRAPH}::test_a_chain_is_the_network",
    ),
    Sabotage(
        "ε left out",
        "gle/graph.py",
        "e = e if given.epsilon == 1 else given.epsilon * e",
        "",
        f"{RECURRENT}::test_cut_errors_are_the_one_step_gradient",
    ),
    Sabotage(
        "a gain control of nothing",
        "gle/graph.py",
        "fresh + limited(recurrent, fresh)",
        "fresh + recurrent",
        f"{RECURRENT}::test_gain_control_bounds_what_comes_back",
    ),
    Sabotage(
        "compartments exchanged",
        "gle/neurons.py",
        "return self.rate_of(*voltage.chunk(2, -1))",
        "return self.rate_of(*voltage.chunk(2, -1)[::-1])",
        f"{RATES}::test_rate_functions_are_those_of_torch",
    ),
    Sabotage(
        "a compartment's error in another's place",
        "gle/graph.py",
        "return potentials[..., target.span(self.projections[k].given.compartment)]",
        "return potentials[..., target.span(None)]",
        f"{RATES}::test_a_block_of_the_hierarchical_model",
    ),
    Sabotage(
        "a norm whose way back forgets its mean",
        "gle/neurons.py",
        "(g - y * (y * g).mean(-1, keepdim=True)) * kept[0]",
        "g * kept[0]",
        f"{RATES}::test_instantaneous_layers_are_backprop",
    ),
    Sabotage(
        "a rate function that nobody compares with its way back",
        "gle/neurons.py",
        "        check_pull(phi)\n    except",
        "        pass\n    except",
        f"{RATES}::test_bad_rate_functions",
    ),
    Sabotage(
        "a mask for currents alone",
        "gle/synapses.py",
        "return W * self.mask.to(W)\n",
        "return W\n",
        f"{RATES}::test_synapses_are_autograd",
    ),
    Sabotage(
        "a limit of the error's gain that limits nothing",
        "gle/errors.py",
        "tau_r=torch.maximum(tau_r, tau_m / self.limit)",
        "tau_r=tau_r",
        f"{RECURRENT}::test_loop_gain_as_dt_falls",
    ),
    Sabotage(
        "relaxing error neurons that do not relax",
        "gle/errors.py",
        "        return v\n",
        "        return e_inst\n",
        f"{RECURRENT}::test_relaxing_errors_are_those_of_a_leaky_integrator",
    ),
    Sabotage(
        "a segment compiled without its device",
        "hrm/train.py",
        "(lambda f: compile(f, self.device))",
        "(lambda f: compile(f))",
        f"{COMMANDS}::test_runs[python -m bench.sudoku]",
    ),
    Sabotage(
        "a documented command that nobody runs",
        "docs/results.md",
        "| `gradients` |",
        "| `gradients --segment 2` |",
        f"{COMMANDS}::test_every_documented_command_is_run",
    ),
    Sabotage(
        "a file wins over the flag before it",
        "bench/kit/cli.py",
        "return [*left[:subcommand], *config, *left[subcommand:]]",
        "return list(arguments)",
        f"{LINE}::test_flags_win_over_files_wherever_they_stand[0]",
    ),
    Sabotage(
        "a hint that no shell takes",
        "bench/kit/cli.py",
        "shlex.quote(str(value))",
        "str(value)",
        f"{LINE}::test_the_hint_can_be_pasted_into_a_shell[mnist1d]",
    ),
    Sabotage(
        "a stream that cannot show a sign ends the run",
        "bench/kit/cli.py",
        'sys.stdout.reconfigure(errors="replace")',
        "pass",
        f"{LINE}::test_a_stream_that_cannot_show_everything[ascii]",
    ),
    Sabotage(
        "results of another layout are read as if they were today's",
        "bench/report.py",
        'if result["layout"] != benchmark.layout:',
        "if not result:",
        f"{CONTRACT}::test_what_cannot_be_reported",
    ),
    Sabotage(
        "options that nobody has looked at",
        "bench/kit/benchmark.py",
        "    benchmark.check(options)\n    if not is_first():",
        "    if not is_first():",
        f"{CONTRACT}::test_a_new_benchmark_gets_everything_else",
    ),
    Sabotage(
        "a resumed run computes everything anew",
        "bench/kit/folder.py",
        "write_text(file, json.dumps(result))\n        heed()",
        "heed()",
        f"{CONTRACT}::test_a_new_benchmark_gets_everything_else",
    ),
    Sabotage(
        "options that were edited in are reported",
        "bench/kit/folder.py",
        "elif was != now:",
        "elif type(was) is not type(now):",
        f"{LINE}::test_every_option_is_as_the_run_began[Chain]",
    ),
    Sabotage(
        "the future scales the series",
        "bench/learning/forecast.py",
        "self.mean, self.std = past.mean(1, keepdim=True), past.std(1, keepdim=True)",
        "self.mean, self.std = sequences.mean(1, keepdim=True), past.std(1, keepdim=True)",
        f"{CHAOS}::test_free_run_sees_nothing_of_the_truth",
    ),
    Sabotage(
        "predictions are read a step early",
        "bench/learning/forecast.py",
        "t = n - self.h  # the step whose prediction is the next point",
        "t = n - self.h - 1",
        f"{CHAOS}::test_free_run_step_by_step",
    ),
    Sabotage(
        "a coarse series is interpolated from its future",
        "bench/data/chaos.py",
        "series.x.repeat_interleave(round(ratio))",
        "series.x.roll(-1).repeat_interleave(round(ratio))",
        f"{CHAOS}::test_hold_is_causal",
    ),
    Sabotage(
        "stretches do not follow each other",
        "bench/learning/forecast.py",
        "z[len(z) - k * steps :].unflatten(0, (k, steps)).movedim(0, -2)",
        "z[len(z) - k * steps :].unflatten(0, (steps, k)).movedim(1, -2)",
        f"{CHAOS}::test_targets_lie_ahead",
    ),
    Sabotage(
        "every stretch begins at rest",
        "bench/learning/forecast.py",
        "        if epoch == 0:\n            self.sim.reset",
        "        if epoch >= 0:\n            self.sim.reset",
        f"{CHAOS}::test_streams_go_on_with_the_next_stretch",
    ),
    Sabotage(
        "half the sMAPE",
        "bench/mackey_glass.py",
        "return 200 * ((predicted - true).abs()",
        "return 100 * ((predicted - true).abs()",
        f"{CHAOS}::test_measures",
    ),
    Sabotage(
        "H reads the L of before",
        "hrm/model.py",
        "self.H(carry.H, self.L.read(L)) if update_H",
        "self.H(carry.H, self.L.read(carry.L)) if update_H",
        f"{HRM}/test_model.py::test_order_of_updates",
    ),
    Sabotage(
        "boxes that lie across",
        "hrm/layers.py",
        "(n // h, h, n // w, w, n)",
        "(n // w, w, n // h, h, n)",
        f"{HRM}/test_units.py::test_units_of_the_task[6]",
    ),
    Sabotage(
        "a Q-head that knows a cell and a digit",
        "hrm/model.py",
        "if c.digits == 1 else z_H.mean(1)",
        "if c.digits == 1 else z_H[:, 0]",
        f"{HRM}/test_units.py::test_a_changed_puzzle_has_the_changed_answer[4-True]",
    ),
    Sabotage(
        "settled rows that are computed on",
        "hrm/act.py",
        "if bool(stops.any()):",
        "if bool(stops.all()):",
        f"{HRM}/test_evaluation.py::test_settled_rows_keep_their_answer",
    ),
    Sabotage(
        "the answer that moves most",
        "hrm/train.py",
        "np.stack([residual.argmin(0)",
        "np.stack([residual.argmax(0)",
        f"{HRM}/test_evaluation.py::test_least_residual_is_taken",
    ),
    Sabotage(
        "a test file's results under another's name",
        "bench/puzzles/reasoning.py",
        "slice(end - sets[name], end)",
        "slice(0, sets[name])",
        "tests/bench/test_puzzle_files.py::test_several_files",
    ),
    Sabotage(
        "a grid read with rows and columns exchanged",
        "hrm/layers.py",
        "unflatten(2, (-1, self.columns))",
        "unflatten(2, (self.columns, -1))",
        f"{HRM}/test_model.py::test_convolution_is_scipy_s",
    ),
    Sabotage(
        "weights that the simulation keeps to itself",
        "gle/simulate.py",
        "if self.plasticity is not None and self.shared is None and self._same(",
        "if self.plasticity is None and self.shared is None and self._same(",
        f"{CORE}::test_the_network_holds_what_was_learned[run]",
    ),
    Sabotage(
        "a saved network that forgets what is frozen",
        "gle/saving.py",
        "    _freeze(layer, frozen)\n",
        "",
        "tests/contract/test_saving.py::test_a_simulation_comes_back",
    ),
    Sabotage(
        "activations are taken as they come",
        "gle/neurons.py",
        "    check(phi)\n",
        "",
        f"{LIBRARY}::test_activations_whose_slope_is_another",
    ),
    Sabotage(
        "an activation that is pickled with its functions",
        "gle/neurons.py",
        "return activation, (self.name,)",
        "return Activation, tuple(self)",
        f"{LIBRARY}::test_networks_are_copied",
    ),
    Sabotage(
        "a copy that runs the original's compiled step",
        "gle/compiling.py",
        "    def __reduce__(self) -> tuple:\n        return compiled, (self.function, self.device)",
        "    def __deepcopy__(self, memo):\n        return self",
        f"{LIBRARY}::test_a_copy_has_settings_of_its_own",
    ),
    Sabotage(
        "a rule that stays in inference mode",
        "gle/rules/base.py",
        "with torch.inference_mode(False), torch.no_grad():",
        "with torch.no_grad():",
        f"{LIBRARY}::test_rules_in_inference_mode",
    ),
    Sabotage(
        "an optimiser's memory in half precision",
        "gle/plasticity.py",
        "return torch.promote_types(dtype, torch.float32)",
        "return dtype",
        f"{LIBRARY}::test_optimisers_in_half_precision",
    ),
    Sabotage(
        "a frozen parameter learns",
        "gle/wiring.py",
        "(k in TIME_CONSTANTS or p.requires_grad)",
        "True",
        f"{LIBRARY}::test_frozen_by_their_flag",
    ),
    Sabotage(
        "a run with the parameters of before",
        "gle/simulate.py",
        "        self.check()\n        if record",
        "        if record",
        f"{LIBRARY}::test_changed_behind_the_simulation",
    ),
    Sabotage(
        "a saved state that learns on",
        "gle/plasticity.py",
        "self.optimizer.load_state_dict(copy.deepcopy(saved))",
        "self.optimizer.load_state_dict(saved)",
        f"{SAVED}::test_a_snapshot",
    ),
    Sabotage(
        "a snapshot that is a view",
        "gle/carry.py",
        "return item.detach().clone()",
        "return item",
        f"{SAVED}::test_a_snapshot",
    ),
    Sabotage(
        "another optimiser's state is loaded",
        "gle/resuming.py",
        'for k, was in there.items() if isinstance(there, dict) else [("description", there)]:',
        "for k, was in ():",
        f"{SAVED}::test_another_plasticity",
    ),
    Sabotage(
        "time constants below dt are loaded",
        "gle/resuming.py",
        "    check_time_constants(sim.network, sim.dynamics.dt, carry.theta)\n",
        "",
        f"{SAVED}::test_damaged_states",
    ),
    Sabotage(
        "the step map is derived in inference mode",
        "hrm/gradients.py",
        "with torch.inference_mode(False), torch.enable_grad():",
        "with torch.enable_grad():",
        f"{HRM}/test_gradients.py::test_spectral_radius_in_its_caller_s_mode",
    ),
    Sabotage(
        "a compiler that fails later ends the run",
        "gle/compiling.py",
        "            except Exception as error:  # a compiler's",
        "            except ZeroDivisionError as error:  # a compiler's",
        "tests/contract/test_bad_input.py::test_compiler_that_stops_working",
    ),
    Sabotage(
        "an unknown compiler is taken for one that does not work",
        "gle/compiling.py",
        "    except ValueError:\n        raise\n",
        "",
        "tests/contract/test_bad_input.py::test_another_compiler",
    ),
    Sabotage(
        "blended errors the wrong way round",
        "gle/errors.py",
        "torch.lerp(e_inst, prospective(v, e_inst, p.tau_r, p.tau_m), self.share.to(e_inst))",
        "torch.lerp(prospective(v, e_inst, p.tau_r, p.tau_m), e_inst, self.share.to(e_inst))",
        STAGES,
    ),
    Sabotage(
        "eligibility traces whose share is left out",
        "gle/plasticity.py",
        "torch.lerp(rate.expand_as(filtered), filtered, share.to(filtered))",
        "filtered",
        STAGES,
    ),
    Sabotage(
        "a step that is compiled again after the first",
        "gle/network.py",
        "return mapped(torch.clone, LayerState(zero, zero, r, zero, sent, kept))",
        "return LayerState(zero, zero, r, zero, sent, kept)",
        f"{CORE}::test_compiled_equals_eager[euler-1-2-own-members4-eager]",
    ),
    Sabotage(
        "a Neumann series without its last term",
        "hrm/gradients.py",
        "for _ in range(self.k - 1):",
        "for _ in range(self.k - 2):",
        f"{HRM}/test_gradients.py::test_terms_of_the_series",
    ),
    Sabotage(
        "a puzzle may halt before its least number of segments",
        "hrm/act.py",
        "done = done | (wants_to_halt(out, halting) & may)",
        "done = done | wants_to_halt(out, halting)",
        f"{HRM}/test_train.py::test_when_a_slot_is_done",
    ),
    Sabotage(
        "a kept state follows training",
        "hrm/train.py",
        't.detach().to("cpu", copy=True)',
        "t.detach()",
        f"{HRM}/test_train.py::test_kept_state_is_a_snapshot",
    ),
    Sabotage(
        "an optimiser goes on with the moments that were kept",
        "hrm/train.py",
        'copy.deepcopy(saved["optimizer"]["state"])',
        'dict(saved["optimizer"]["state"])',
        f"{HRM}/test_train.py::test_kept_state_is_a_snapshot",
    ),
    Sabotage(
        "weights are loaded before the rest is compared",
        "hrm/train.py",
        "            self._compare(saved)\n",
        '            self.model.load_state_dict(saved["model"])\n            self._compare(saved)\n',
        f"{HRM}/test_train.py::test_a_checkpoint_of_another_training",
    ),
    Sabotage(
        "moments of another optimiser",
        "hrm/train.py",
        'if saved["kind"] != self.o.optimizer:',
        "if False:",
        f"{HRM}/test_train.py::test_a_refused_checkpoint_changes_nothing",
    ),
    Sabotage(
        "convolutions over rows that are none",
        "hrm/checks.py",
        "columns is not None and columns != task.width",
        "columns is not None and columns < 1",
        f"{HRM}/test_train.py::test_a_model_of_another_task",
    ),
    Sabotage(
        "symbols are cut off to whole numbers",
        "hrm/tasks/task.py",
        "~(np.isfinite(values) & (values == np.round(values)))",
        "~np.isfinite(values)",
        f"{HRM}/test_train.py::test_symbols_are_whole_numbers",
    ),
    Sabotage(
        "an answer in symbols",
        "hrm/tasks/notation.py",
        "np.maximum(symbols.astype(np.int64) - self.zero, 0)",
        "symbols.astype(np.int64)",
        f"{HRM}/test_weights.py::test_answer_is_that_of_the_model",
    ),
    Sabotage(
        "an answer is valid whatever is in its boxes",
        "hrm/tasks/notation.py",
        "for unit in sudoku.units(self.height))",
        "for unit in sudoku.units(self.height)[: 2 * self.height])",
        f"{HRM}/test_notation.py::test_an_answer_to_a_sudoku",
    ),
    Sabotage(
        "a damaged file of weights is read",
        "hrm/weights.py",
        "broken = parts.testzip()",
        "broken = None",
        f"{HRM}/test_weights.py::test_damaged_files",
    ),
    Sabotage(
        "weights of other sizes are loaded",
        "hrm/weights.py",
        "    fits(model, written)\n    same_tensors",
        "    same_tensors",
        f"{HRM}/test_weights.py::test_files_of_another_version",
    ),
    Sabotage(
        "a training begins where an answer was asked for",
        "bench/kit/benchmark.py",
        "            if flag in given:",
        "            if getattr(options(arguments), flag[2:]):",
        "tests/bench/test_reasoning.py::test_what_cannot_be_solved",
    ),
    Sabotage(
        "views whose answers are not turned back",
        "hrm/tasks/maze.py",
        "turned_back(maze, self.symmetries[which]).ravel()",
        "maze.ravel()",
        f"{HRM}/test_maze.py::test_views_are_turned_back",
    ),
    Sabotage(
        "of several views the answer with most faults",
        "hrm/train.py",
        "first = so_far.argmin(0)",
        "first = so_far.argmax(0)",
        f"{HRM}/test_evaluation.py::test_the_answer_with_fewest_faults_is_taken",
    ),
    Sabotage(
        "a better answer of an earlier segment is forgotten",
        "hrm/train.py",
        "so_far = np.minimum.accumulate(faults, 1)",
        "so_far = faults",
        f"{HRM}/test_evaluation.py::test_the_answer_with_fewest_faults_is_taken",
    ),
    Sabotage(
        "a right answer makes room before it has had its segments",
        "hrm/act.py",
        "        done = done | (right & may)",
        "        done = done | right",
        f"{HRM}/test_train.py::test_when_a_slot_is_done",
    ),
    Sabotage(
        "rows are lost where slots are busy",
        "hrm/train.py",
        'for i in np.flatnonzero(done) if o.refill == "keep" else range(len(done)):',
        "for i in range(len(done)):",
        f"{HRM}/test_train.py::test_refilling_loses_rows_only_where_asked",
    ),
    Sabotage(
        "decay within the gradient's step",
        "hrm/optim.py",
        'torch._foreach_mul_(params, 1 - lr * group["weight_decay"])',
        'torch._foreach_add_(m, params, alpha=group["weight_decay"])',
        f"{HRM}/test_train.py::test_adam_atan2_by_hand",
    ),
    Sabotage(
        "hints that are wrong",
        "hrm/tasks/sudoku.py",
        "x[filled] = y[filled]",
        "x[filled] = y[filled[::-1]]",
        f"{HRM}/test_sudoku.py::test_hints",
    ),
    Sabotage(
        "two hidden singles in a cell are let pass",
        "hrm/tasks/sudoku.py",
        "                if bit & (bit - 1):\n                    raise Contradiction\n",
        "",
        f"{HRM}/test_sudoku.py::test_guesses_are_those_of_the_statement",
    ),
    Sabotage(
        "puzzles of a file are not solved",
        "hrm/tasks/sudoku.py",
        "        if verify:\n",
        "        if not verify:\n",
        f"{HRM}/test_sudoku.py::test_broken_files",
    ),
    Sabotage(
        "wrong answers of a file are learned",
        "hrm/tasks/sudoku.py",
        "wrong = ~is_solution(grids, answers) | (grids > 0).all(1)",
        "wrong = (grids > 0).all(1)",
        f"{HRM}/test_sudoku.py::test_broken_files",
    ),
    Sabotage(
        "any solved grid is a valid answer",
        "hrm/tasks/sudoku.py",
        "return lost + (in_units",
        "return (in_units",
        f"{HRM}/test_sudoku.py::test_valid_answers",
    ),
    Sabotage(
        "the first rows of a file are taken",
        "hrm/tasks/task.py",
        "order = np.random.default_rng([seed, rows]).permutation(rows)",
        "order = np.arange(rows)",
        f"{HRM}/test_sudoku.py::test_rows_are_drawn",
    ),
    Sabotage(
        "validation puzzles that are training puzzles",
        "hrm/tasks/task.py",
        "{*learned, *tested}",
        "{*tested}",
        f"{HRM}/test_maze.py::test_folder_splits_do_not_overlap",
    ),
    Sabotage(
        "training puzzles that are test puzzles",
        "hrm/tasks/task.py",
        '("training", train, learned, set(tested))',
        '("training", train, learned, set())',
        f"{HRM}/test_maze.py::test_folder_splits_do_not_overlap",
    ),
    Sabotage(
        "stored numbers wrap round to symbols",
        "hrm/tasks/maze.py",
        "np.argwhere(~np.isin(grids, symbols))",
        "np.argwhere(~np.isin(grids.astype(np.int8), symbols))",
        f"{HRM}/test_maze.py::test_spoiled_folders",
    ),
    Sabotage(
        "stored paths are believed",
        "hrm/tasks/maze.py",
        "        if not is_shortest(maze, answer):\n",
        "        if False:\n",
        f"{HRM}/test_maze.py::test_spoiled_folders",
    ),
    Sabotage(
        "a detour counts as a shortest path",
        "hrm/tasks/maze.py",
        "return moves if moves == marked.sum() + 1 else",
        "return moves if moves <= marked.sum() + 1 else",
        f"{HRM}/test_maze.py::test_shortest_paths_are_those_of_all_paths",
    ),
    Sabotage(
        "votes on answers that were not turned back",
        "hrm/tasks/arc.py",
        "answer = self.question(split, row).change.back(from_canvas(answers[row], self.height))",
        "answer = from_canvas(answers[row], self.height)",
        f"{HRM}/test_arc.py::test_votes",
    ),
    Sabotage(
        "a task's own demonstrations are leaks",
        "hrm/tasks/arc.py",
        "if owners.get(canonical(pair), set()) <= {place}]",
        "if canonical(pair) not in owners]",
        f"{HRM}/test_arc.py::test_a_task_keeps_its_own_demonstrations",
    ),
    Sabotage(
        "other tasks' test pairs are learned",
        "hrm/tasks/arc.py",
        "if owners.get(canonical(pair), set()) <= {place}]",
        "]",
        f"{HRM}/test_arc.py::test_a_task_keeps_its_own_demonstrations",
    ),
    Sabotage(
        "a drawn grid under another augmentation than its identity's",
        "hrm/tasks/arc.py",
        "self.change(identity).of(pair)), rng), identity",
        "self.change(identity).of(pair)), rng), first",
        f"{HRM}/test_arc.py::test_a_row_is_drawn_under_an_augmentation_of_its_task",
    ),
    Sabotage(
        "symbols wrap round below zero",
        "hrm/tasks/arc.py",
        "canvas.reshape(size, size).astype(np.int16) - BLACK",
        "canvas.reshape(size, size) - BLACK",
        f"{HRM}/test_arc.py::test_answers_in_small_integers",
    ),
    Sabotage(
        "hidden files are taken for tasks",
        "hrm/tasks/arc.py",
        'if not any(name.startswith(".") for name in f.relative_to(folder).parts)]',
        "]",
        f"{HRM}/test_arc.py::test_subfolders_and_hidden_files",
    ),
    Sabotage(
        "unknown outputs are counted",
        "hrm/tasks/arc.py",
        'if split == "asked" and pair.output is not None:',
        'if split == "asked":',
        f"{HRM}/test_arc.py::test_unknown_outputs_are_asked_and_not_counted",
    ),
    Sabotage(
        "the embeddings of all puzzles decay",
        "hrm/optim.py",
        "table[used] = table[used] * (1 - lr * weight_decay) - lr * total.sign()",
        "table.mul_(1 - lr * weight_decay)[used] -= lr * total.sign()",
        f"{HRM}/test_puzzle_embeddings.py::test_only_puzzles_at_hand_move",
    ),
    Sabotage(
        "one gradient of a puzzle that is there twice",
        "hrm/optim.py",
        "total = uses @ grads",
        "total = torch.zeros_like(uses @ grads).index_copy(0, place, grads)",
        f"{HRM}/test_puzzle_embeddings.py::test_sign_sgd_by_hand",
    ),
    Sabotage(
        "each process moves its own puzzles alone",
        "hrm/train.py",
        "sign_sgd(self.table, _gathered(slots.puzzle), _gathered(puzzle.grad),",
        "sign_sgd(self.table, slots.puzzle, puzzle.grad,",
        f"{HRM}/test_puzzle_embeddings.py::test_two_processes_are_one",
    ),
    Sabotage(
        "a second table of embeddings, averaged",
        "hrm/train.py",
        "() if self.table is None else [self.table]",
        "()",
        f"{HRM}/test_puzzle_embeddings.py::test_averaged_weights_share_the_embeddings",
    ),
    Sabotage(
        "time constants exchanged in the error path",
        "gle/errors.py",
        "return prospective(v, e_inst, p.tau_r, p.tau_m)",
        "return prospective(v, e_inst, p.tau_m, p.tau_r)",
        f"{FILTERS}::test_error_filter_is_the_inverse",
    ),
    Sabotage(
        "time constants exchanged in the forward path",
        "gle/dynamics.py",
        "return phi.rate(prospective(u, current, per_neuron(p.tau_m), per_neuron(p.tau_r)))",
        "return phi.rate(prospective(u, current, per_neuron(p.tau_r), per_neuron(p.tau_m)))",
        f"{FILTERS}::test_forward_transfer_function",
    ),
    Sabotage(
        "φ′ dropped",
        "gle/network.py",
        "inst.append(layer.phi.pull(s.kept, s.r, received))",
        "inst.append(received)",
        f"{LOCAL}::test_steady_state_is_backprop",
    ),
    Sabotage(
        "wrong φ′",
        "gle/neurons.py",
        'Activation("softplus", F.softplus, lambda r: -torch.expm1(-r))',
        'Activation("softplus", F.softplus, torch.sigmoid)',
        f"{LOCAL}::test_instantaneous_network_is_backprop",
    ),
    Sabotage(
        "the new u in the rate",
        "gle/network.py",
        '            r, kept = rate(layer.phi, p, s.u, current)\n            r = disturbed(r, dynamics, "rate", i)\n',
        "            r, _ = rate(layer.phi, p, s.u + dynamics.dt / per_neuron(p.tau_m) * (current - s.u), current)\n"
        "            kept = ()\n",
        f"{FILTERS}::test_forward_transfer_function",
    ),
    Sabotage(
        "sign of ΔW flipped",
        "gle/synapses.py",
        "return -torch.matmul(e.mT, r)\n",
        "return torch.matmul(e.mT, r)\n",
        f"{LOCAL}::test_gradients_of_the_energy",
    ),
    Sabotage(
        "sign of Δτm flipped",
        "gle/plasticity.py",
        'tau_m = (local.e * u_dot).sum(-2) / batch if "tau_m" in kinds else None  # Eq. 23',
        'tau_m = -(local.e * u_dot).sum(-2) / batch if "tau_m" in kinds else None  # Eq. 23',
        f"{LOCAL}::test_gradients_of_the_energy",
    ),
    Sabotage(
        "Δτr from the filtered error",
        "gle/plasticity.py",
        "tau_r = -(local.e_inst * u_dot)",
        "tau_r = -(local.e * u_dot)",
        f"{LOCAL}::test_prospective_time_constants",
    ),
    Sabotage(
        "feedback not transposed",
        "gle/synapses.py",
        "return torch.matmul(e, self.feedback.weights(W, B))",
        "return torch.matmul(e, self.feedback.weights(W, B) if W.shape[-1] != W.shape[-2] else W.mT)",
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "gradients summed, not averaged, over the batch",
        "gle/plasticity.py",
        'W = W / batch if "W" in kinds else None',
        'W = W if "W" in kinds else None',
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "the old error in the soma",
        "gle/network.py",
        "current = current + per_member(dynamics.gamma, e) * e",
        "current = current + per_member(dynamics.gamma, e) * s.e",
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "RK4 with the input of the beginning at its midpoint",
        "gle/integrators.py",
        "nodes, weights = (0, 1, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)",
        "nodes, weights = (0, 0, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)",
        "tests/theory/test_convergence.py::test_declared_order",
    ),
    Sabotage(
        "exponential error filter not matched",
        "gle/integrators.py",
        "v = low_pass(v, local.e, a)",
        "v = low_pass(v, local.e_inst, per_neuron(self.fraction(dt, p.tau_r)))",
        f"{FILTERS}::test_error_after_forward_is_the_identity",
    ),
    Sabotage(
        "a delay too few in the scan",
        "gle/scan.py",
        'seen = _delay(s.r, r) if integrator.propagation == "delayed" else r',
        "seen = r",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "errors come down through weights that have learned from them",
        "gle/network.py",
        "inst = self.instantaneous_errors(state, nudge(",
        "state = tuple(s._replace(sent=self.sent(i, p, s.e)) for i, (p, s) in enumerate(zip(theta, state)))\n"
        "        inst = self.instantaneous_errors(state, nudge(",
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "the scan sends nothing to the next block",
        "gle/scan.py",
        "sent_end = above.select(STEPS, -1).clone()",
        "sent_end = s.sent",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "another error filter in the scan",
        "gle/scan.py",
        "integrator.error_fraction(dt, layer.errors, p)",
        "per_neuron(integrator.fraction(dt, p.tau_m))",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "the compiled scan gives states after the steps, not before",
        "gle/operators.py",
        "torch.stack(states[:-1], dim)",
        "torch.stack(states[1:], dim)",
        f"{CORE}::test_compiled_equals_eager[euler-4-4-None-members1-eager]",
    ),
    Sabotage(
        "the scan leaves another error for the next block",
        "gle/scan.py",
        "e_end = error(layer, p, v.select(STEPS, -1), e_inst.select(STEPS, -1))",
        "e_end = e_inst.select(STEPS, -1)",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "v of instantaneous error neurons moves as if they looked ahead",
        "gle/integrators.py",
        "v = low_pass(v, local.e_inst, self.error_fraction(dt, part.errors, p))",
        "v = low_pass(v, local.e, a)",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "synaptic filters exchanged",
        "gle/plasticity.py",
        "traces.append(Trace(low_pass(old.e, l.e.to(old.e), a_e), low_pass(old.pre, l.pre.to(old.e), a_pre)))",
        "traces.append(Trace(low_pass(old.e, l.e.to(old.e), a_pre), low_pass(old.pre, l.pre.to(old.e), a_e)))",
        f"{LOCAL}::test_synaptic_filters",
    ),
    Sabotage(
        "weights learn from rates, not from their deviations",
        "gle/plasticity.py",
        "pre = s.pre if mean is None else s.pre - mean",
        "pre = s.pre",
        f"{LOCAL}::test_centred_plasticity",
    ),
    Sabotage(
        "a bias that follows its weights the wrong way",
        "gle/plasticity.py",
        'new_p["b"] = new_p["b"] - added.squeeze(-2)',
        'new_p["b"] = new_p["b"] + added.squeeze(-2)',
        f"{LOCAL}::test_bias_takes_up_what_weights_add_to_the_mean",
    ),
    Sabotage(
        "instantaneous error neurons that look ahead",
        "gle/errors.py",
        "        return e_inst\n",
        "        return prospective(v, e_inst, p.tau_r, p.tau_m)\n",
        f"{LOCAL}::test_instantaneous_errors_are_backprop_at_every_instant",
    ),
    Sabotage(
        "consolidation from the first weights",
        "bench/learning/trainers.py",
        "self.network.load_theta(start.simulation.carry.theta)",
        "pass",
        "tests/bench/test_mnist1d.py::test_consolidation_goes_on_where_training_ended",
    ),
    Sabotage(
        "a resumed run that repeats its first stage",
        "bench/learning/run.py",
        'place = {"epoch": epoch, "stage": n, "began": began}',
        'place = {"epoch": epoch, "stage": 0, "began": 0}',
        "tests/bench/test_mnist1d.py::test_interrupted_in_either_stage[3]",
    ),
    Sabotage(
        "one learning rate for the whole ensemble",
        "gle/plasticity.py",
        "lr = learning.lr[own][(...,) + (None,) * (value.ndim - 1 - len(net.ensemble))]",
        "lr = learning.lr[own].mean()",
        f"{CORE}::test_ensemble_equals_loop",
    ),
    Sabotage(
        "Adam without its bias correction",
        "gle/plasticity.py",
        "scaled = lr / (1 - beta1**step)",
        "scaled = lr",
        f"{CORE}::test_optimisers_equal_torch",
    ),
    Sabotage(
        "feedback alignment with the transpose",
        "gle/synapses.py",
        "assert B is not None\n        return B",
        "return W",
        f"{LOCAL}::test_feedback_alignment_uses_its_own_weights",
    ),
    Sabotage(
        "the adjoint's boundary without α",
        "gle/rules/adjoint.py",
        "start = alpha * flipped[0]",
        "start = flipped[0]",
        f"{RULES}::test_matched_adjoint_is_bptt[euler instant]",
    ),
    Sabotage(
        "the adjoint blind to the delay",
        "gle/rules/adjoint.py",
        "above = torch.cat([above[1:], torch.zeros_like(above[:1])])",
        "pass",
        f"{RULES}::test_matched_adjoint_is_bptt[euler]",
    ),
    Sabotage(
        "the adjoint through the feedback weights",
        "gle/rules/adjoint.py",
        "backproject(q.W, q.W, lambdas[0])",
        "backproject(q.W, q.B, lambdas[0])",
        f"{RULES}::test_credit_needs_no_feedback_weights_to_be_exact",
    ),
    Sabotage(
        "BPTT with a window too long",
        "gle/rules/bptt.py",
        "window = self.window or self.stride or total",
        "window = min(total, (self.window or self.stride or total) + 1)",
        f"{RULES}::test_windows_are_stretches",
    ),
    Sabotage(
        "BPTT that looks back beyond its window",
        "gle/rules/bptt.py",
        "starts[t + 1] = mapped(torch.detach, step.state)",
        "starts[t + 1] = step.state",
        f"{RULES}::test_windows_are_stretches",
    ),
    Sabotage(
        "RTRL with the influence of another step",
        "gle/rules/rtrl.py",
        "seen = forward.output(before if forward.delayed else influence)",
        "seen = forward.output(influence)",
        f"{RULES}::test_bptt_and_rtrl_are_finite_differences[exponential]",
    ),
    Sabotage(
        "the nudged network's influence through u and r alone",
        "gle/rules/influence.py",
        'self.fields = ("u", "r") if is_zero(problem.dynamics.gamma) else ("u", "v", "r", "e", "sent")',
        'self.fields = ("u", "r")',
        f"{RULES}::test_references_follow_the_nudged_network",
    ),
    Sabotage(
        "sign of u̇ in RFLO",
        "gle/rules/rflo.py",
        '"tau_m": -u_dot}',
        '"tau_m": u_dot}',
        f"{RULES}::test_rflo_is_exact_for_one_layer[euler]",
    ),
    Sabotage(
        "RFLO with the membrane's trace for the output's",
        "gle/rules/rflo.py",
        "output[kind] = prospective(old, x, tau_m, tau_r)",
        "output[kind] = old",
        f"{RULES}::test_rflo_is_exact_for_one_layer[euler]",
    ),
    Sabotage(
        "RFLO with the trace of another step",
        "gle/rules/rflo.py",
        "seen = traces[n].output if delayed else new[n].output",
        "seen = new[n].output",
        f"{RULES}::test_rflo_is_exact_for_one_layer[euler]",
    ),
    Sabotage(
        "ρ₀ and ρ₁ exchanged in UORO",
        "gle/rules/uoro.py",
        "s = tuple(rho0.unsqueeze(-1) * f + rho1.unsqueeze(-1) * n",
        "s = tuple(rho1.unsqueeze(-1) * f + rho0.unsqueeze(-1) * n",
        f"{RULES}::test_uoro_is_unbiased[euler]",
    ),
    Sabotage(
        "φ′ dropped in instantaneous errors",
        "gle/rules/instantaneous.py",
        "errors.insert(0, net.layers[i].phi.pull((), p.seen, above))",
        "errors.insert(0, above)",
        f"{RULES}::test_instantaneous_limit_is_backprop[instantaneous]",
    ),
    Sabotage(
        "only the last step's gradient",
        "gle/rules/gle.py",
        "grads = here if grads is None else added(grads, here)",
        "grads = here",
        f"{RULES}::test_gle_is_the_simulations_own_plasticity",
    ),
    Sabotage(
        "a teacher that goes on after the end",
        "gle/inputs.py",
        "x = torch.where(own, torch.nan, x)",
        "pass",
        "tests/contract/test_series.py::test_no_teacher_after_the_end_with_the_squared_error",
    ),
    Sabotage(
        "errors that linger after the end",
        "gle/simulate.py",
        'for k in ("v", "e", "sent")})',
        'for k in ("e",)})',
        "tests/contract/test_series.py::test_a_padded_batch_teaches_what_its_samples_teach_alone",
    ),
    Sabotage(
        "padding moves the state",
        "gle/predicting.py",
        "done = (ends <= began).unsqueeze(-1)  # [batch, 1]",
        "done = (ends < 0).unsqueeze(-1)",
        "tests/contract/test_series.py::test_a_sample_in_a_padded_batch_is_the_sample_alone",
    ),
    Sabotage(
        "nudges without β",
        "gle/dynamics.py",
        "return per_member(dynamics.beta, r_top, behind) * error",
        "return error",
        f"{RULES}::test_matched_adjoint_is_bptt[euler]",
    ),
    Sabotage(
        "rates exchanged in the swept trajectory",
        "gle/rules/trajectory.py",
        "(f.pre, f.current, f.u, f.rates, f.seen)",
        "(f.pre, f.current, f.u, f.seen, f.rates)",
        f"{RULES}::test_trajectory_without_the_scan",
    ),
    Sabotage(
        "rates exchanged in the stepped trajectory",
        "gle/rules/trajectory.py",
        "kept.append((step.local, [s.r for s in step.state], step.rates))",
        "kept.append((step.local, step.rates, [s.r for s in step.state]))",
        f"{RULES}::test_trajectory_without_the_scan",
    ),
    Sabotage(
        "ratio of norms inverted",
        "gle/analysis/alignment.py",
        "ratio = norms[0] / norms[1] * (sizes[0] / sizes[1]).squeeze(-1)",
        "ratio = norms[1] / norms[0] * (sizes[1] / sizes[0]).squeeze(-1)",
        f"{THEORY}/test_alignment.py::test_known_angles",
    ),
    Sabotage(
        "signs that differ",
        "gle/analysis/alignment.py",
        "(a.sign() == b.sign())",
        "(a.sign() != b.sign())",
        f"{THEORY}/test_alignment.py::test_known_angles",
    ),
    Sabotage(
        "α dropped in the state-space model",
        "gle/analysis/state_space.py",
        "D=W * alpha.unsqueeze(-1)",
        "D=W",
        f"{THEORY}/test_state_space.py::test_transfer_function_is_that_of_the_neurons",
    ),
    Sabotage(
        "y observed after the step",
        "gle/analysis/state_space.py",
        "        states.append(u)\n        u = u @ step.A.mT + drive\n",
        "        u = u @ step.A.mT + drive\n        states.append(u)\n",
        f"{THEORY}/test_state_space.py::test_discretised_and_run_as_scipy_does[euler]",
    ),
    Sabotage(
        "the matrix exponential to first order",
        "gle/analysis/state_space.py",
        "torch.linalg.matrix_exp(dt * held)",
        "torch.eye(len(held)).to(A) + dt * held",
        f"{THEORY}/test_state_space.py::test_discretised_and_run_as_scipy_does[exponential]",
    ),
    Sabotage(
        "u-adaptation that follows the input",
        "gle/adaptation.py",
        "return self._state_space(self.gamma, 0.0)",
        "return self._state_space(0.0, self.gamma)",
        f"{THEORY}/test_adaptation.py::test_simulation[euler-u]",
    ),
    Sabotage(
        "γ in the wrong place of Eq. 35",
        "gle/adaptation.py",
        "return d_w / (d_w * d_m + self.gamma)",
        "return d_w / (d_w * (d_m + self.gamma))",
        f"{THEORY}/test_adaptation.py::test_transfer_function[u]",
    ),
    Sabotage(
        "the conjugate gain, by sines",
        "gle/analysis/spectra.py",
        "gain[i] = (a - 1j * b)",
        "gain[i] = (a + 1j * b)",
        f"{THEORY}/test_spectra.py::test_estimators[by_sines]",
    ),
    Sabotage(
        "the conjugate gain, by chirp",
        "gle/analysis/spectra.py",
        "return response / signal",
        "return response.conj() / signal.conj()",
        f"{THEORY}/test_spectra.py::test_estimators[by_chirp]",
    ),
    Sabotage(
        "a system run backwards, its response left so",
        "gle/analysis/spectra.py",
        "return system(lambda t: signal(end - t), steps).flip(0)",
        "return system(lambda t: signal(end - t), steps)",
        f"{THEORY}/test_spectra.py::test_reversed_in_time[by_sines]",
    ),
    Sabotage(
        "lags reversed",
        "gle/analysis/receptive_fields.py",
        "torch.fft.rfft(x, dim=0).mH @",
        "torch.fft.rfft(x, dim=0).mT @",
        f"{THEORY}/test_receptive_fields.py::test_reverse_correlation_of_a_linear_network",
    ),
    Sabotage(
        "the way to rest in the pulse's response",
        "gle/analysis/receptive_fields.py",
        "(r[:, :-1] - r[:, -1:]) / size",
        "r[:, :-1] / size",
        f"{THEORY}/test_receptive_fields.py::test_impulse_response_at_rest[0.7]",
    ),
    Sabotage(
        "a delay below the first layer",
        "gle/analysis/receptive_fields.py",
        "moment + (dt * gain if l else 0)",
        "moment + dt * gain",
        f"{THEORY}/test_receptive_fields.py::test_low_frequency_delay",
    ),
]


class Copy:
    """Of the tree, without what commands made: sabotaged and mended again, for one test after the other."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.tree = Path(self.folder.name) / "tree"
        for part in ("gle", "hrm", "bench", "tests", "configs", "docs"):
            shutil.copytree(ROOT / part, self.tree / part, ignore=shutil.ignore_patterns("results"))
        for file in ("pyproject.toml", "README.md", "Makefile"):
            shutil.copy2(ROOT / file, self.tree)
        self.warm = Warm(self.tree, {sabotage.test.partition("::")[0] for sabotage in SABOTAGES})

    def caught(self, sabotage: Sabotage) -> tuple[bool, str]:
        """Whether the named test fails on the sabotaged tree; raises ValueError where the line is not there exactly
        once."""
        path = self.tree / sabotage.file
        text = path.read_text()
        if text.count(sabotage.line) != 1:
            raise ValueError(
                f"{sabotage.name}: {sabotage.line!r} stands {text.count(sabotage.line)} times in {sabotage.file}"
            )
        path.write_text(text.replace(sabotage.line, sabotage.replacement))
        try:
            found = self.warm.run(sabotage.test, Change(path, text))
            if found is None or found[0] != FAILED:  # what an import has made of the line, only an import can remake
                found = run_cold(self.tree, sabotage.test)
        finally:
            shutil.copy2(ROOT / sabotage.file, path)  # with its time, by which Python knows what it compiled of it
        code, output = found
        return code == FAILED, output[-4000:]

    def passes(self, test: str) -> tuple[bool, str]:
        """Whether a test passes on the tree as it is."""
        code, output = self.warm.run(test) or (None, "")
        return code == RAN, output[-4000:]

    def close(self) -> None:
        self.warm.close()
        self.folder.cleanup()


def main() -> None:
    missed = 0
    own = threading.local()
    copies: list[Copy] = []

    def begin() -> None:
        own.copy = Copy()
        copies.append(own.copy)

    def caught(sabotage: Sabotage) -> tuple[bool, str]:
        return own.copy.caught(sabotage)

    def passes(test: str) -> tuple[bool, str]:
        return own.copy.passes(test)

    try:
        with ThreadPoolExecutor(os.cpu_count(), initializer=begin) as pool:
            for sabotage, (ok, _) in zip(SABOTAGES, pool.map(caught, SABOTAGES)):
                missed += not ok
                print(f"{'caught' if ok else 'MISSED'}: {sabotage.name} ({sabotage.test})", flush=True)
            tests = sorted({sabotage.test for sabotage in SABOTAGES})
            for test, (ok, output) in zip(tests, pool.map(passes, tests)):
                missed += not ok
                if not ok:
                    print(f"FAILS UNSABOTAGED: {test}\n{output}", flush=True)
    finally:
        for copy in copies:
            copy.close()
    print(f"{len(SABOTAGES)} sabotages, {missed} missed; {len(tests)} tests that pass without")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
